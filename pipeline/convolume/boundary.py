"""What lies beyond the faces of an image: scipy.ndimage's eight boundary modes, axis by axis.

A mode is an *index map*: it sends every coordinate of the endless axis to a voxel of the image, or to
`OUTSIDE`, where the constant stands. What a filter must read and how faces are filled both follow from
that map, so they cannot disagree.

What a filter needs of an axis is kept as *runs*: sorted, disjoint intervals ``(start, stop)`` inside the
image. There is one run where the map is continuous, and up to two where it wraps around.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["OUTSIDE", "BoundaryMode", "Runs", "longest_run", "positions_in", "reach", "runs_length", "source_indices"]

Runs = tuple[tuple[int, int], ...]
Indices = npt.NDArray[np.intp]

OUTSIDE = -1


class BoundaryMode(StrEnum):
    """How an image goes on beyond its faces; scipy.ndimage's names and meaning.

    ========================  =============================
    mode                      ``a b c d`` goes on as
    ========================  =============================
    reflect, grid-mirror      ``d c b a | a b c d | d c b a``
    mirror                    ``d c b | a b c d | c b a``
    nearest                   ``a a a | a b c d | d d d``
    constant, grid-constant   ``k k k | a b c d | k k k``
    wrap, grid-wrap           ``b c d | a b c d | a b c``
    ========================  =============================
    """

    REFLECT = "reflect"
    GRID_MIRROR = "grid-mirror"
    MIRROR = "mirror"
    NEAREST = "nearest"
    CONSTANT = "constant"
    GRID_CONSTANT = "grid-constant"
    WRAP = "wrap"
    GRID_WRAP = "grid-wrap"

    @property
    def wraps(self) -> bool:
        """Say whether the axis is a ring."""
        return self in {BoundaryMode.WRAP, BoundaryMode.GRID_WRAP}

    @property
    def is_constant(self) -> bool:
        """Say whether a constant stands beyond the faces."""
        return self in {BoundaryMode.CONSTANT, BoundaryMode.GRID_CONSTANT}


def source_indices(start: int, stop: int, length: int, mode: BoundaryMode) -> Indices:
    """Return the voxel that stands at each coordinate ``start … stop`` of an endless axis.

    Parameters
    ----------
    start, stop : int
        Interval of the endless axis, in voxels; the image is ``0 … length``.
    length : int
        Extent of the image on this axis, at least 1.
    mode : BoundaryMode
        How the axis goes on.

    Returns
    -------
    numpy.ndarray
        Indices inside the image, `OUTSIDE` where the constant stands.

    Examples
    --------
    >>> source_indices(-3, 7, 4, BoundaryMode.REFLECT).tolist()
    [2, 1, 0, 0, 1, 2, 3, 3, 2, 1]
    >>> source_indices(-2, 6, 4, BoundaryMode.CONSTANT).tolist()
    [-1, -1, 0, 1, 2, 3, -1, -1]
    """
    # Only what lies beyond a face takes arithmetic: lines may be as long as an image is large.
    low, high = (min(max(face, start), stop) for face in (0, length))
    before, after = (_folded(np.arange(*ends), length, mode) for ends in ((start, low), (high, stop)))
    return np.concatenate([before, np.arange(low, high), after])


def _folded(coordinates: Indices, length: int, mode: BoundaryMode) -> Indices:
    """Return the voxels that stand at coordinates beyond the faces."""
    if mode.wraps:
        return coordinates % length
    if mode.is_constant:
        return np.full(coordinates.shape, OUTSIDE, np.intp)
    if mode is BoundaryMode.NEAREST:
        return np.clip(coordinates, 0, length - 1)
    # Both mirrors repeat with a period; `mirror` does not repeat the voxel at the face.
    repeats_face = mode is not BoundaryMode.MIRROR
    period = 2 * length if repeats_face else max(2 * length - 2, 1)
    folded = coordinates % period
    return np.minimum(folded, period - int(repeats_face) - folded)


def reach(runs: Runs, before: int, after: int, length: int, mode: BoundaryMode) -> Runs:
    """Return the voxels of an axis that a filter reads to give its output on `runs`.

    Examples
    --------
    The last voxel of ten, with three voxels after it, needs its mirror images:

    >>> reach(((9, 10),), 0, 3, 10, BoundaryMode.REFLECT)
    ((7, 10),)
    >>> reach(((0, 2),), 1, 1, 10, BoundaryMode.WRAP)
    ((0, 3), (9, 10))
    """
    if before == after == 0:
        return runs
    needed = [source_indices(a - before, b + after, length, mode) for a, b in runs]
    return _as_runs(np.concatenate(needed)) if needed else ()


def merge(*parts: Runs) -> Runs:
    """Return the union of several sets of runs.

    Examples
    --------
    >>> merge(((0, 4),), ((2, 6), (8, 9)))
    ((0, 6), (8, 9))
    """
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(run for runs in parts for run in runs):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def runs_length(runs: Runs) -> int:
    """Return the number of voxels in `runs`."""
    return sum(stop - start for start, stop in runs)


def positions_in(runs: Runs, indices: Indices) -> Indices:
    """Return where each voxel of an axis stands in an array that holds `runs` one after the other.

    `OUTSIDE` stays `OUTSIDE`; a voxel that `runs` does not hold is an error of the caller.

    Examples
    --------
    >>> positions_in(((0, 2), (8, 10)), np.array([9, 0, -1])).tolist()
    [3, 0, -1]
    """
    if len(runs) == 1 and runs[0][0] == 0 and indices.max(initial=OUTSIDE) < runs[0][1]:
        return indices
    positions = np.full(indices.shape, OUTSIDE, dtype=np.intp)
    offset = 0
    for start, stop in runs:
        held = (indices >= start) & (indices < stop)
        positions[held] = indices[held] - start + offset
        offset += stop - start
    if np.any((positions == OUTSIDE) != (indices == OUTSIDE)):
        message = f"voxels {indices.min()}..{indices.max()} are not all held by the runs {runs}"
        raise IndexError(message)
    return positions


def longest_run(places: Indices) -> tuple[int, int]:
    """Return the longest interval of places that follow each other one by one; (0, 0) if all are outside.

    Examples
    --------
    >>> longest_run(np.array([1, 0, 0, 1, 2, -1]))
    (2, 5)
    """
    breaks = np.flatnonzero((np.diff(places) != 1) | (places[1:] == OUTSIDE) | (places[:-1] == OUTSIDE)) + 1
    edges = [0, *breaks.tolist(), len(places)]
    low, high = max(pairwise(edges), key=lambda edge: edge[1] - edge[0])
    return (0, 0) if places[low] == OUTSIDE else (low, high)


def _as_runs(indices: Indices) -> Runs:
    inside = np.unique(indices[indices != OUTSIDE])
    if inside.size == 0:
        return ()
    breaks = np.flatnonzero(np.diff(inside) > 1) + 1
    return tuple((int(part[0]), int(part[-1]) + 1) for part in np.split(inside, breaks))
