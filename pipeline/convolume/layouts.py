"""How voxels lie in memory: along which axis programs read them, and copies from one layout to another in threads."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.regions import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["THREADS_VARIABLE", "boxes", "copy_voxels", "host_threads", "row_axis", "rows_of"]

Array = npt.NDArray[Any]

# Tells a worker process how many of the host's threads it may take.
THREADS_VARIABLE = "CONVOLUME_THREADS"
# Rows from this length on are as good as longer ones.
_LONG_ROW = 128
# Two boxes of so many voxels stay in a core's second-level cache, also where they are read along one axis and written
# along another.
_BOX_VOXELS = 2**15
# With fewer threads are not worth their start, which takes half a millisecond.
_LEAST_VOXELS = 2**20


def host_threads() -> int:
    """Return how many threads this process may take on the host."""
    return int(os.environ.get(THREADS_VARIABLE) or os.cpu_count() or 1)


def row_axis(shape: tuple[int, ...]) -> int:
    """Return the axis along which voxels should lie side by side: the last, where it is one of several voxels.

    Examples
    --------
    >>> row_axis((300, 300, 20)), row_axis((500, 1000, 1)), row_axis((90000, 3, 1))
    (2, 1, 0)
    """
    if shape[-1] > 1:
        return len(shape) - 1
    return max(range(len(shape)), key=lambda axis: (min(shape[axis], _LONG_ROW), axis))


def rows_of(array: Array, count: int, length: int, reach: int = 0) -> Array:
    """Return the beginning of the last axis as so many rows of some length, which reach into the next; a view.

    Examples
    --------
    >>> rows_of(np.arange(7), 3, 2, 1).tolist()
    [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    """
    shape, step = (*array.shape[:-1], count, length + reach), array.strides[-1]
    return np.lib.stride_tricks.as_strided(array, shape, (*array.strides[:-1], length * step, step))


def boxes(shape: tuple[int, ...], voxels: int, whole: int | None = None) -> Iterator[tuple[slice, ...]]:
    """Yield boxes of about so many voxels that fill a shape, about as long on all axes, `whole` along one.

    Examples
    --------
    >>> list(boxes((2, 6), 8, whole=1))
    [(slice(0, 1, None), slice(0, 6, None)), (slice(1, 2, None), slice(0, 6, None))]
    """
    extents = [length if axis == whole else 1 for axis, length in enumerate(shape)]
    while 2 * prod(extents) <= voxels:
        growing = [axis for axis, length in enumerate(shape) if extents[axis] < length]
        if not growing:
            break
        extents[min(reversed(growing), key=extents.__getitem__)] *= 2
    for _, box in BlockGrid(shape, tuple(extents)):
        yield box.slices


def copy_voxels(target: Array, source: Array) -> None:
    """Copy voxels to another array of the same shape, cast as C does, box by box in all threads.

    NumPy goes along the rows of `target`; where those of `source` lie along another axis, it reads every line of the
    cache once a voxel, unless a box at a time is small enough to stay there.

    Examples
    --------
    >>> columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    >>> rows = np.empty((2, 3), np.float32)
    >>> copy_voxels(rows, columns)
    >>> rows.tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    if source.size < _LEAST_VOXELS:
        _copy(target, source)
        return
    threads, rows = host_threads(), _nearest_axis(target)
    if source.ndim > 1 and rows == _nearest_axis(source):
        parts = list(boxes(source.shape, source.size // threads, whole=rows))
    else:
        parts = list(boxes(source.shape, _BOX_VOXELS))

    def copy_boxes(first: int) -> None:
        for box in parts[first::threads]:
            _copy(target[box], source[box])

    with ThreadPoolExecutor(threads) as pool:
        # What failed in a thread fails here.
        deque(pool.map(copy_boxes, range(threads)), maxlen=0)


def _copy(target: Array, source: Array) -> None:
    with np.errstate(all="ignore"):
        target[...] = source


def _nearest_axis(array: Array) -> int:
    """Return the axis whose neighbours lie nearest to each other."""
    return min(range(array.ndim), key=lambda axis: (array.shape[axis] < 2, abs(array.strides[axis]), -axis))  # noqa: PLR2004
