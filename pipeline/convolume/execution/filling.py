"""Faces filled on copies, for what a device does not look up itself: in which parts, and how voxels are gathered."""

from __future__ import annotations

import threading
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.boundary import OUTSIDE, longest_run
from convolume.layouts import boxes, copy_voxels
from convolume.numerics import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["gather", "parts_to_fill"]

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]

# Filled copies of about this size stay in a processor's cache until the device has read them.
_TILE_VOXELS = 2**20


def parts_to_fill(
    places: tuple[Indices, ...], margins: list[int], shape: tuple[int, ...]
) -> Iterator[tuple[slice, ...]]:
    """Yield the parts in which an output is computed.

    Where only leading axes are filled, these are slabs at the faces, and the inner box, which is not copied. Where rows
    are filled at their ends, every row is copied in any case: then the parts are tiles whose copies stay in the cache.
    What is no larger than such a tile is one, for another part costs more than its copy.
    """
    if prod(shape) <= _TILE_VOXELS:
        yield tuple(slice(0, extent) for extent in shape)
        return
    inner = [_longest_stretch(place, margin) for place, margin in zip(places, margins, strict=True)]
    low, high = inner[-1]
    if high - low == shape[-1] and all(low < high for low, high in inner):
        yield from _inner_box_and_slabs(inner, shape)
    else:
        yield from boxes(shape, _TILE_VOXELS, whole=len(shape) - 1)


def _longest_stretch(places: Indices, margin: int) -> tuple[int, int]:
    """Return the longest interval of outputs whose voxels stand side by side in the patch; (0, 0) if there is none."""
    low, high = longest_run(places)
    return (0, 0) if high - margin <= low else (low, high - margin)


def _inner_box_and_slabs(inner: list[tuple[int, int]], shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    for axis, (low, high) in enumerate(inner):
        before = tuple(slice(a, b) for a, b in inner[:axis])
        after = tuple(slice(0, n) for n in shape[axis + 1 :])
        for start, stop in ((0, low), (high, shape[axis])):
            if start < stop:
                yield (*before, slice(start, stop), *after)
    yield tuple(slice(low, high) for low, high in inner)


class _Scratch(threading.local):
    """Memory of each thread that is used again: fresh memory costs more than the copy that fills it."""

    memory: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], axis: int) -> Array:
        """Return an array whose voxels lie side by side along an axis."""
        size_bytes = prod(shape) * dtype.itemsize
        if size_bytes > self.memory.nbytes:
            self.memory = np.empty(size_bytes, np.uint8)
        laid = (*shape[:axis], *shape[axis + 1 :], shape[axis])
        return np.moveaxis(self.memory[:size_bytes].view(dtype).reshape(laid), -1, axis)


_scratch = _Scratch()


def gather(
    voxels: Array,
    places: list[Indices],
    cval: float = 0.0,
    precision: Precision = Precision.SINGLE,
    axis: int | None = None,
) -> Array:
    """Return the voxels at `places`: a view where they stand side by side on every axis, else a copy in scratch memory.

    The copy lasts until this thread gathers again; its rows lie along `axis`, the last if none is named.
    """
    pieces = [_pieces(place) for place in places]
    outside = [place == OUTSIDE for place in places]
    has_outside = any(axis.any() for axis in outside)
    if not has_outside and all(len(axis) == 1 and isinstance(axis[0][1], slice) for axis in pieces):
        return voxels[tuple(axis[0][1] for axis in pieces)]
    dtype = _dtype_that_holds(cval, voxels.dtype, precision) if has_outside else voxels.dtype
    rows = voxels.ndim - 1 if axis is None else axis
    result = _scratch.array(tuple(len(place) for place in places), dtype, rows)
    for piece in product(*pieces):
        copy_voxels(result[tuple(target for target, _ in piece)], _taken(voxels, [source for _, source in piece]))
    for place, hidden in enumerate(outside):
        if hidden.any():
            result[(slice(None),) * place + (hidden,)] = cval
    return result


def _pieces(places: Indices) -> list[tuple[slice, slice | Indices]]:
    """Cut the places of one axis into what lies before, in and after their longest run: targets and sources."""
    low, high = longest_run(places)
    pieces: list[tuple[slice, slice | Indices]] = []
    for start, stop in ((0, low), (low, high), (high, len(places))):
        if start < stop:
            pieces.append((slice(start, stop), _as_slice(np.maximum(places[start:stop], 0))))
    return pieces


def _as_slice(places: Indices) -> slice | Indices:
    """Return places as a slice where they go up or down one by one: NumPy need not copy what it takes by a slice.

    Examples
    --------
    >>> _as_slice(np.array([2, 1, 0])), _as_slice(np.array([4, 5])), _as_slice(np.array([1, 0, 0, 1]))
    (slice(2, None, -1), slice(4, 6, 1), array([1, 0, 0, 1]))
    """
    first, last = int(places[0]), int(places[-1])
    step = -1 if last < first else 1
    if np.any(np.diff(places) != step):
        return places
    stop = last + step
    return slice(first, None if stop < 0 else stop, step)


def _taken(voxels: Array, sources: list[slice | Indices]) -> Array:
    """Return a box of an array; slices first, so that little is left to take one by one."""
    voxels = voxels[tuple(source if isinstance(source, slice) else slice(None) for source in sources)]
    for axis, source in enumerate(sources):
        if not isinstance(source, slice):
            # Not np.take: it would copy the whole of a view first.
            voxels = voxels[(slice(None),) * axis + (source,)]
    return voxels


def _dtype_that_holds(value: float, dtype: np.dtype[Any], precision: Precision) -> np.dtype[Any]:
    """Return `dtype`, or that of the sums where `value` is no voxel of that kind: scipy does not cast cval."""
    with np.errstate(all="ignore"):
        cast = float(np.asarray(value).astype(dtype))
    if cast == value or (dtype.kind == "f" and np.isnan(value)):
        return dtype
    return np.dtype(np.float32 if precision is Precision.SINGLE else np.float64)
