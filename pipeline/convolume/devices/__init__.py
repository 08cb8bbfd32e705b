"""Devices compute valid correlations; one file or folder a device, its ``.cl`` templates beside it.

A member module offers ``available() -> tuple[DeviceInfo, ...]`` (empty where its runtime is absent, never an
error), ``open_device(info) -> Device`` and ``worker_environment(info, threads) -> dict[str, str]``: the
variables that a worker process needs *before* it starts. It may offer ``measured_speed_gflops(info) -> float`` and
``tune(info, tell) -> tuple[VariantRecord, ...]``, which times shapes of its programs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from convolume.devices._held import Array, HeldVoxels, Voxels
from convolume.devices._method_speeds import USUAL_SPEEDS, method_speeds, remembered_speeds
from convolume.devices._pass import Pass
from convolume.layouts import host_threads
from convolume.numerics import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from convolume.records import DeviceInfo, MethodSpeeds
    from convolume.stencil import Stencil

__all__ = ["Device", "HeldVoxels", "Pass", "Voxels"]

# While somebody waits for trials.
_LOOK_EVERY_S = 0.05


class Device(ABC):
    """Something that computes the valid correlation of a padded block.

    A device knows no filters, no boundaries and no files. It is used by one process, from any of its threads.
    """

    info: DeviceInfo
    turn: Lock
    """Held while a block is worked on by those who want the device's memory to themselves."""

    def __new__(cls, *_arguments: Any, **_named: Any) -> Self:
        """Return a device whose turn nobody has."""
        device = super().__new__(cls)
        device.turn = Lock()
        return device

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
            Shape ``stencil.halo.inner(padded.shape)``, writable, any strides. Its dtype is float32, float64 or one
            that this device `rounds` to for ``single`` and ``double``; any real dtype for ``scipy``.
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

    def rounds(self, dtype: np.dtype[Any]) -> bool:
        """Say whether this device writes sums of ``single`` and ``double`` as `cast_result` saturates them."""
        del dtype
        return False

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
            As of `correlate`; what passes between two steps has its dtype, and is rounded once, at the end. Held where
            `voxels` are.
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

    def correlate_by_transform(
        self,
        read: Callable[[tuple[slice, ...]], npt.NDArray[Any]],
        stencil: Stencil,
        out: npt.NDArray[Any],
        precision: Precision,
    ) -> None:
        """Write what `correlate` writes, by the Fourier transform; on the host, where a device does not know better.

        Parameters
        ----------
        read : callable
            Returns a part of the padded input, given as slices in its coordinates; what it returned may change when
            the same thread calls it again. It may be called from several threads.
        stencil : Stencil
            As many axes as `out`.
        out : numpy.ndarray
            As of `correlate`, float32 or float64.
        precision : Precision
            ``single`` transforms in float32, ``double`` in float64.

        Notes
        -----
        A voxel lies within 4·ε·log2(2N)·‖weights‖·‖padded‖ of the exact sum (2-norms of the tile, N points of its
        transform; Higham, *Accuracy and Stability of Numerical Algorithms*, 24.1). Its last bits depend on the tile
        that it is in. NaN and infinities reach the voxels that weigh them and no more, as in `correlate`.
        """
        # scipy.fft takes a fifth of a second to load: not before something is transformed.
        from convolume.devices._sweeps import correlate_by_transform  # noqa: PLC0415

        dtype = np.float32 if precision is Precision.SINGLE else np.float64
        correlate_by_transform(read, stencil, out, dtype, self.transform_threads)

    @property
    def transform_threads(self) -> int:
        """Threads of the host that transforms take: a worker process has its share of the machine."""
        most = host_threads()
        return min(self.info.compute_units, most) if self.info.kind == "cpu" else most

    @property
    def has_compiled(self) -> bool:
        """Whether what this device compiles with is in the memory of this process; True where nothing is compiled."""
        return True

    @property
    def speeds(self) -> MethodSpeeds:
        """What the methods take here, measured in about a second when a device is first asked after its trials.

        Until then figures of most processors serve, unless it was measured before.
        """
        return self._own_speeds if self.is_tried else self.known_speeds or USUAL_SPEEDS

    @cached_property
    def _own_speeds(self) -> MethodSpeeds:
        return method_speeds(self)

    @property
    def known_speeds(self) -> MethodSpeeds | None:
        """The same, where it was measured before; nothing is measured now."""
        return remembered_speeds(self)

    @property
    def is_tried(self) -> bool:
        """Say whether it is known which programs serve here: nothing is timed before."""
        return True

    def wait_for_trials(self) -> None:
        """Return when it is known which programs serve here, some seconds after a device was first met."""
        while not self.is_tried:
            sleep(_LOOK_EVERY_S)

    def prepared(self) -> Device:
        """Return this device, ready to make a program for every stencil at once, as it does where that pays."""
        return self

    def prepares(self, stencils: Sequence[Stencil], voxels: int) -> bool:
        """Say whether so many voxels of output are reason enough for a program that is made for these passes."""
        del stencils, voxels
        return False
