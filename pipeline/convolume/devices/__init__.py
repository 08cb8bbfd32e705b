"""Devices compute valid correlations; one file or folder a device, its ``.cl`` templates beside it.

A member module offers ``available() -> tuple[DeviceInfo, ...]`` (empty where its runtime is absent, never an
error), ``open_device(info) -> Device`` and ``worker_environment(info, threads) -> dict[str, str]``: the
variables that a worker process needs *before* it starts. It may offer ``measured_speed_gflops(info) -> float`` and
``tune(info, tell) -> tuple[VariantRecord, ...]``, which times shapes of its programs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from convolume.numerics import Precision
    from convolume.records import DeviceInfo
    from convolume.stencil import Stencil

__all__ = ["AxisPass", "Device"]


@dataclass(frozen=True, slots=True)
class AxisPass:
    """One of several correlations along one axis each, filled before its own pass.

    Parameters
    ----------
    axis : int
        Axis of the voxels, not negative.
    weights : numpy.ndarray
        Float64, in the order of `Stencil.weights`.
    places : numpy.ndarray
        Where each voxel that the pass reads on its axis stands in the array, `OUTSIDE` where the constant stands: as
        many as there are outputs on this axis, and ``len(weights) - 1``.
    cval : float
        The constant.
    """

    axis: int
    weights: npt.NDArray[np.float64]
    places: npt.NDArray[np.intp]
    cval: float


class Device(ABC):
    """Something that computes the valid correlation of a padded block.

    A device knows no filters, no boundaries and no files. It is used by one process, from any of its threads.
    """

    info: DeviceInfo

    @abstractmethod
    def correlate(
        self,
        padded: npt.NDArray[Any],
        stencil: Stencil,
        out: npt.NDArray[Any],
        precision: Precision,
    ) -> None:
        """Write ``out[i] = Σ_k weights[k] · padded[i + k]`` for every voxel of `out`.

        Parameters
        ----------
        padded : numpy.ndarray
            Input with its halo, any real dtype, any number of axes, any strides (a view into a larger array
            is the usual case); never written.
        stencil : Stencil
            As many axes as `padded`.
        out : numpy.ndarray
            Shape ``stencil.halo.inner(padded.shape)``, writable, any strides. Its dtype is float32 or float64
            for ``single`` and ``double``; any real dtype for ``scipy``.
        precision : Precision
            ``single`` sums in float32 (asked only where `padded` fits float32 exactly), ``double``
            and ``scipy`` in float64.

        Raises
        ------
        DeviceError
            The program could not be compiled or launched, or memory was refused; names the
            device, the sizes and what to do.

        Notes
        -----
        Taps are summed in the order of `Stencil.taps`, from zero, then `Stencil.pairs`, and the sum is divided by
        `Stencil.divisor`, so that the bits of a voxel depend neither on the block nor on its place. Zero weights never
        contribute: NaN stays where real taps put it.
        """

    def correlate_axes(
        self, voxels: npt.NDArray[Any], passes: Sequence[AxisPass], out: npt.NDArray[Any], precision: Precision
    ) -> bool:
        """Do several passes in one, where the device knows how, to the bits of one `correlate` after the other.

        Parameters
        ----------
        voxels : numpy.ndarray
            As `padded` of `correlate`, without a halo: the extent of an axis that has a pass is any.
        passes : sequence of AxisPass
            In the order in which they are done, each axis once.
        out : numpy.ndarray
            As of `correlate`; what passes between two steps has its dtype.
        precision : Precision
            How sums are kept.

        Returns
        -------
        bool
            Whether it was done. Otherwise `out` may hold anything, and the caller goes pass by pass.
        """
        del voxels, passes, out, precision
        return False
