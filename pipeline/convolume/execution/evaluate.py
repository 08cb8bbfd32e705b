"""How a tree of operations is done on a patch of an image: faces are filled here, devices do the rest.

A voxel's value does not depend on the patch that it was computed in: inside, the device runs on the patch itself;
near the faces of the image it runs on slabs that were filled by the boundary mode. So blocks of any shape give the
same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.boundary import OUTSIDE, Runs, positions_in, runs_length, source_indices
from convolume.numerics import Precision
from convolume.operations import Combine, Correlate, Operation, Sequence, reach_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.devices import Device

__all__ = ["Patch", "Work", "boxes_of", "evaluate"]

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]

# Below this size one filled copy is cheaper than a launch for every face.
_SMALL_VOXELS = 65_536
# Slabs at the ends of rows are at least this wide, so that devices can work in whole vectors.
_FACE_WIDTH_VOXELS = 16


@dataclass(frozen=True, slots=True)
class Patch:
    """Voxels of an image: those that `runs` name on every axis, one run after the other."""

    voxels: Array
    runs: tuple[Runs, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """On what, and in which numbers, operations are done.

    `dtype` is that of every result, between two steps and at the end.
    """

    device: Device
    precision: Precision
    dtype: np.dtype[Any]
    image_shape: tuple[int, ...]


def evaluate(
    work: Work, operation: Operation, patch: Patch, wanted: tuple[Runs, ...], out: Array | None = None
) -> Array:
    """Return the result of an operation on the voxels that `wanted` names.

    Parameters
    ----------
    work : Work
        Device, precision, dtype and the shape of the whole image.
    operation : Operation
        The tree to be done; `Sequence` without members gives the patch's own voxels.
    patch : Patch
        At least what ``reach_of(operation, wanted, work.image_shape)`` names.
    wanted : tuple of runs
        One entry an axis, inside the image.
    out : numpy.ndarray, optional
        Takes the result, cast as C does; made where none is given.

    Returns
    -------
    numpy.ndarray
        The runs of `wanted` one after the other, in the work's dtype. It may be a view of the patch.
    """
    if isinstance(operation, Correlate):
        return _correlate(work, operation, patch, wanted, out)
    if isinstance(operation, Sequence):
        result = _evaluate_sequence(work, operation, patch, wanted)
    else:
        result = _combine(operation, [evaluate(work, branch, patch, wanted) for branch in operation.operations])
    if out is None:
        return result
    out[...] = result
    return out


def _evaluate_sequence(work: Work, sequence: Sequence, patch: Patch, wanted: tuple[Runs, ...]) -> Array:
    needs = [wanted]
    for step in reversed(sequence.operations):
        needs.append(reach_of(step, needs[-1], work.image_shape))
    for step, need in zip(sequence.operations, reversed(needs[:-1]), strict=True):
        patch = Patch(evaluate(work, step, patch, need), need)
    places = [positions_in(*axis) for axis in zip(patch.runs, map(_indices, wanted), strict=True)]
    return _gather(patch.voxels, places)


def _combine(operation: Combine, parts: list[Array]) -> Array:
    with np.errstate(all="ignore"):
        result = parts[0].copy()
        if operation.arithmetic == "magnitude":
            result *= result
            for part in parts[1:]:
                result += part * part
            return np.sqrt(result, out=result)
        join = np.add if operation.arithmetic == "add" else np.subtract
        for part in parts[1:]:
            join(result, part, out=result)
    return result


def _correlate(
    work: Work, operation: Correlate, patch: Patch, wanted: tuple[Runs, ...], out: Array | None = None
) -> Array:
    if out is None:
        out = np.empty(tuple(runs_length(runs) for runs in wanted), work.dtype)
    for place, runs in boxes_of(wanted):
        _correlate_box(work, operation, patch, runs, out[place])
    return out


def boxes_of(wanted: tuple[Runs, ...]) -> Iterator[tuple[tuple[slice, ...], tuple[tuple[int, int], ...]]]:
    """Yield each box that `wanted` names, with its place in the array that holds them all."""
    axes = []
    for runs in wanted:
        ends = np.cumsum([stop - start for start, stop in runs]).tolist()
        axes.append([(slice(end - (b - a), end), (a, b)) for end, (a, b) in zip(ends, runs, strict=True)])
    for box in product(*axes):
        yield tuple(place for place, _ in box), tuple(run for _, run in box)


def _correlate_box(
    work: Work, operation: Correlate, patch: Patch, box: tuple[tuple[int, int], ...], out: Array
) -> None:
    """Weigh one box: its inner part on the patch itself, what touches the faces on filled slabs."""
    halo = operation.stencil.halo
    places = [
        positions_in(runs, source_indices(a - before, b + after, length, mode) if before + after else np.arange(a, b))
        for runs, (a, b), before, after, length, mode in zip(
            patch.runs, box, halo.before, halo.after, work.image_shape, operation.modes, strict=True
        )
    ]
    margins = [before + after for before, after in zip(halo.before, halo.after, strict=True)]
    inner = _inner_box(places, margins, out.shape)
    for part in _parts(inner, out.shape):
        needed = [p[s.start : s.stop + margin] for p, s, margin in zip(places, part, margins, strict=True)]
        padded = _gather(patch.voxels, needed, operation.cval, work.precision)
        work.device.correlate(padded, operation.stencil, out[part], work.precision)


def _inner_box(places: list[Indices], margins: list[int], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the part of an output that needs no filling; empty where filling everything is cheaper."""
    inner = [_longest_stretch(p, margin) for p, margin in zip(places, margins, strict=True)]
    last = len(shape) - 1
    for axis, (low, high) in enumerate(inner):
        width = _FACE_WIDTH_VOXELS if axis == last else 1
        inner[axis] = (
            max(low, width) if low else 0,
            min(high, shape[axis] - width) if high < shape[axis] else high,
        )
    is_whole = all(high - low == n for (low, high), n in zip(inner, shape, strict=True))
    is_small = np.prod(shape) <= _SMALL_VOXELS
    if not is_whole and (is_small or any(low >= high for low, high in inner)):
        return [(0, 0)] * len(shape)
    return inner


def _longest_stretch(places: Indices, margin: int) -> tuple[int, int]:
    """Return the longest interval of outputs whose voxels stand side by side in the patch."""
    outputs = len(places) - margin
    breaks = np.flatnonzero((np.diff(places) != 1) | (places[1:] == OUTSIDE) | (places[:-1] == OUTSIDE)) + 1
    edges = [0, *breaks.tolist(), len(places)]
    low, high = max(pairwise(edges), key=lambda edge: edge[1] - edge[0])
    if places[low] == OUTSIDE or high - margin <= low:
        return 0, 0
    return low, min(high - margin, outputs)


def _parts(inner: list[tuple[int, int]], shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the slabs around an inner box, and the box itself; together they are the whole shape."""
    if any(low >= high for low, high in inner):
        yield tuple(slice(0, n) for n in shape)
        return
    for axis, (low, high) in enumerate(inner):
        before = tuple(slice(a, b) for a, b in inner[:axis])
        after = tuple(slice(0, n) for n in shape[axis + 1 :])
        for start, stop in ((0, low), (high, shape[axis])):
            if start < stop:
                yield (*before, slice(start, stop), *after)
    yield tuple(slice(low, high) for low, high in inner)


def _gather(voxels: Array, places: list[Indices], cval: float = 0.0, precision: Precision = Precision.SINGLE) -> Array:
    """Return the voxels at `places`; a view where they stand side by side on every axis."""
    scattered = []
    for axis, place in enumerate(places):
        if place.size and place[0] != OUTSIDE and np.all(np.diff(place) == 1):
            voxels = voxels[(slice(None),) * axis + (slice(int(place[0]), int(place[-1]) + 1),)]
        else:
            scattered.append(axis)
    for axis in scattered:
        voxels = np.take(voxels, np.maximum(places[axis], 0), axis=axis)
    outside = [axis for axis in scattered if np.any(places[axis] == OUTSIDE)]
    if outside:
        voxels = voxels.astype(_dtype_that_holds(cval, voxels.dtype, precision), copy=False)
        for axis in outside:
            voxels[(slice(None),) * axis + (places[axis] == OUTSIDE,)] = cval
    return voxels


def _dtype_that_holds(value: float, dtype: np.dtype[Any], precision: Precision) -> np.dtype[Any]:
    """Return `dtype`, or that of the sums where `value` is no voxel of that kind: scipy does not cast cval."""
    with np.errstate(all="ignore"):
        cast = np.asarray(value).astype(dtype)
    if cast == value or (dtype.kind == "f" and np.isnan(value)):
        return dtype
    return np.dtype(np.float32 if precision is Precision.SINGLE else np.float64)


def _indices(runs: Runs) -> Indices:
    return np.concatenate([np.arange(start, stop) for start, stop in runs])
