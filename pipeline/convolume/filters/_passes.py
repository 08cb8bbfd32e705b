"""From weights to operations: correlations over chosen axes, and filters that go axis by axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convolume.operations import Correlate, Sequence
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from convolume.boundary import BoundaryMode
    from convolume.filters import FilterContext
    from convolume.operations import Method

__all__ = ["one_axis_passes", "over_last_axes"]


def over_last_axes(
    stencil: Stencil, context: FilterContext, boundary: tuple[BoundaryMode, float], method: Method = "direct"
) -> Correlate:
    """Return the correlation of a stencil over the last of the filtered axes, all of them filled once."""
    mode, cval = boundary
    axes = context.axes[len(context.axes) - stencil.ndim :]
    return Correlate(stencil.on_axes(axes, context.ndim), (mode,) * context.ndim, cval, method)


def one_axis_passes(
    passes: Iterable[tuple[int, npt.ArrayLike, int]],
    context: FilterContext,
    boundary: tuple[BoundaryMode, float],
) -> Sequence:
    """Return one correlation after the other, each over one axis that is filled before its own pass.

    Parameters
    ----------
    passes : iterable of (axis, weights, origin)
        The axis of the image, its weights in the order of ``scipy.ndimage.correlate1d``, its origin.
    context : FilterContext
        Tells the number of axes.
    boundary : tuple of BoundaryMode and float
        The same for every pass.
    """
    mode, cval = boundary
    return Sequence(
        tuple(
            Correlate(
                Stencil.correlate(np.asarray(weights, dtype=np.float64), origin).on_axes((axis,), context.ndim),
                (mode,) * context.ndim,
                cval,
            )
            for axis, weights, origin in passes
        )
    )
