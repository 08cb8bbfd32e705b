"""Voxels seen along other axes, so that programs have rows to fill their vectors with, and several of them.

The order of the taps stays what it is, and with it the bits; nothing is copied.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.layouts import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.stencil import Stencil

__all__ = ["along_rows"]

Array = npt.NDArray[Any]
Correlation = tuple[Array, "Stencil", Array]

# A row of this length is long enough; fewer rows than that are too few for all threads.
_ROW_VOXELS, _FEW_ROWS = 4096, 16


def along_rows(source: Array, stencil: Stencil, target: Array, axis: int) -> Iterator[Correlation]:
    """Yield correlations that together are one whose rows lie along `axis` of its stencil.

    Parameters
    ----------
    source, target : numpy.ndarray
        Padded voxels and what becomes of them, `axis` moved behind all others.
    stencil : Stencil
        With its axes where they were.
    axis : int
        The one that was moved.

    Yields
    ------
    tuple of numpy.ndarray, Stencil and numpy.ndarray
        Source, stencil and target, as many axes each, at least two.
    """
    ndim = stencil.ndim
    if axis < ndim - 1:
        # Taps along the rows stay where they were among the others: as an axis of their own, each a voxel further.
        shape = (*source.shape[:axis], stencil.shape[axis], *source.shape[axis:-1], target.shape[-1])
        strides = (*source.strides[:axis], source.strides[-1], *source.strides[axis:])
        source = np.lib.stride_tricks.as_strided(source, shape, strides, writeable=False)
        stencil, target = stencil.on_axes(range(ndim), ndim + 1), np.expand_dims(target, axis)
    if target.ndim > 1 and (prod(target.shape[:-1]) >= _FEW_ROWS or target.shape[-1] < 2 * _ROW_VOXELS):
        yield source, stencil, target
    else:
        yield from _cut_rows(source, stencil, target)


def _cut_rows(source: Array, stencil: Stencil, target: Array) -> Iterator[Correlation]:
    """Yield few long rows as many of `_ROW_VOXELS`, and the remainder of each."""
    ndim, reach = target.ndim, stencil.shape[-1] - 1
    count, remainder = divmod(target.shape[-1], _ROW_VOXELS)
    stencil = stencil.on_axes((*range(ndim - 1), ndim), ndim + 1)
    for first, rows, length in ((0, count, _ROW_VOXELS), (count * _ROW_VOXELS, 1, remainder)):
        if rows and length:
            yield rows_of(source[..., first:], rows, length, reach), stencil, rows_of(target[..., first:], rows, length)
