"""Filters that take a kernel, of as many axes as are filtered or of one."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.errors import InputError
from convolume.ndimage._arguments import Call, checked_axes, checked_axis, checked_mode
from convolume.ndimage._weighing import Line, Weighing, joined, part_dtype
from convolume.operations import Correlate
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from convolume.boundary import BoundaryMode
    from convolume.ndimage._types import Image, Output

    MakeStencil = Callable[[npt.ArrayLike, int | Sequence[int]], Stencil]
    MakeWeighing = Callable[[npt.NDArray[Any]], Weighing]

__all__ = ["convolve", "convolve1d", "correlate", "correlate1d"]

Array = npt.NDArray[Any]

# scipy's filters of several axes leave out weights that are not larger than this (DBL_EPSILON of C).
_SMALLEST_WEIGHT = np.finfo(np.float64).eps


def convolve(
    input: Image,
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
    return _filter("convolve", Stencil.convolve, input, np.asarray(weights), output, mode, cval, origin, axes)


def correlate(
    input: Image,
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
    return _filter("correlate", Stencil.correlate, input, _conjugated(kernel), output, mode, cval, origin, axes)


def convolve1d(
    input: Image,
    weights: npt.ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
) -> Any:
    """Convolve an image along one axis, as `scipy.ndimage.convolve1d` does.

    Parameters
    ----------
    weights : array_like
        The kernel, of one axis.
    axis : int
        Axis that is filtered.
    input, output, mode, cval, origin
        As for `convolve`.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Of the input's shape and kind.

    Raises
    ------
    InputError
        Kernel, origin, mode, axis or output do not fit, or a weight is infinite. It is a `ValueError`.

    Examples
    --------
    >>> convolve1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3]).tolist()
    [14, 24, 4, 13, 12, 36, 27, 0]
    """
    kernel = np.asarray(weights)
    # The flip moves the centre of an even size by one voxel.
    return _filter_line(
        "convolve1d", input, np.flip(kernel), axis, output, mode, cval, -origin - (kernel.size % 2 == 0)
    )


def correlate1d(
    input: Image,
    weights: npt.ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
) -> Any:
    """Correlate an image along one axis, as `scipy.ndimage.correlate1d` does.

    Parameters, result and errors are those of `convolve1d`; the kernel is not flipped.

    Examples
    --------
    >>> correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3]).tolist()
    [8, 26, 8, 12, 7, 28, 36, 9]
    """
    return _filter_line("correlate1d", input, _conjugated(np.asarray(weights)), axis, output, mode, cval, origin)


def _filter(
    name: str,
    make: MakeStencil,
    image: Image,
    kernel: Array,
    output: Output,
    mode: str,
    cval: complex,
    origin: int | Sequence[int],
    axes: int | Sequence[int] | None,
) -> Any:
    call = Call.checked(image, output, cval, kernel)
    ndim = call.image.ndim
    laid = _Laid(make, checked_mode(mode), checked_axes(axes, ndim), ndim, origin)
    return _weigh(call, kernel, lambda part: Weighing(name, lambda terms: laid.operation(part, terms.cval)))


def _filter_line(
    name: str, image: Image, kernel: Array, axis: int, output: Output, mode: str, cval: complex, origin: int
) -> Any:
    call = Call.checked(image, output, cval, kernel)
    ndim = call.image.ndim
    place, checked = checked_axis(axis, ndim), checked_mode(mode)
    if kernel.ndim != 1:
        message = f"the kernel has {kernel.ndim} axes, and one axis of the image is filtered"
        raise InputError(message)

    def make(part: Array) -> Weighing:
        line = Line(place, part, checked, operator.index(origin))
        return Weighing(name, lambda terms: line.operation(ndim, terms))

    return _weigh(call, kernel, make)


def _conjugated(kernel: Array) -> Array:
    """Return the kernel as scipy and np.correlate take it: complex weights are conjugated, never the image."""
    return kernel.conj() if kernel.dtype.kind == "c" else kernel


@dataclass(frozen=True)
class _Laid:
    """How a kernel is laid over an image."""

    make: MakeStencil
    mode: BoundaryMode
    axes: tuple[int, ...]
    ndim: int
    origin: int | Sequence[int]

    def operation(self, kernel: Array, cval: float) -> Correlate:
        """Return the correlation with a real kernel."""
        stencil = self._stencil(kernel)
        return Correlate(stencil, (self.mode,) * stencil.ndim, cval, "auto")

    def _stencil(self, kernel: Array) -> Stencil:
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


def _weigh(call: Call, kernel: Array, make: MakeWeighing) -> Any:
    """Filter with a kernel; complex images and complex kernels part by part, as scipy does."""
    if kernel.dtype.kind != "c":
        return make(kernel).apply(call)
    image, part = call.image, part_dtype(call.dtype)
    constants = float(np.real(call.cval)), float(np.imag(call.cval))
    weighings = make(kernel.real), make(kernel.imag)
    real = weighings[0].apply_to_real(image.real, part, constants[0])
    imaginary = [weighings[1].apply_to_real(image.real, part, constants[0])]
    if image.dtype.kind == "c":
        imaginary.append(weighings[0].apply_to_real(image.imag, part, constants[1]))
        real = real - weighings[1].apply_to_real(image.imag, part, constants[1])
    return call.deliver(joined(real, reduce(operator.add, imaginary), call.dtype))
