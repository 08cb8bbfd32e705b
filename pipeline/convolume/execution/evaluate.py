"""How a tree of operations is done on a patch of an image: devices are told where what they read stands.

A voxel's value does not depend on the patch that it was computed in. Beyond the faces of the image the boundary mode
says which voxel stands where; what a device declines to look up so is done on copies that are filled here, to the same
bits. So blocks of any shape agree.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.arrays import new_array
from convolume.boundary import OUTSIDE, Runs, longest_run, positions_in, runs_length, source_indices
from convolume.devices import Pass
from convolume.devices._transform import transform_tile
from convolume.layouts import boxes, copy_voxels, row_axis
from convolume.numerics import Precision
from convolume.operations import Arithmetic, Correlate, Operation, Sequence, reach_of
from convolume.regions import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.devices import Device, Voxels
    from convolume.stencil import Stencil

__all__ = ["Patch", "Work", "boxes_of", "evaluate", "fetched", "join"]

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
Box = tuple[tuple[int, int], ...]

# Filled copies of about this size stay in a processor's cache until the device has read them.
_TILE_VOXELS = 2**20


@dataclass(frozen=True, slots=True)
class Patch:
    """Voxels of an image: those that `runs` name on every axis, one run after the other; on the host or on a device."""

    voxels: Voxels
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

    @property
    def step_dtype(self) -> np.dtype[Any]:
        """The dtype of correlations: bytes for booleans, which scipy goes on with as the numbers that they are."""
        return np.dtype(np.uint8) if self.dtype.kind == "b" else self.dtype

    def held(self, patch: Patch) -> Patch:
        """Return a patch where the device wants it for a chain of steps; what is held already stays."""
        voxels = patch.voxels
        return Patch(self.device.hold(voxels, self.dtype), patch.runs) if isinstance(voxels, np.ndarray) else patch


def evaluate(
    work: Work, operation: Operation, patch: Patch, wanted: tuple[Runs, ...], out: Voxels | None = None
) -> Voxels:
    """Return the result of an operation on the voxels that `wanted` names, where the patch is.

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
    out : numpy.ndarray or HeldVoxels, optional
        Takes the result, cast as C does; made where none is given. It is where the patch is.

    Returns
    -------
    numpy.ndarray or HeldVoxels
        The runs of `wanted` one after the other, in the work's dtype (booleans may still be bytes). It may be a view
        of the patch.
    """
    if isinstance(operation, Correlate):
        return _correlate(work, operation, patch, wanted, out)
    if isinstance(operation, Sequence):
        walked = _walk_axes(work, operation, patch, wanted, out)
        if walked is not None:
            return walked
        result = _evaluate_sequence(work, operation, patch, wanted)
    else:
        parts = [evaluate(work, branch, patch, wanted) for branch in operation.operations]
        result = join(work, operation.arithmetic, parts)
    if out is None:
        return result
    out[(slice(None),) * len(out.shape)] = result
    return out


def fetched(voxels: Voxels, out: Array | None = None) -> Array:
    """Return voxels in the host's memory, in `out` where they are elsewhere and it is given."""
    return voxels if isinstance(voxels, np.ndarray) else voxels.fetch(out)


def _walk_axes(
    work: Work, sequence: Sequence, patch: Patch, wanted: tuple[Runs, ...], out: Voxels | None
) -> Voxels | None:
    """Do passes along one axis each in one go; None where they are not such, or the device does not do it."""
    steps = [step for step in sequence.operations if isinstance(step, Correlate)]
    axes = [axis for step in steps for axis, extent in enumerate(step.stencil.shape) if extent > 1]
    is_fitting = 1 < len(steps) == len(sequence.operations) == len(axes) == len(set(axes))
    if any(step.method == "fft" for step in steps):
        return None
    # Two steps, two axes: an axis each, or both with one and none with the other.
    if not is_fitting or any(step.stencil.shape[axis] == 1 for step, axis in zip(steps, axes, strict=True)):
        return None
    if out is None:
        out = _room(patch.voxels, tuple(runs_length(runs) for runs in wanted), work.dtype)
    if out.dtype != work.dtype:
        return None
    for place, box in boxes_of(wanted):
        passes = _passes(work, dict(zip(axes, steps, strict=True)), patch, box)
        if not work.device.correlate_passes(patch.voxels, passes, out[place], work.precision):
            return None
    return out


def _passes(work: Work, step_of: dict[int, Correlate], patch: Patch, box: Box) -> list[Pass]:
    """Return one pass an axis; before its own an axis is whole, after it the box."""
    places = [
        np.arange(runs_length(runs)) if axis in step_of else positions_in(runs, np.arange(*box[axis]))
        for axis, runs in enumerate(patch.runs)
    ]
    passes = []
    for axis, step in step_of.items():
        places[axis] = _places(work, step, patch, box)[axis]
        passes.append(Pass(step.stencil, tuple(places), step.cval))
        places = [np.arange(extent) for extent in passes[-1].out_shape]
    return passes


def _places(work: Work, step: Correlate, patch: Patch, box: Box) -> tuple[Indices, ...]:
    """Return where what a step reads to give a box stands in the patch, axis by axis."""
    halo = step.stencil.halo
    return tuple(
        positions_in(runs, source_indices(a - before, b + after, length, mode) if before + after else np.arange(a, b))
        for runs, (a, b), before, after, length, mode in zip(
            patch.runs, box, halo.before, halo.after, work.image_shape, step.modes, strict=True
        )
    )


def _evaluate_sequence(work: Work, sequence: Sequence, patch: Patch, wanted: tuple[Runs, ...]) -> Voxels:
    needs = [wanted]
    for step in reversed(sequence.operations):
        needs.append(reach_of(step, needs[-1], work.image_shape))
    for step, need in zip(sequence.operations, reversed(needs[:-1]), strict=True):
        patch = Patch(evaluate(work, step, patch, need), need)
    boxes = [(place, _slices(patch, box)) for place, box in boxes_of(wanted)]
    if len(boxes) == 1:
        return patch.voxels[boxes[0][1]]
    result = _room(patch.voxels, tuple(runs_length(runs) for runs in wanted), patch.voxels.dtype)
    for place, slices in boxes:
        result[place] = patch.voxels[slices]
    return result


def _slices(patch: Patch, box: Box) -> tuple[slice, ...]:
    """Return where a box of the image stands in a patch."""
    firsts = [int(positions_in(runs, np.array([a]))[0]) for runs, (a, _) in zip(patch.runs, box, strict=True)]
    return tuple(slice(first, first + b - a) for first, (a, b) in zip(firsts, box, strict=True))


def join(work: Work, arithmetic: Arithmetic, parts: list[Voxels]) -> Voxels:
    """Return the results of several branches, joined voxel by voxel as by `Combine`."""
    first, *others = parts
    if not isinstance(first, np.ndarray):
        return first.joined(arithmetic, others, work.dtype)
    # A branch without steps gives the patch's own voxels: in their dtype, arithmetic would wrap around.
    arrays = [part.astype(work.dtype, copy=False) for part in parts if isinstance(part, np.ndarray)]
    result = new_array(arrays[0].shape, work.dtype)
    result[...] = arrays[0]
    with np.errstate(all="ignore"):
        if arithmetic == "magnitude":
            result *= result
            for array in arrays[1:]:
                result += array * array
            # Whole numbers are cut off, as scipy does.
            np.sqrt(result, out=result, casting="unsafe")
            return result
        join = np.add if arithmetic == "add" else np.subtract
        for array in arrays[1:]:
            join(result, array, out=result)
    return result


def _correlate(
    work: Work, operation: Correlate, patch: Patch, wanted: tuple[Runs, ...], out: Voxels | None = None
) -> Voxels:
    if out is None:
        out = _room(patch.voxels, tuple(runs_length(runs) for runs in wanted), work.step_dtype)
    for place, box in boxes_of(wanted):
        _correlate_box(work, operation, patch, box, out[place])
    return out


def boxes_of(wanted: tuple[Runs, ...]) -> Iterator[tuple[tuple[slice, ...], Box]]:
    """Yield each box that `wanted` names, with its place in the array that holds them all."""
    axes = []
    for runs in wanted:
        ends = np.cumsum([stop - start for start, stop in runs]).tolist()
        axes.append([(slice(end - (b - a), end), (a, b)) for end, (a, b) in zip(ends, runs, strict=True)])
    for box in product(*axes):
        yield tuple(place for place, _ in box), tuple(run for _, run in box)


def _correlate_box(work: Work, operation: Correlate, patch: Patch, box: Box, out: Voxels) -> None:
    """Weigh one box: where nothing is to be filled on the patch itself, else on filled copies."""
    stencil = operation.stencil
    places = _places(work, operation, patch, box)
    if operation.method == "fft":
        _transform_box(work, operation, patch, places, out)
        return
    voxels, step = patch.voxels, Pass(stencil, places, operation.cval)
    is_done = work.device.correlate_passes(voxels, [step], out, work.precision)
    if is_done or not (isinstance(voxels, np.ndarray) and isinstance(out, np.ndarray)):
        return
    for part in _parts(places, [extent - 1 for extent in stencil.shape], out.shape):
        axis = row_axis(out[part].shape)
        padded = _gather(voxels, _needed(places, part, stencil), operation.cval, work.precision, axis)
        work.device.correlate(padded, stencil, out[part], work.precision)


def _transform_box(work: Work, operation: Correlate, patch: Patch, places: tuple[Indices, ...], out: Voxels) -> None:
    """Weigh one box by the Fourier transform, in tiles; a part of a tile is filled when the device reads it.

    Transforms are done on the host: what a device holds goes there and back.
    """
    stencil, voxels = operation.stencil, fetched(patch.voxels)
    result = out if isinstance(out, np.ndarray) else new_array(out.shape, out.dtype)
    for _, tile in BlockGrid(out.shape, transform_tile(out.shape, stencil.shape)):
        needed = _needed(places, tile.slices, stencil)

        def read(part: tuple[slice, ...], needed: list[Indices] = needed) -> Array:
            chosen = [place[of_axis] for place, of_axis in zip(needed, part, strict=True)]
            return _gather(voxels, chosen, operation.cval, work.precision)

        work.device.correlate_by_transform(read, stencil, result[tile.slices], work.precision)
    if result is not out:
        out[(slice(None),) * result.ndim] = work.device.hold(result, result.dtype)


def _needed(places: tuple[Indices, ...], part: tuple[slice, ...], stencil: Stencil) -> list[Indices]:
    """Return where what a part of the output reads stands, axis by axis."""
    return [p[s.start : s.stop + extent - 1] for p, s, extent in zip(places, part, stencil.shape, strict=True)]


def _parts(places: tuple[Indices, ...], margins: list[int], shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
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


def _room(voxels: Voxels, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Voxels:
    """Return new voxels where others are."""
    return new_array(shape, dtype) if isinstance(voxels, np.ndarray) else voxels.room(shape, dtype)


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


def _gather(
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
    if all(len(axis) == 1 and isinstance(axis[0][1], slice) for axis in pieces):
        return voxels[tuple(axis[0][1] for axis in pieces)]
    outside = [place == OUTSIDE for place in places]
    has_outside = any(axis.any() for axis in outside)
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
