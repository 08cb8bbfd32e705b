"""Operations on images of every kind: NumPy and dask arrays, complex ones part by part, numbers without axes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.arrays import new_array
from convolume.devices._selection import choose_device, open_device
from convolume.errors import InputError
from convolume.execution.in_memory import filter_array
from convolume.layouts import copy_voxels
from convolume.ndimage._arguments import is_dask
from convolume.numerics import Precision
from convolume.operations import Correlate, Operation, Sequence
from convolume.planning.method import settled
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Iterable

    import dask.array as da

    from convolume.boundary import BoundaryMode
    from convolume.ndimage._arguments import Call
    from convolume.records import DeviceInfo

__all__ = ["Line", "Terms", "Weighing", "joined", "part_dtype", "passes"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms an operation is made: its constant, and whether it sums in scipy's order, for integer results."""

    cval: float
    exact: bool


Build = Callable[[Terms], Operation]

_logger = logging.getLogger("convolume")


@dataclass(frozen=True)
class Weighing:
    """A filter that is linear: its name, and what makes its operation."""

    name: str
    build: Build

    def apply(self, call: Call) -> Any:
        """Return the filtered image, real and imaginary parts one by one."""
        if call.dtype.kind != "c":
            return call.deliver(self.apply_to_real(call.image, call.dtype, float(np.real(call.cval)), call.out))
        part = part_dtype(call.dtype)
        real = self.apply_to_real(call.image.real, part, float(np.real(call.cval)))
        imaginary = self.apply_to_real(call.image.imag, part, float(np.imag(call.cval)))
        return call.deliver(joined(real, imaginary, call.dtype))

    def apply_to_real(self, image: Any, dtype: np.dtype[Any], cval: float, out: Array | None = None) -> Any:
        """Return a filtered real image."""
        precision = _precision(image.dtype, dtype)
        operation = self.build(Terms(cval, exact=precision is Precision.SCIPY))
        if 0 in image.shape or operation == Sequence():
            with np.errstate(all="ignore"):
                return image.astype(dtype)
        _check_shape(image.shape)
        device = open_device(_device(precision))
        operation, _ = settled(operation, image.shape, device, precision)
        # A single number is a line of one voxel.
        voxels = image if image.ndim else image.reshape(1)
        if is_dask(image):
            return self._apply_lazily(voxels, operation, dtype, precision, device.info).reshape(image.shape)
        usable = out is not None and out.ndim > 0 and not np.may_share_memory(image, out)
        result = filter_array(voxels, operation, device, precision, dtype, out if usable else None)
        return result.reshape(image.shape) if image.ndim == 0 else result

    def _apply_lazily(
        self, image: da.Array, operation: Operation, dtype: np.dtype[Any], precision: Precision, device: DeviceInfo
    ) -> da.Array:
        # dask is loaded for its own arrays only.
        from convolume.execution.overlap import filter_lazily  # noqa: PLC0415
        from convolume.execution.task import BlockJob, Target  # noqa: PLC0415

        target = Target(self.name, operation, dtype.name)
        return filter_lazily(image, BlockJob(image.shape, (target,), precision, dtype.name, device))


@dataclass(frozen=True)
class Line:
    """One pass over one axis: weights in the order of ``scipy.ndimage.correlate1d``, divided by `divisor`."""

    axis: int
    weights: npt.ArrayLike
    mode: BoundaryMode
    origin: int = 0
    divisor: int = 1

    def operation(self, ndim: int, terms: Terms) -> Correlate:
        """Return the pass over an image of so many axes."""
        if terms.exact:
            stencil = Stencil.line(self.weights, self.origin, self.divisor)
        else:
            stencil = Stencil.correlate(np.asarray(self.weights) / self.divisor, self.origin)
        return Correlate(stencil.on_axes((self.axis,), ndim), (self.mode,) * ndim, terms.cval)


def passes(lines: Iterable[Line], ndim: int, terms: Terms) -> Operation:
    """Return one pass after the other; what lies between is of the result's dtype, as scipy has it."""
    steps = tuple(line.operation(ndim, terms) for line in lines)
    return steps[0] if len(steps) == 1 else Sequence(steps)


def part_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of the parts of complex numbers."""
    return np.dtype(np.float32 if dtype == np.complex64 else np.float64)


def joined(real: Any, imaginary: Any, dtype: np.dtype[Any]) -> Any:
    """Return complex numbers; arithmetic with 1j would make NaN of infinite parts."""
    if is_dask(real):
        return real.map_blocks(joined, imaginary, dtype, dtype=dtype, meta=np.empty((0,) * real.ndim, dtype))
    result = new_array(real.shape, dtype)
    copy_voxels(result.real, real)
    copy_voxels(result.imag, imaginary)
    return result


def _check_shape(shape: tuple[float, ...]) -> None:
    if np.isnan(shape).any():
        message = f"the dask array's shape {shape} is not known: call `compute_chunk_sizes()` on it first"
        raise InputError(message)


def _precision(source: np.dtype[Any], target: np.dtype[Any]) -> Precision:
    """Return how sums are kept: in float32 where both sides are, and as scipy does to the digit for integers."""
    if target.kind != "f":
        return Precision.SCIPY
    narrow = target.name == "float32" and np.can_cast(source, np.float32, casting="safe")
    return Precision.SINGLE if narrow else Precision.DOUBLE


def _device(precision: Precision) -> DeviceInfo:
    info = choose_device().info
    if precision is Precision.SINGLE or info.has_float64:
        return info
    _logger.info("%s has no float64: NumPy filters instead", info.name)
    return choose_device("numpy").info
