"""Tiles in local memory, for GPUs: what `tile.cl` is made for, which stencils it serves, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from convolume.boundary import OUTSIDE
from convolume.devices.opencl._arrangement import Laid, pitches
from convolume.devices.opencl._jobs import Job, one_voxel
from convolume.devices.opencl._lines import halves_of, parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.devices import Pass
    from convolume.devices.opencl._jobs import Numbers
    from convolume.stencil import Stencil

__all__ = ["Limits", "Tile", "TileJob", "cheapest_job", "tile_of"]

Indices = npt.NDArray[np.intp]
Roles = tuple[int | None, int | None, int]
# Extents along b, a and x; the taps of a stencil; where passes along each have weights, and which are boxes.
Planes = tuple[int, ...]
ByHalves = tuple[bool, bool, bool]
Form = tuple[tuple[int, int, int], tuple[tuple[int, int, Planes], ...], tuple[tuple[int, ...], ...], ByHalves]
# That, the weights one after the other, and the constants of b, a and x.
Told = tuple[Form, npt.NDArray[np.float64], list[float]]

MAX_UNROLLED_SUMS = 2400
# Registers of 32 bits of a work item: most for its sums, and about what it needs beside sums and loads.
SUM_REGISTERS, OTHER_REGISTERS = 96, 32
# What every GPU has.
LOCAL_BYTES, CONSTANT_BYTES = 48 * 1024, 48 * 1024
# Of a group; of shapes that cost the same the first is taken. Only passes, which reach far, gain by large groups.
WORK_ITEMS, COLUMNS, ROWS = (256, 128, 64, 512), (64, 32, 128, 256), (4, 2, 8, 1)
MOST_WORK_ITEMS_OF_STENCILS = 256
# What a multiprocessor of most GPUs has for the groups that it runs at a time, and the work items that keep it busy.
UNIT_REGISTERS, UNIT_LOCAL_BYTES, UNIT_WORK_ITEMS = 65536, 192 * 1024, 2048
BUSY_WORK_ITEMS = 512
# A load costs about so many instructions, for its address and its place in local memory; a line of a tile as many
# loads more, for it begins and ends within a sector of memory and within a warp.
LOAD_INSTRUCTIONS, LINE_LOADS = 4, 16
# Bytes of a call's arguments beside the weights, at most.
OTHER_PARAMETER_BYTES = 128
# Places in a plane beyond which they take 64 bits.
LAST_SHORT_PLACE = 2**31 - 1
# Outputs beyond which shapes of groups are not told apart, so that blocks of many sizes share programs.
LARGE = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device allows a work group."""

    local_bytes: int
    work_items: int
    compute_units: int
    parameter_bytes: int


@dataclass(frozen=True, slots=True)
class TileJob(Job):
    """A program for one stencil of up to three axes, or for passes along b, a and x, done a, b, x.

    Parameters
    ----------
    columns, lines : int
        Work items of a group along x and along a.
    rows : int
        Outputs along a of each work item.
    extents : tuple of int
        Of the stencil, or of the passes, along b, a and x.
    taps : tuple of (a, x, planes)
        Weights of a stencil that are not zero; none for passes.
    along_b, along_a, along_x : tuple of int
        Weights of each pass that are not zero; none where the pass is missing.
    by_halves : tuple of bool
        Which passes, along b, a and x, are boxes that are summed by halves.
    weights_by_value : bool
        Weights are an argument as they are, not a list in constant memory.
    wide_planes : bool
        Places within a plane of the source take 64 bits.
    """

    template: ClassVar[str] = "tile.cl"
    columns: int
    lines: int
    rows: int
    extents: tuple[int, int, int]
    taps: tuple[tuple[int, int, Planes], ...] = ()
    along_b: tuple[int, ...] = ()
    along_a: tuple[int, ...] = ()
    along_x: tuple[int, ...] = ()
    by_halves: ByHalves = (False, False, False)
    weights_by_value: bool = False
    wide_planes: bool = False

    @property
    def is_chain(self) -> bool:
        """Say whether it does passes: a work item then owns a column of the tile, its halo along x included."""
        return not self.taps

    @property
    def outputs_x(self) -> int:
        """Outputs of a group along x; of a pass along x four at a time."""
        return (self.columns - self.extents[2] + 1) // 4 * 4 if self.along_x else self.columns

    @property
    def outputs_a(self) -> int:
        """Outputs of a group along a."""
        return self.lines * self.rows

    @property
    def fours(self) -> int:
        """Fours of outputs of a row."""
        return self.outputs_x // 4

    @property
    def tile_width(self) -> int:
        """Voxels of a tile along x; where the last lines of a strip end is of no account."""
        return self.columns + (0 if self.is_chain else self.extents[2] - 1)

    @property
    def tile_height(self) -> int:
        """Voxels of a tile along a."""
        return self.outputs_a + self.extents[1] - 1

    @property
    def strip_voxels(self) -> int:
        """What the pass along x reads; the last four may reach beyond."""
        return self.outputs_a * self.columns + 4 if self.along_x else 0

    @property
    def loads(self) -> int:
        """Voxels of each plane that a work item loads."""
        return -(-self.tile_width * self.tile_height // self.work_items)

    @property
    def weights_a_plane(self) -> int:
        """Distance of the weights of neighbouring planes."""
        return 1 if self.is_chain else self.extents[1] * self.extents[2]

    @property
    def weight_count(self) -> int:
        """Weights, zeros included."""
        return sum(self.extents) if self.is_chain else prod(self.extents)

    @property
    def kept(self) -> list[tuple[str, int]]:
        """Names of the sums of each row that wait for planes to come, and for how many."""
        extent = self.extents[0]
        if not self.by_halves[0]:
            return [("sum", extent)] if self.along_b or self.taps else []
        longer = [(f"longer{length}_", length) for length, begin in self.parts(extent) if begin]
        return [(f"half{length}_", length) for length in self.halves(extent)] + longer

    def halves(self, extent: int) -> list[int]:
        """Return the lengths of sums that those of twice the length are made of."""
        return halves_of(extent)

    def parts(self, extent: int) -> list[tuple[int, int]]:
        """Return the length and beginning of what a box is made of."""
        return parts_of(extent)

    @property
    def tile_lines(self) -> list[list[tuple[int, list[tuple[int, Planes]]]]]:
        """What is loaded from every line of a tile: an x, and the rows that use it with their planes of weights."""
        planes_at = {(y, x): planes for y, x, planes in self.taps}
        places_x = sorted({x for _, x in planes_at})
        lines = []
        for line in range(self.extents[1] + self.rows - 1):
            used = [
                (x, [(row, planes_at[line - row, x]) for row in range(self.rows) if (line - row, x) in planes_at])
                for x in places_x
            ]
            lines.append([(x, uses) for x, uses in used if uses])
        return lines

    @property
    def taps_a_voxel(self) -> int:
        """Multiply-adds of an output."""
        along = len(self.along_a) + len(self.along_b) + len(self.along_x)
        return sum(len(planes) for *_, planes in self.taps) + along

    @property
    def unrolled_sums(self) -> int:
        """Multiply-adds that stand in the source."""
        return self.rows * self.taps_a_voxel

    @property
    def local_bytes(self) -> int:
        """Local memory of a group: two tiles, and one strip; the strip begins at a multiple of its fours."""
        tiles = -(-2 * self.tile_width * self.tile_height // 4) * 4
        return (tiles + self.strip_voxels) * np.dtype(self.numbers.sum).itemsize

    @property
    def work_items(self) -> int:
        """Work items of a group."""
        return self.columns * self.lines

    @property
    def sum_registers(self) -> int:
        """Registers of 32 bits for the sums of a work item."""
        return self.rows * self.extents[0] * np.dtype(self.numbers.sum).itemsize // 4

    @property
    def groups_a_unit(self) -> int:
        """About how many groups a multiprocessor runs at a time; loads take a register and that of their place."""
        registers = self.work_items * (self.sum_registers + 2 * self.loads + OTHER_REGISTERS)
        return max(
            1,
            min(UNIT_REGISTERS // registers, UNIT_LOCAL_BYTES // self.local_bytes, UNIT_WORK_ITEMS // self.work_items),
        )

    def fits(self, limits: Limits) -> bool:
        """Say whether a device can run it without spilling."""
        return (
            self.outputs_x > 0
            and self.work_items <= limits.work_items
            and (self.is_chain or self.work_items <= MOST_WORK_ITEMS_OF_STENCILS)
            and self.local_bytes <= min(limits.local_bytes, LOCAL_BYTES)
            and self.sum_registers <= SUM_REGISTERS
            and self.unrolled_sums <= MAX_UNROLLED_SUMS
        )

    def groups(self, height: int, width: int) -> tuple[int, int]:
        """Return how many groups stand beside each other along x and along a."""
        return -(-width // self.outputs_x), -(-height // self.outputs_a)

    def cost_a_plane(self, height: int, width: int) -> float:
        """Return about how many instructions a plane of outputs takes; more where few work items wait for loads."""
        loads = LOAD_INSTRUCTIONS * (self.tile_width + LINE_LOADS) * self.tile_height
        sums = self.work_items * self.rows * (self.taps_a_voxel - len(self.along_x))
        sums += self.outputs_a * self.outputs_x * len(self.along_x)
        waiting = max(1.0, BUSY_WORK_ITEMS / (self.groups_a_unit * self.work_items))
        return prod(self.groups(height, width)) * (loads + sums) * waiting


@dataclass(frozen=True)
class Tile:
    """One call of the program.

    Parameters
    ----------
    job : TileJob
        The program.
    arguments : list
        Tables and numbers, behind source and target: weights; where b, a and x read; where each image that they span
        begins in source and target; extents, marches, pitches of the target, and what stands beyond the faces.
    groups : int
        Work groups.
    """

    job: TileJob
    arguments: list[Any]
    groups: int

    @property
    def size(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Work items, and those of a group; groups stand in one line, for only that may be as long as it needs."""
        return (self.groups * self.job.columns, self.job.lines), (self.job.columns, self.job.lines)


def tile_of(source: Laid, passes: Sequence[Pass], target: Laid, numbers: Numbers, limits: Limits) -> Tile | None:
    """Return the call that does one pass, or several one after the other; None where the program does not serve."""
    weighed = [[axis for axis, extent in enumerate(step.stencil.shape) if extent > 1] for step in passes]
    places, roles = _places(passes, weighed), _roles(weighed, target.shape)
    if places is None or roles is None or any(step.stencil.by_lines for step in passes):
        return None
    boxes = [step.stencil.adds_by_halves(exact=numbers.exact) for step in passes]
    is_chain = len(passes) > 1 or boxes[0]
    form, weights, cvals = _of_chain(passes, weighed, boxes, roles) if is_chain else _of_stencil(passes[0])
    depth, height, width = (1 if axis is None else target.shape[axis] for axis in roles)
    offsets = [_offsets(axis, places, source) for axis in roles]
    is_wide = sum(int(each.max()) for each in offsets[1:]) > LAST_SHORT_PLACE
    job = cheapest_job(numbers, form, (_rounded(height), _rounded(width)), limits, wide_planes=is_wide)
    if job is None:
        return None
    outer = _outer([axis for axis in range(len(places)) if axis not in roles], places, source, target)
    marches = prod(job.groups(height, width)) * len(outer)
    segments = _segments(depth, job, marches, limits)
    sums = np.dtype(numbers.sum).type
    with np.errstate(over="ignore"):
        arguments = [
            weights.astype(sums).tobytes() if job.weights_by_value else weights.astype(sums),
            np.concatenate(offsets),
            outer,
            *map(np.int32, (depth, height, width, segments)),
            *(np.int64(0 if axis is None else pitches(target)[axis]) for axis in roles[:2]),
            *map(sums, cvals),
        ]
    return Tile(job, arguments, marches * segments)


def _places(passes: Sequence[Pass], weighed: list[list[int]]) -> list[Indices] | None:
    """Return where passes read on each axis; None where several do not take all other axes as they are."""
    places = list(passes[0].places)
    for step, own in zip(passes, weighed, strict=True):
        if len(passes) > 1 and len(own) != 1:
            return None
        for axis, held in enumerate(step.places):
            if axis in own:
                places[axis] = held
            elif (step is not passes[0] or [axis] in weighed) and not np.array_equal(held, np.arange(len(held))):
                return None
    return places


def _roles(weighed: list[list[int]], shape: tuple[int, ...]) -> Roles | None:
    """Return which axes are b, a and x: of passes a comes first, of a stencil's axes b; None if they are not such."""
    last = len(shape) - 1
    flat = [axis for axes in weighed for axis in axes]
    own = [axis for axis in flat if axis != last]
    if len(own) > 2 or len(set(flat)) < len(flat) or (last in flat and flat[-1] != last):  # noqa: PLR2004 (b and a)
        return None
    if len(weighed) > 1:
        own.reverse()
    free = sorted(set(range(last)) - set(own), key=lambda axis: (shape[axis] > 1, axis), reverse=True)
    b, a = [*own, *free, None, None][:2]
    # What reaches along x alone needs lines of one plane.
    return (b, a, last) if own else (a, b, last)


def _of_stencil(step: Pass) -> Told:
    return _form_of(step.stencil), step.stencil.weights.ravel(), [step.cval] * 3


@lru_cache(maxsize=256)
def _form_of(stencil: Stencil) -> Form:
    """Return the extents along b, a and x of a stencil over three axes or fewer, and its taps."""
    *outer, x = stencil.shape
    b, a = [*(extent for extent in outer if extent > 1), 1, 1][:2]
    filled = stencil.weights.reshape(b, a, x) != 0
    places = np.argwhere(filled.any(axis=0)).tolist()
    taps = tuple((y, x, tuple(np.flatnonzero(filled[:, y, x]).tolist())) for y, x in places)
    return (b, a, x), taps, (), (False, False, False)


def _of_chain(passes: Sequence[Pass], weighed: list[list[int]], boxes: list[bool], roles: Roles) -> Told:
    step_of: dict[int | None, Pass] = {axes[0]: step for step, axes in zip(passes, weighed, strict=True)}
    box_of: dict[int | None, bool] = {axes[0]: box for box, axes in zip(boxes, weighed, strict=True)}
    steps = [step_of.get(axis) for axis in roles]
    b, a, x = lines = [step.stencil.weights.ravel() if step else np.zeros(1) for step in steps]
    box_b, box_a, box_x = (box_of.get(axis, False) for axis in roles)
    along = tuple(tuple(np.flatnonzero(line).tolist()) for line in lines)
    cvals = [step.cval if step else 0.0 for step in steps]
    return ((len(b), len(a), len(x)), (), along, (box_b, box_a, box_x)), np.concatenate(lines), cvals


@lru_cache(maxsize=256)
def cheapest_job(
    numbers: Numbers, form: Form, outputs: tuple[int, int], limits: Limits, *, wide_planes: bool
) -> TileJob | None:
    """Return the job that costs least; None where there is nothing to weigh, or none fits the device."""
    extents, taps, along, by_halves = form
    weight_bytes = (sum(extents) if along else prod(extents)) * np.dtype(numbers.sum).itemsize
    if weight_bytes > CONSTANT_BYTES or not (taps or along):
        return None
    if any(extent > 1 and not held for extent, held in zip(extents, along, strict=False)):
        return None
    by_value = weight_bytes + OTHER_PARAMETER_BYTES <= limits.parameter_bytes
    along_b, along_a, along_x = along or ((), (), ())
    jobs = (
        TileJob(
            *one_voxel(numbers),
            columns,
            items // columns,
            rows,
            extents,
            taps,
            along_b,
            along_a,
            along_x,
            by_halves,
            by_value,
            wide_planes,
        )
        for items, columns, rows in product(WORK_ITEMS, COLUMNS, ROWS)
        if columns <= items
    )
    return min((job for job in jobs if job.fits(limits)), key=lambda job: job.cost_a_plane(*outputs), default=None)


def _rounded(outputs: int) -> int:
    """Return about how many outputs there are: the next power of two."""
    return min(1 << (outputs - 1).bit_length(), LARGE)


def _segments(depth: int, job: TileJob, groups: int, limits: Limits) -> int:
    """Return into how many marches one along b is cut, each with a halo of its own, so that all end soonest."""
    counts = np.arange(1, depth + 1)
    rounds = -(-groups * counts // (job.groups_a_unit * limits.compute_units))
    planes = -(-depth // counts) + job.extents[0] - 1
    return int(counts[np.argmin(rounds * planes)])


def _offsets(axis: int | None, places: list[Indices], source: Laid) -> npt.NDArray[np.int64]:
    """Return the places of an axis in elements of the source."""
    if axis is None:
        return np.zeros(1, np.int64)
    return np.where(places[axis] == OUTSIDE, OUTSIDE, places[axis] * pitches(source)[axis])


def _outer(axes: list[int], places: list[Indices], source: Laid, target: Laid) -> npt.NDArray[np.int64]:
    """Return where every image over these axes begins, in source and target."""
    starts = np.zeros((1, 2), np.int64)
    for axis in axes:
        steps = np.stack(
            [_offsets(axis, places, source), np.arange(target.shape[axis]) * pitches(target)[axis]], axis=1
        )
        starts = (starts[:, np.newaxis] + steps).reshape(-1, 2)
    return starts
