"""scipy.ndimage's linear filters under their own names, on the device: change one import and keep the numbers.

NumPy arrays give NumPy arrays, dask arrays give dask arrays. Signatures, defaults and dtypes are scipy's. Integer
results are scipy's to the digit; float32 is summed in float32, everything else in float64.
"""

from __future__ import annotations

import logging
import operator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.boundary import BoundaryMode
from convolume.devices._selection import choose_device, open_device
from convolume.errors import InputError, did_you_mean
from convolume.execution.in_memory import filter_array
from convolume.numerics import Precision
from convolume.operations import Correlate
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dask.array as da

    from convolume.records import DeviceInfo

    MakeStencil = Callable[[npt.ArrayLike, int | Sequence[int]], Stencil]
    Output = npt.NDArray[Any] | npt.DTypeLike | None

__all__ = ["convolve", "correlate"]

Array = npt.NDArray[Any]

# scipy leaves out weights that are not larger than this (DBL_EPSILON of C).
_SMALLEST_WEIGHT = np.finfo(np.float64).eps

_DTYPES = frozenset(
    [
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *("bool", "float32", "float64", "complex64", "complex128"),
    ]
)

_logger = logging.getLogger("convolume")


def convolve(
    input: npt.ArrayLike | da.Array,  # noqa: A002 - scipy's name
    weights: npt.ArrayLike,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: int | Sequence[int] | None = None,
) -> Any:
    """Convolve an image with a kernel, as `scipy.ndimage.convolve` does.

    Parameters
    ----------
    input : array_like or dask.array.Array
        The image, of any number of axes; bool, integers, float32, float64, complex64 or complex128.
    weights : array_like
        The kernel, one axis for each of `axes`.
    output : numpy.ndarray or dtype, optional
        Takes the result, or names its dtype; `input`'s where nothing is given.
    mode : str
        One of scipy.ndimage's boundary modes, see `convolume.boundary.BoundaryMode`.
    cval : scalar
        The constant of the constant modes.
    origin : int or sequence of int
        Shift of the kernel, one for all axes or one an axis.
    axes : int or sequence of int, optional
        Axes that are filtered; all where nothing is given.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Of the input's shape and kind.

    Raises
    ------
    InputError
        Kernel, origin, mode, axes or output do not fit, or a weight is infinite. It is a `ValueError`.

    Examples
    --------
    >>> convolve(np.array([0, 0, 1, 0, 0, 0]), [1, 2, 3]).tolist()
    [0, 1, 2, 3, 0, 0]
    """
    return _filter(Stencil.convolve, input, np.asarray(weights), output, mode, cval, origin, axes)


def correlate(
    input: npt.ArrayLike | da.Array,  # noqa: A002 - scipy's name
    weights: npt.ArrayLike,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: int | Sequence[int] | None = None,
) -> Any:
    """Correlate an image with a kernel, as `scipy.ndimage.correlate` does.

    Parameters, result and errors are those of `convolve`; the kernel is not flipped.

    Examples
    --------
    >>> correlate(np.array([0, 0, 1, 0, 0, 0]), [1, 2, 3]).tolist()
    [0, 3, 2, 1, 0, 0]
    """
    kernel = np.asarray(weights)
    # As scipy and np.correlate: complex weights are conjugated, never the image.
    kernel = kernel.conj() if kernel.dtype.kind == "c" else kernel
    return _filter(Stencil.correlate, input, kernel, output, mode, cval, origin, axes)


def _filter(
    make: MakeStencil,
    image: Any,
    kernel: Array,
    output: Output,
    mode: str,
    cval: complex,
    origin: int | Sequence[int],
    axes: int | Sequence[int] | None,
) -> Any:
    image = image if _is_dask(image) else np.asarray(image)
    weighing = _Weighing(make, _checked_mode(mode), _checked_axes(axes, image.ndim), image.ndim, origin)
    is_complex = "c" in {image.dtype.kind, kernel.dtype.kind}
    out, dtype = _checked_output(output, image, is_complex=is_complex)
    _check_numbers(image.dtype, dtype, kernel, cval)
    if is_complex:
        result = _filter_parts(weighing, image, kernel, dtype, cval)
    else:
        result = weighing.apply(image, kernel, dtype, float(np.real(cval)), out)
    if out is None or result is out:
        return result
    out[...] = result
    return out


@dataclass(frozen=True)
class _Weighing:
    """How a kernel is laid over an image."""

    make: MakeStencil
    mode: BoundaryMode
    axes: tuple[int, ...]
    ndim: int
    origin: int | Sequence[int]

    def stencil(self, kernel: Array) -> Stencil:
        """Return the kernel made ready for all axes of the image."""
        if kernel.ndim != len(self.axes):
            message = f"the kernel has {kernel.ndim} axes, and {len(self.axes)} axes of the image are filtered"
            raise InputError(message)
        weights = np.where(np.abs(kernel) > _SMALLEST_WEIGHT, kernel, 0) if kernel.dtype.kind == "f" else kernel
        if not self.axes:
            return self.make(weights.reshape(1), 0).on_axes([0], max(self.ndim, 1))
        # scipy lays the kernel over the axes in the image's order, and gives each origin to the axis named beside it.
        places = sorted(self.axes)
        origin = self.origin
        if np.ndim(origin) and len(self.axes) < self.ndim and len(np.atleast_1d(origin)) == len(self.axes):
            origin = [np.asarray(origin)[self.axes.index(axis)] for axis in places]
        return self.make(weights, origin).on_axes(places, self.ndim)

    def apply(self, image: Any, kernel: Array, dtype: np.dtype[Any], cval: float, out: Array | None = None) -> Any:
        """Filter a real image with a real kernel."""
        stencil = self.stencil(kernel)
        operation = Correlate(stencil, (self.mode,) * stencil.ndim, cval)
        # A single number is a line of one voxel.
        voxels = image if image.ndim else image.reshape(1)
        if 0 in image.shape:
            return image.astype(dtype)
        if _is_dask(image):
            return _filter_dask(voxels, operation, dtype).reshape(image.shape)
        precision = _precision(image.dtype, dtype)
        usable = out is not None and out.ndim > 0 and not np.may_share_memory(image, out)
        result = filter_array(
            voxels, operation, open_device(_device(precision)), precision, dtype, out if usable else None
        )
        return result.reshape(image.shape) if image.ndim == 0 else result


def _filter_parts(weighing: _Weighing, image: Any, kernel: Array, dtype: np.dtype[Any], cval: complex) -> Any:
    """Filter real and imaginary parts one by one, as scipy does."""
    part = np.dtype(np.float32 if dtype == np.complex64 else np.float64)

    def weigh(voxels: Any, weights: Array, constant: float) -> Any:
        return weighing.apply(voxels, weights, part, constant)

    real, imaginary = weigh(image.real, kernel.real, np.real(cval)), []
    if kernel.dtype.kind == "c":
        imaginary.append(weigh(image.real, kernel.imag, np.real(cval)))
    if image.dtype.kind == "c":
        imaginary.append(weigh(image.imag, kernel.real, np.imag(cval)))
        if kernel.dtype.kind == "c":
            real = real - weigh(image.imag, kernel.imag, np.imag(cval))
    return _joined(real, reduce(operator.add, imaginary), dtype)


def _joined(real: Any, imaginary: Any, dtype: np.dtype[Any]) -> Any:
    """Return complex numbers; arithmetic with 1j would make NaN of infinite parts."""
    if _is_dask(real):
        return real.map_blocks(_joined, imaginary, dtype, dtype=dtype, meta=np.empty((0,) * real.ndim, dtype))
    result = np.empty(real.shape, dtype)
    result.real, result.imag = real, imaginary
    return result


def _filter_dask(image: da.Array, operation: Correlate, dtype: np.dtype[Any]) -> da.Array:
    from convolume.execution.overlap import filter_lazily  # noqa: PLC0415 - dask is loaded for its own arrays only
    from convolume.execution.task import BlockJob, Target  # noqa: PLC0415

    if np.isnan(image.shape).any():
        message = f"the dask array's shape {image.shape} is not known: call `compute_chunk_sizes()` on it first"
        raise InputError(message)
    precision = _precision(image.dtype, dtype)
    target = Target("correlate", operation, dtype.name)
    return filter_lazily(image, BlockJob(image.shape, (target,), precision, dtype.name, _device(precision)))[0]


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


def _checked_mode(mode: str) -> BoundaryMode:
    try:
        return BoundaryMode(mode)
    except ValueError:
        known = [str(name) for name in BoundaryMode]
        message = f"there is no boundary mode {mode!r}{did_you_mean(str(mode), known)} (there are: {', '.join(known)})"
        raise InputError(message) from None


def _checked_axes(axes: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    if axes is None:
        return tuple(range(ndim))
    named = tuple(operator.index(axis) for axis in (axes if np.iterable(axes) else (axes,)))
    if any(not -ndim <= axis < ndim for axis in named) or len({axis % ndim for axis in named}) < len(named):
        message = f"axes {list(named)}: each is one of the image's {ndim} axes, and none comes twice"
        raise InputError(message)
    return tuple(axis % ndim for axis in named)


def _checked_output(output: Output, image: Any, *, is_complex: bool) -> tuple[Array | None, np.dtype[Any]]:
    """Return the array that takes the result, if there is one, and the result's dtype."""
    if output is None or isinstance(output, (type, np.dtype)):
        # As scipy: the image's dtype in this machine's byte order, and complex where the result is.
        dtype = image.dtype.newbyteorder("=") if output is None else np.dtype(output)
        return None, np.promote_types(dtype, np.complex64) if is_complex else dtype
    if isinstance(output, str):
        dtype = np.dtype(output)
        if dtype.kind not in "iufc":
            message = f"output {output!r} is no numeric dtype"
            raise InputError(message)
        return None, dtype
    out = np.asarray(output)
    _check_output_array(out, image)
    return out, out.dtype


def _check_output_array(out: Array, image: Any) -> None:
    if _is_dask(image):
        message = "a dask array is filtered lazily: `output` may name a dtype, not an array"
        raise InputError(message)
    if out.shape != image.shape:
        message = f"output has shape {out.shape}, and the image has {image.shape}"
        raise InputError(message)
    if not out.flags.writeable:
        message = "output is read-only: give an array that can take the result"
        raise InputError(message)


def _check_numbers(source: np.dtype[Any], target: np.dtype[Any], kernel: Array, cval: complex) -> None:
    """Refuse what scipy refuses: numbers that it does not know, and complex values without a place."""
    for dtype in (source, target):
        if dtype.name not in _DTYPES:
            message = f"dtype {dtype} is not filtered, here as in scipy.ndimage: use float32, float64 or integers"
            raise InputError(message)
    is_complex = "c" in {source.kind, kernel.dtype.kind}
    if is_complex and target.kind != "c":
        message = f"a complex result does not fit into an output of {target}"
        raise InputError(message)
    if np.iscomplexobj(cval) and source.kind != "c":
        message = "a complex cval stands for complex images only"
        raise InputError(message)


def _is_dask(image: Any) -> bool:
    return type(image).__module__.startswith("dask.array")
