"""Filters that smooth: Gaussians and their derivatives, and means of boxes."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from convolume.errors import InputError
from convolume.filters._gaussian_weights import gaussian_radius, gaussian_weights
from convolume.ndimage._arguments import Call, checked_axes, checked_axis, checked_mode, checked_modes, one_an_axis
from convolume.ndimage._running_means import running_means, sums_are_exact
from convolume.ndimage._weighing import Line, Weighing, passes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.boundary import BoundaryMode
    from convolume.ndimage._types import Image, Number, Output

__all__ = ["gaussian_filter", "gaussian_filter1d", "gaussian_lines", "uniform_filter", "uniform_filter1d"]

# scipy leaves an axis with a smaller sigma as it is.
_LEAST_SIGMA = 1e-15


def gaussian_filter(
    input: Image,
    sigma: Number | Sequence[Number],
    order: int | Sequence[int] = 0,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | Sequence[int] | None = None,
    axes: int | Sequence[int] | None = None,
) -> Any:
    """Smooth an image with a Gaussian, axis by axis, as `scipy.ndimage.gaussian_filter` does.

    Parameters
    ----------
    input : array_like or dask.array.Array
        The image, of any number of axes; bool, integers, float32, float64, complex64 or complex128.
    sigma : float or sequence of float
        Standard deviation in voxels, one for all of `axes` or one an axis; an axis with 0 stays as it is.
    order : int or sequence of int
        Order of the derivative; 0 smooths.
    output : numpy.ndarray or dtype, optional
        Takes the result, or names its dtype; `input`'s where nothing is given. What lies between two axes is of that
        dtype, too: integers are cut off after every axis.
    mode : str or sequence of str
        Boundary mode, one for all of `axes` or one an axis; see `convolume.boundary.BoundaryMode`.
    cval : scalar
        The constant of the constant modes.
    truncate : float
        The Gaussian is cut at this many sigmas.
    radius : int or sequence of int, optional
        Voxels at which it is cut, instead of `truncate`.
    axes : int or sequence of int, optional
        Axes that are filtered, in this order; all where nothing is given.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Of the input's shape and kind.

    Raises
    ------
    InputError
        A parameter does not fit the image. It is a `ValueError`.

    Examples
    --------
    >>> gaussian_filter([0.0, 0.0, 1.0, 0.0, 0.0], 1.0, radius=1).round(3).tolist()
    [0.0, 0.274, 0.452, 0.274, 0.0]
    """
    call = Call.checked(input, output, cval, promotes=False)
    ndim = call.image.ndim
    places = checked_axes(axes, ndim)
    lines = gaussian_lines(places, sigma, order, checked_modes(mode, len(places)), truncate=truncate, radius=radius)
    return Weighing("gaussian_filter", lambda terms: passes(lines, ndim, terms)).apply(call)


def gaussian_filter1d(
    input: Image,
    sigma: Number,
    axis: int = -1,
    order: int = 0,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | None = None,
) -> Any:
    """Smooth an image with a Gaussian along one axis, as `scipy.ndimage.gaussian_filter1d` does.

    Parameters
    ----------
    sigma : float
        Standard deviation in voxels.
    axis : int
        Axis that is filtered.
    input, order, output, mode, cval, truncate, radius
        As for `gaussian_filter`.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Of the input's shape and kind.

    Raises
    ------
    InputError
        A parameter does not fit the image. It is a `ValueError`.

    Examples
    --------
    >>> gaussian_filter1d([1.0, 2.0, 3.0, 4.0, 5.0], 1).round(2).tolist()
    [1.43, 2.07, 3.0, 3.93, 4.57]
    """
    call = Call.checked(input, output, cval)
    ndim = call.image.ndim
    weights = _weights(sigma, order, truncate, radius)
    line = Line(checked_axis(axis, ndim), weights, checked_mode(mode))
    return Weighing("gaussian_filter1d", lambda terms: line.operation(ndim, terms)).apply(call)


def uniform_filter(
    input: Image,
    size: int | Sequence[int] = 3,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: int | Sequence[int] | None = None,
) -> Any:
    """Take the mean of a box around every voxel, axis by axis, as `scipy.ndimage.uniform_filter` does.

    Parameters
    ----------
    size : int or sequence of int
        Extent of the box in voxels, one for all of `axes` or one an axis; an axis with 1 or less stays as it is.
    origin : int or sequence of int
        Shift of the box in voxels, one for all of `axes` or one an axis.
    input, output, mode, cval, axes
        As for `gaussian_filter`.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Of the input's shape and kind.

    Raises
    ------
    InputError
        A parameter does not fit the image. It is a `ValueError`.

    Examples
    --------
    >>> uniform_filter([[0.0, 0.0, 9.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], size=(1, 3)).tolist()
    [[0.0, 3.0, 6.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    call = Call.checked(input, output, cval)
    places = checked_axes(axes, call.image.ndim)
    count = len(places)
    sizes = [int(each) for each in one_an_axis(size, count, "size")]
    shifts = one_an_axis(origin, count, "origin")
    modes = checked_modes(mode, count)
    lines = [_mean_line(*entries) for entries in zip(places, sizes, shifts, modes, strict=True) if entries[1] > 1]
    return _means("uniform_filter", call, lines)


def uniform_filter1d(
    input: Image,
    size: int,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
) -> Any:
    """Take the mean of neighbours along one axis, as `scipy.ndimage.uniform_filter1d` does.

    Parameters
    ----------
    size : int
        Number of neighbours, at least 1.
    axis : int
        Axis that is filtered.
    origin : int
        Shift of the neighbours in voxels.
    input, output, mode, cval
        As for `gaussian_filter`.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Of the input's shape and kind.

    Raises
    ------
    InputError
        A parameter does not fit the image. It is a `ValueError`.

    Examples
    --------
    >>> uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3).tolist()
    [4, 3, 4, 1, 4, 6, 6, 3]
    """
    call = Call.checked(input, output, cval)
    place = checked_axis(axis, call.image.ndim)
    if size < 1:
        message = f"size {size} is too small: it is at least 1"
        raise InputError(message)
    return _means("uniform_filter1d", call, [_mean_line(place, operator.index(size), origin, checked_mode(mode))])


def gaussian_lines(
    axes: Sequence[int],
    sigma: Number | Sequence[Number],
    order: int | Sequence[int],
    modes: Sequence[BoundaryMode],
    *,
    truncate: float = 4.0,
    radius: int | Sequence[int] | None = None,
) -> list[Line]:
    """Return the passes of a Gaussian over these axes, with one boundary mode an axis."""
    count = len(axes)
    entries = zip(
        axes,
        one_an_axis(sigma, count, "sigma"),
        one_an_axis(order, count, "order"),
        modes,
        one_an_axis(radius, count, "radius"),
        strict=True,
    )
    return [
        Line(axis, _weights(deviation, derivative, truncate, extent), mode)
        for axis, deviation, derivative, mode, extent in entries
        if deviation > _LEAST_SIGMA
    ]


def _weights(sigma: Number, order: int, truncate: float, radius: int | None) -> Any:
    deviation = float(sigma)
    extent = gaussian_radius(deviation, truncate) if radius is None else operator.index(radius)
    if extent < 0 or order < 0 or deviation == 0:
        message = (
            f"sigma {sigma}, order {order} and radius {extent} make no Gaussian: "
            "sigma is above 0, the order and the radius are at least 0"
        )
        raise InputError(message)
    return gaussian_weights(deviation, extent, operator.index(order))


def _mean_line(axis: int, size: int, origin: int, mode: BoundaryMode) -> Line:
    low, high = -(size // 2), (size - 1) // 2
    if not low <= origin <= high:
        message = f"origin {origin} on axis {axis} is out of range: a size of {size} allows {low} to {high}"
        raise InputError(message)
    return Line(axis, (1.0,) * size, mode, operator.index(origin), divisor=size)


def _means(name: str, call: Call, lines: list[Line]) -> Any:
    if call.dtype.kind in "biu" and not sums_are_exact(call, lines):
        return call.deliver(running_means(call, lines))
    ndim = call.image.ndim
    return Weighing(name, lambda terms: passes(lines, ndim, terms)).apply(call)
