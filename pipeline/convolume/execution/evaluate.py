"""How a tree of operations is done on a patch of an image: devices are told where what they read stands.

A voxel's value does not depend on the patch that it was computed in. Beyond the faces of the image the boundary mode
says which voxel stands where; what a device declines to look up so is done on copies that are filled here, to the same
bits. So blocks of any shape agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.arrays import new_array
from convolume.boundary import Runs, positions_in, runs_length, source_indices
from convolume.devices import Pass
from convolume.devices._transform import transform_tile
from convolume.execution.filling import gather, parts_to_fill
from convolume.execution.views import Cut, cut_of_lines, in_rows, moved, thin_axes_first, transposed
from convolume.layouts import row_axis, rows_of
from convolume.numerics import Precision
from convolume.operations import Arithmetic, Correlate, Operation, Sequence, reach_of
from convolume.regions import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.devices import Device, Voxels
    from convolume.stencil import Stencil

__all__ = ["Patch", "Work", "boxes_of", "evaluate", "fetched", "join", "rounds_to"]

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
Box = tuple[tuple[int, int], ...]

# Of images that are filtered at once, and of the blocks of small ones, places are kept for the next call, and with them
# what devices made of them: tables that are as long as an axis, or as all axes before the last two.
_SMALL_VOXELS, _SHORT_AXIS = 2**21, 2**12


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

    def rounds(self, dtype: np.dtype[Any]) -> bool:
        """Say whether sums are rounded and saturated to a dtype where they are summed."""
        return self.precision is not Precision.SCIPY and self.device.rounds(dtype)

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
        Takes the result, cast as C does, or rounded where `rounds_to` says so; made where none is given. It is where
        the patch is.

    Returns
    -------
    numpy.ndarray or HeldVoxels
        The runs of `wanted` one after the other, in the work's dtype (booleans may still be bytes). It may be a view
        of the patch.
    """
    voxels, is_filter = patch.voxels, isinstance(operation, Correlate) or operation != Sequence()
    if is_filter and isinstance(voxels, np.ndarray) and (out is None or isinstance(out, np.ndarray)):
        seen = _seen_otherwise(work, operation, voxels, patch.runs, wanted, out)
        if seen is not None:
            return seen
    if isinstance(operation, Correlate):
        return _correlate(work, operation, patch, wanted, out)
    if isinstance(operation, Sequence):
        walked = _walk_axes(work, operation, patch, wanted, out)
        if walked is not None:
            return walked
        if operation.operations:
            return _evaluate_sequence(work, operation, patch, wanted, out)
        result = _cut_out(patch, wanted)
    else:
        parts = [evaluate(work, branch, patch, wanted) for branch in operation.operations]
        result = join(work, operation.arithmetic, parts)
    if out is None:
        return result
    out[(slice(None),) * len(out.shape)] = result
    return out


def rounds_to(work: Work, operation: Operation, dtype: np.dtype[Any]) -> bool:
    """Say whether `evaluate` gives the bits of `convolume.numerics.cast_result` in an `out` of whole numbers."""
    last = operation
    while isinstance(last, Sequence) and last.operations:
        last = last.operations[-1]
    return isinstance(last, Correlate) and last.method != "fft" and work.rounds(dtype)


def fetched(voxels: Voxels, out: Array | None = None) -> Array:
    """Return voxels in the host's memory, in `out` where they are elsewhere and it is given."""
    return voxels if isinstance(voxels, np.ndarray) else voxels.fetch(out)


def _seen_otherwise(
    work: Work, operation: Operation, voxels: Array, runs: tuple[Runs, ...], wanted: tuple[Runs, ...], out: Array | None
) -> Array | None:
    """Do an operation along other axes, where that gives better rows; None where it does not."""
    order, cut = thin_axes_first(work.image_shape, operation), cut_of_lines(runs, wanted, operation)
    if not order and not cut:
        return None
    if out is None:
        out = new_array(tuple(map(runs_length, wanted)), work.step_dtype)
    if order:
        turned = Patch(voxels.transpose(order), moved(runs, order))
        turned_work = replace(work, image_shape=moved(work.image_shape, order))
        evaluate(turned_work, transposed(operation, order), turned, moved(wanted, order), out.transpose(order))
    elif cut:
        _evaluate_rows(work, operation, Patch(voxels, runs), wanted, cut, out)
    return out


def _evaluate_rows(
    work: Work, operation: Operation, patch: Patch, wanted: tuple[Runs, ...], cut: Cut, out: Array
) -> None:
    """Do an operation on the rows that lines are cut into, and on what is left of them at both ends."""
    *others, ((start, stop),) = wanted
    for first, last in ((start, cut.first), (cut.stop, stop)):
        if first < last:
            part = out[..., first - start : last - start]
            evaluate(work, operation, patch, (*others, ((first, last),)), part)
    ((low, _),), reach = patch.runs[-1], cut.before + cut.after
    lines = fetched(patch.voxels)[..., cut.first - cut.before - low :]
    rows, row = ((0, cut.count),), ((0, cut.length + reach),)
    evaluate(
        replace(work, image_shape=(*work.image_shape[:-1], cut.count, cut.length + reach)),
        in_rows(operation),
        Patch(rows_of(lines, cut.count, cut.length, reach), (*patch.runs[:-1], rows, row)),
        (*others, rows, ((cut.before, cut.before + cut.length),)),
        rows_of(out[..., cut.first - start :], cut.count, cut.length),
    )


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
    if out.dtype != work.dtype and not work.rounds(out.dtype):
        return None
    for place, box in boxes_of(wanted):
        passes = _Steps(tuple(steps), tuple(axes), work.image_shape, patch.runs, box).passes()
        if not work.device.correlate_passes(patch.voxels, passes, out[place], work.precision):
            return None
    return out


@dataclass(frozen=True, slots=True)
class _Steps:
    """Correlations one after the other, each along the axis beside it, or one along all; and where they are done."""

    steps: tuple[Correlate, ...]
    axes: tuple[int, ...]
    image_shape: tuple[int, ...]
    runs: tuple[Runs, ...]
    box: Box

    def passes(self) -> tuple[Pass, ...]:
        """Return what a device is told: the same passes where a whole or a small image is filtered again."""
        shape = self.image_shape
        is_whole = self.box == tuple((0, extent) for extent in shape)
        is_short = max(*shape, prod(shape[:-2])) <= _SHORT_AXIS
        return _kept_passes(self) if is_short and (is_whole or prod(shape) <= _SMALL_VOXELS) else self.make()

    def make(self) -> tuple[Pass, ...]:
        """Return one pass a step; before its own an axis is whole, after it the box."""
        if not self.axes:
            (step,) = self.steps
            return (Pass(step.stencil, tuple(self._places(step, axis) for axis in range(len(self.runs))), step.cval),)
        places = [
            np.arange(runs_length(runs)) if axis in self.axes else positions_in(runs, np.arange(*self.box[axis]))
            for axis, runs in enumerate(self.runs)
        ]
        passes = []
        for axis, step in zip(self.axes, self.steps, strict=True):
            places[axis] = self._places(step, axis)
            passes.append(Pass(step.stencil, tuple(places), step.cval))
            places = [np.arange(extent) for extent in passes[-1].out_shape]
        return tuple(passes)

    def _places(self, step: Correlate, axis: int) -> Indices:
        """Return where what a step reads to give the box stands in the patch."""
        (start, stop), halo = self.box[axis], step.stencil.halo
        before, after = halo.before[axis], halo.after[axis]
        if before == after == 0:
            return positions_in(self.runs[axis], np.arange(start, stop))
        read = source_indices(start - before, stop + after, self.image_shape[axis], step.modes[axis])
        return positions_in(self.runs[axis], read)


@lru_cache(maxsize=64)
def _kept_passes(steps: _Steps) -> tuple[Pass, ...]:
    return steps.make()


def _evaluate_sequence(
    work: Work, sequence: Sequence, patch: Patch, wanted: tuple[Runs, ...], out: Voxels | None
) -> Voxels:
    *steps, last = sequence.operations
    needs = [reach_of(last, wanted, work.image_shape)]
    for step in reversed(steps[1:]):
        needs.append(reach_of(step, needs[-1], work.image_shape))
    for step, need in zip(steps, reversed(needs), strict=False):
        patch = Patch(evaluate(work, step, patch, need), need)
    return evaluate(work, last, patch, wanted, out)


def _cut_out(patch: Patch, wanted: tuple[Runs, ...]) -> Voxels:
    """Return what `wanted` names of a patch, as a view where it lies in one piece."""
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
    stencil, voxels = operation.stencil, patch.voxels
    (step,) = _Steps((operation,), (), work.image_shape, patch.runs, box).passes()
    places = step.places
    if operation.method == "fft":
        _transform_box(work, operation, patch, places, out)
        return
    is_done = work.device.correlate_passes(voxels, [step], out, work.precision)
    if is_done or not (isinstance(voxels, np.ndarray) and isinstance(out, np.ndarray)):
        return
    for part in parts_to_fill(places, [extent - 1 for extent in stencil.shape], out.shape):
        axis = row_axis(out[part].shape)
        padded = gather(voxels, _needed(places, part, stencil), operation.cval, work.precision, axis)
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
            return gather(voxels, chosen, operation.cval, work.precision)

        work.device.correlate_by_transform(read, stencil, result[tile.slices], work.precision)
    if result is not out:
        out[(slice(None),) * result.ndim] = work.device.hold(result, result.dtype)


def _needed(places: tuple[Indices, ...], part: tuple[slice, ...], stencil: Stencil) -> list[Indices]:
    """Return where what a part of the output reads stands, axis by axis."""
    return [p[s.start : s.stop + extent - 1] for p, s, extent in zip(places, part, stencil.shape, strict=True)]


def _room(voxels: Voxels, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Voxels:
    """Return new voxels where others are."""
    return new_array(shape, dtype) if isinstance(voxels, np.ndarray) else voxels.room(shape, dtype)
