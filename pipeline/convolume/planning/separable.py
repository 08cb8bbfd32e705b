"""Dense kernels that are an outer product: one correlation an axis does for them what one of all axes does."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.operations import Correlate, Sequence

if TYPE_CHECKING:
    from convolume.stencil import Stencil

__all__ = ["TOLERANCE", "axis_by_axis", "distance_from_separable"]

Array64 = npt.NDArray[np.float64]

# Of the largest weight: an outer product that was computed in float64 lies nearer.
TOLERANCE = 1e-12


def axis_by_axis(step: Correlate) -> Sequence | None:
    """Return the same correlation as passes along one axis each, first to last; None where there is no such.

    The kernel has to be the outer product of weights on its axes to `TOLERANCE`, with its zeros in the same places.

    Notes
    -----
    What lies outside in the constant modes has been weighed by the passes before: it is `cval` times the sums of their
    weights.

    Examples
    --------
    >>> from convolume.boundary import BoundaryMode
    >>> from convolume.stencil import Stencil
    >>> step = Correlate(Stencil.correlate(np.outer([1, 2, 1], [1, 0, -1])), (BoundaryMode.NEAREST,) * 2)
    >>> [one.stencil.weights.ravel().tolist() for one in axis_by_axis(step).operations]
    [[1.0, 2.0, 1.0], [1.0, 0.0, -1.0]]
    """
    if not isfinite(step.cval) or distance_from_separable(step.stencil) > TOLERANCE:
        return None
    passes, cval = [], step.cval
    for line in _lines(step.stencil.weights):
        passes.append(Correlate(_stencil(line, step.stencil), step.modes, cval))
        cval *= float(line.sum())
    return Sequence(tuple(passes))


def distance_from_separable(stencil: Stencil) -> float:
    """Return how far a kernel is from an outer product, of its largest weight; infinite where it is not to be one.

    Examples
    --------
    >>> from convolume.stencil import Stencil
    >>> distance_from_separable(Stencil.correlate([[1.0, 2.0], [2.0, 4.5]])) > 0.02
    True
    """
    weights = stencil.weights
    if not weights.any():
        return np.inf
    lines = _lines(weights)
    product = reduce(np.multiply, lines)
    if not np.array_equal(reduce(np.logical_and, [line != 0 for line in lines]), weights != 0):
        return np.inf
    return float(np.abs(product - weights).max() / np.abs(weights).max())


def _lines(weights: Array64) -> list[Array64]:
    """Return the lines through the largest weight, one an axis, as factors: their product has that weight once."""
    place = np.unravel_index(int(np.argmax(np.abs(weights))), weights.shape)
    axes = [axis for axis, extent in enumerate(weights.shape) if extent > 1] or [0]
    lines: list[Array64] = []
    for axis in axes:
        index: tuple[Any, ...] = tuple(slice(p, p + 1) for p in place)
        lines.append(weights[(*index[:axis], slice(None), *index[axis + 1 :])] / (weights[place] if lines else 1.0))
    return lines


def _stencil(line: Array64, whole: Stencil) -> Stencil:
    """Return the stencil of one line, at its place in the whole one."""
    origin = tuple(at if n > 1 else 0 for at, n in zip(whole.origin_voxels, line.shape, strict=True))
    return replace(whole, shape=line.shape, weights_float64=line.astype("<f8").tobytes(), origin_voxels=origin)
