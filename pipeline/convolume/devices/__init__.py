"""Devices compute valid correlations; one file or folder a device, its ``.cl`` templates beside it.

A member module offers ``available() -> tuple[DeviceInfo, ...]`` (empty where its runtime is absent, never an
error), ``open_device(info) -> Device`` and ``worker_environment(info, threads) -> dict[str, str]``: the
variables that a worker process needs *before* it starts. It may offer ``measured_speed_gflops(info) -> float`` and
``tune(info, tell) -> tuple[VariantRecord, ...]``, which times shapes of its programs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.numerics import Precision
    from convolume.operations import Arithmetic
    from convolume.records import DeviceInfo
    from convolume.stencil import Stencil

__all__ = ["Device", "HeldVoxels", "Pass", "Voxels"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Pass:
    """One correlation, with where what it reads stands: faces are filled by looking a place up, not by copies.

    Parameters
    ----------
    stencil : Stencil
        As many axes as the voxels.
    places : tuple of numpy.ndarray
        For each axis, where each voxel that the pass reads stands in the array, `OUTSIDE` where the constant stands: as
        many as there are outputs on this axis, and ``extent - 1`` of the stencil.
    cval : float
        The constant.
    """

    stencil: Stencil
    places: tuple[npt.NDArray[np.intp], ...]
    cval: float

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of what the pass gives."""
        return tuple(len(axis) - extent + 1 for axis, extent in zip(self.places, self.stencil.shape, strict=True))


class HeldVoxels(ABC):
    """Voxels in a device's own memory, or a box of them: what is done with them stays there until they are fetched.

    They are used by the thread that made them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels."""
        return prod(self.shape) * self.dtype.itemsize

    @abstractmethod
    def __getitem__(self, box: tuple[slice, ...]) -> Self:
        """Return a box of the voxels, one slice with steps of 1 for each axis, as a view."""

    @abstractmethod
    def __setitem__(self, box: tuple[slice, ...], voxels: Any) -> None:
        """Copy voxels of the same device to a box of these, cast as C does."""

    @abstractmethod
    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self:
        """Return new voxels beside these, with anything in them."""

    @abstractmethod
    def joined(self, arithmetic: Arithmetic, others: Sequence[Any], dtype: np.dtype[Any]) -> Self:
        """Return the arithmetic of these and others of the same shape, done in a floating-point dtype."""

    @abstractmethod
    def fetch(self, out: Array | None = None) -> Array:
        """Return the voxels in the host's memory, in `out` where it is given."""


Voxels = Array | HeldVoxels


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

    def hold(self, voxels: Array, dtype: np.dtype[Any]) -> Voxels:
        """Return voxels for a chain of steps that gives `dtype`: in the device's own memory, or as they are.

        A device that has no memory of its own, or cannot do all steps of such a chain there, takes them as they are.
        """
        del dtype
        return voxels

    def correlate_passes(self, voxels: Voxels, passes: Sequence[Pass], out: Voxels, precision: Precision) -> bool:
        """Fill and weigh in one go, where the device knows how, to the bits of `correlate` on filled copies.

        Parameters
        ----------
        voxels : numpy.ndarray or HeldVoxels
            As `padded` of `correlate`, without a halo of its own: the passes say where voxels stand.
        passes : sequence of Pass
            One, or several over one axis each, no axis twice; each reads what the pass before it gave.
        out : numpy.ndarray or HeldVoxels
            As of `correlate`; what passes between two steps has its dtype. Held where `voxels` are.
        precision : Precision
            How sums are kept.

        Returns
        -------
        bool
            Whether it was done; with held voxels it always is. Otherwise `out` may hold anything, and the caller fills
            copies and goes pass by pass.
        """
        del voxels, passes, out, precision
        return False
