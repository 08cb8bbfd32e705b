"""Filters that take differences: Laplacians, gradient magnitudes, Prewitt and Sobel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.filters.laplace import cross_of_differences
from convolume.ndimage._arguments import Call, checked_axes, checked_axis, checked_modes, one_an_axis
from convolume.ndimage._smoothing import gaussian_lines
from convolume.ndimage._weighing import Line, Terms, Weighing, passes
from convolume.operations import Arithmetic, Combine, Correlate, Operation
from convolume.operations import Sequence as Steps
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.boundary import BoundaryMode
    from convolume.ndimage._types import Image, Number, Output

__all__ = ["gaussian_gradient_magnitude", "gaussian_laplace", "laplace", "prewitt", "sobel"]


def laplace(
    input: Image,
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
) -> Any:
    """Sum the second differences along every axis, as `scipy.ndimage.laplace` does.

    Parameters
    ----------
    input : array_like or dask.array.Array
        The image, of any number of axes; bool, integers, float32, float64, complex64 or complex128.
    output : numpy.ndarray or dtype, optional
        Takes the result, or names its dtype; `input`'s where nothing is given.
    mode : str or sequence of str
        Boundary mode, one for all of `axes` or one an axis; see `convolume.boundary.BoundaryMode`.
    cval : scalar
        The constant of the constant modes.
    axes : int or sequence of int, optional
        Axes that are filtered; all where nothing is given.

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
    >>> laplace([0.0, 0.0, 1.0, 0.0, 0.0]).tolist()
    [0.0, 1.0, -2.0, 1.0, 0.0]
    """
    call = Call.checked(input, output, cval, promotes=False)
    ndim = call.image.ndim
    places = checked_axes(axes, ndim)
    modes = checked_modes(mode, len(places))

    def build(terms: Terms) -> Operation:
        if not places:
            return Steps()
        if terms.exact:
            lines = [Line(axis, (1, -2, 1), each) for axis, each in zip(places, modes, strict=True)]
            return Combine("add", tuple(line.operation(ndim, terms) for line in lines))
        mode_of = dict(zip(places, modes, strict=True))
        stencil = Stencil.correlate(cross_of_differences(len(places))).on_axes(sorted(places), ndim)
        return Correlate(stencil, tuple(mode_of.get(axis, modes[0]) for axis in range(ndim)), terms.cval)

    return Weighing("laplace", build).apply(call)


def gaussian_laplace(
    input: Image,
    sigma: Number | Sequence[Number],
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
    **kwargs: Any,
) -> Any:
    """Sum the second derivatives of a Gaussian along every axis, as `scipy.ndimage.gaussian_laplace` does.

    Parameters
    ----------
    sigma : float or sequence of float
        Standard deviation in voxels, one for all of `axes` or one an axis.
    mode : str or sequence of str
        Boundary mode, one for all of `axes` or one for the derivative along each; see
        `convolume.boundary.BoundaryMode`.
    input, output, cval, axes
        As for `laplace`.
    **kwargs
        ``truncate`` and ``radius``, see `gaussian_filter`; a radius an axis has one entry for every axis of the image.

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
    >>> gaussian_laplace([0.0, 0.0, 1.0, 0.0, 0.0], 1.0).round(3).tolist()
    [0.197, 0.002, -0.399, 0.002, 0.197]
    """
    call = Call.checked(input, output, cval, promotes=False)
    ndim = call.image.ndim
    places = checked_axes(axes, ndim)
    sigmas: list[Number] = one_an_axis(sigma, len(places), "sigma")
    if len(places) < ndim:
        # Only then scipy gives each sigma to the axis named beside it; all of them stand in the image's order.
        sigmas = [sigmas[places.index(axis)] if axis in places else 0.0 for axis in range(ndim)]
    branches = _derivatives(places, ndim, sigmas, 2, checked_modes(mode, len(places)), **kwargs)
    return Weighing("gaussian_laplace", lambda terms: _combined("add", branches, ndim, terms)).apply(call)


def gaussian_gradient_magnitude(
    input: Image,
    sigma: Number | Sequence[Number],
    output: Output = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
    **kwargs: Any,
) -> Any:
    """Take the length of a Gaussian's gradient, as `scipy.ndimage.gaussian_gradient_magnitude` does.

    Parameters
    ----------
    sigma : float or sequence of float
        Standard deviation in voxels, one for all or one for every axis of the image.
    axes : int or sequence of int, optional
        Axes along which derivatives are taken; all where nothing is given. All axes are smoothed, as by scipy.
    input, output, mode, cval, **kwargs
        As for `gaussian_laplace`.

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
    >>> gaussian_gradient_magnitude([[0.0, 3.0, 6.0, 9.0]] * 2, 0.5).round(2).tolist()
    [[1.28, 2.57, 2.57, 1.28], [1.28, 2.57, 2.57, 1.28]]
    """
    call = Call.checked(input, output, cval, promotes=False)
    ndim = call.image.ndim
    places = checked_axes(axes, ndim)
    branches = _derivatives(places, ndim, sigma, 1, checked_modes(mode, len(places)), **kwargs)
    name = "gaussian_gradient_magnitude"
    if call.dtype.kind != "c" or not branches:
        return Weighing(name, lambda terms: _combined("magnitude", branches, ndim, terms)).apply(call)
    own = Call(call.image, None, call.dtype, call.cval)
    slopes = [_weighing(name, lines, ndim).apply(own) for lines in branches]
    with np.errstate(all="ignore"):
        return call.deliver(np.sqrt(sum(slope * slope for slope in slopes)))


def prewitt(
    input: Image, axis: int = -1, output: Output = None, mode: str | Sequence[str] = "reflect", cval: complex = 0.0
) -> Any:
    """Take the difference along one axis, summed over neighbours along the others, as `scipy.ndimage.prewitt` does.

    Parameters
    ----------
    axis : int
        Axis of the difference.
    mode : str or sequence of str
        Boundary mode, one for all axes or one an axis; see `convolume.boundary.BoundaryMode`.
    input, output, cval
        As for `laplace`.

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
    >>> prewitt([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]).tolist()
    [[3.0, 6.0, 3.0], [3.0, 6.0, 3.0]]
    """
    return _difference("prewitt", input, axis, output, mode, cval, (1, 1, 1))


def sobel(
    input: Image, axis: int = -1, output: Output = None, mode: str | Sequence[str] = "reflect", cval: complex = 0.0
) -> Any:
    """Take the difference along one axis, smoothed by 1, 2, 1 along the others, as `scipy.ndimage.sobel` does.

    Parameters, result and errors are those of `prewitt`.

    Examples
    --------
    >>> sobel([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]).tolist()
    [[4.0, 8.0, 4.0], [4.0, 8.0, 4.0]]
    """
    return _difference("sobel", input, axis, output, mode, cval, (1, 2, 1))


def _difference(
    name: str,
    image: Image,
    axis: int,
    output: Output,
    mode: str | Sequence[str],
    cval: complex,
    smoothing: tuple[int, ...],
) -> Any:
    call = Call.checked(image, output, cval, promotes=False)
    ndim = call.image.ndim
    chosen = checked_axis(axis, ndim)
    modes = checked_modes(mode, ndim)
    others = [place for place in range(ndim) if place != chosen]
    lines = [Line(chosen, (-1, 0, 1), modes[chosen]), *(Line(place, smoothing, modes[place]) for place in others)]

    def build(terms: Terms) -> Operation:
        # scipy's order tells where results are cut off between passes, and with a constant that is not 0. Else the
        # axes are taken first to last, which devices do in one go.
        order_tells = terms.exact or (terms.cval and any(each.is_constant for each in modes))
        return passes(lines if order_tells else sorted(lines, key=lambda line: line.axis), ndim, terms)

    return Weighing(name, build).apply(call)


def _weighing(name: str, lines: list[Line], ndim: int) -> Weighing:
    return Weighing(name, lambda terms: passes(lines, ndim, terms))


def _derivatives(
    axes: Sequence[int],
    ndim: int,
    sigma: Number | Sequence[Number],
    order: int,
    modes: Sequence[BoundaryMode],
    **cut: Any,
) -> list[list[Line]]:
    """Return, for each axis, the passes of a Gaussian over all axes that derive along it, in its boundary mode."""
    return [
        gaussian_lines(
            range(ndim), sigma, [order if place == axis else 0 for place in range(ndim)], [mode] * ndim, **cut
        )
        for axis, mode in zip(axes, modes, strict=True)
    ]


def _combined(arithmetic: Arithmetic, branches: list[list[Line]], ndim: int, terms: Terms) -> Operation:
    return Combine(arithmetic, tuple(passes(lines, ndim, terms) for lines in branches)) if branches else Steps()
