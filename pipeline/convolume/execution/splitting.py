"""A block that its device has no memory for is done in parts, to the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.arrays import new_array
from convolume.errors import DeviceMemoryError
from convolume.regions import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["halves", "in_parts"]

# Sixty-fourths of a block that was planned to fit: what does not fit then is no matter of size.
_MOST_HALVINGS = 6


def in_parts(
    region: Region, compute: Callable[[Region], list[npt.NDArray[Any]]], halvings: int = _MOST_HALVINGS
) -> tuple[list[npt.NDArray[Any]], int]:
    """Return what `compute` gives for a region, and in how many parts it was done: more than one where memory lacked.

    Parameters
    ----------
    region : Region
        The block.
    compute : callable
        Returns arrays of a region's shape, whose values do not depend on the region that they were computed in.
    halvings : int
        So often a part is halved before its error is raised.

    Raises
    ------
    DeviceMemoryError, MemoryError
        The smallest part was too large.

    Examples
    --------
    >>> results, parts = in_parts(Region((0, 2), (4, 3)), lambda part: [np.full(part.shape, part.start[0])])
    >>> results[0].tolist(), parts
    ([[0], [0], [0], [0]], 1)
    """
    try:
        return compute(region), 1
    except (DeviceMemoryError, MemoryError):
        if halvings == 0 or max(region.shape) < 2:  # noqa: PLR2004 - nothing is left to halve
            raise
    made = [(part, *in_parts(part, compute, halvings - 1)) for part in halves(region)]
    joined = [new_array(region.shape, array.dtype) for array in made[0][1]]
    for part, arrays, _ in made:
        for whole, array in zip(joined, arrays, strict=True):
            whole[part.relative_to(region.start).slices] = array
    return joined, sum(count for _, _, count in made)


def halves(region: Region) -> tuple[Region, Region]:
    """Return the two halves of a region along its longest axis.

    Examples
    --------
    >>> [str(half) for half in halves(Region((0, 0), (3, 8)))]
    ['[0:3, 0:4]', '[0:3, 4:8]']
    """
    axis = int(np.argmax(region.shape))
    middle = region.start[axis] + region.shape[axis] // 2
    stop = (*region.stop[:axis], middle, *region.stop[axis + 1 :])
    start = (*region.start[:axis], middle, *region.start[axis + 1 :])
    return Region(region.start, stop), Region(start, region.stop)
