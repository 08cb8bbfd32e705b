"""Tiles in local memory, for GPUs: what `tile.cl` is made for, and which shape of a work group costs least."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from convolume.addition_chain import additions
from convolume.devices.opencl._jobs import Job, one_voxel

if TYPE_CHECKING:
    from convolume.devices.opencl._jobs import Numbers

__all__ = ["Form", "Limits", "TileJob", "cheapest_job"]

# Extents along b, a and x; the taps of a stencil; where passes along each have weights, and which are boxes.
Planes = tuple[int, ...]
AsBox = tuple[bool, bool, bool]
Form = tuple[tuple[int, int, int], tuple[tuple[int, int, Planes], ...], tuple[tuple[int, ...], ...], AsBox]

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
    as_box : tuple of bool
        Which passes, along b, a and x, are boxes that are summed by an addition chain.
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
    as_box: AsBox = (False, False, False)
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
        if not self.as_box[0]:
            return [("sum", extent)] if self.along_b or self.taps else []
        return [(f"box{first}_", second) for first, second in additions(extent)]

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


@lru_cache(maxsize=256)
def cheapest_job(
    numbers: Numbers, form: Form, outputs: tuple[int, int], limits: Limits, *, wide_planes: bool
) -> TileJob | None:
    """Return the job that costs least; None where there is nothing to weigh, or none fits the device."""
    extents, taps, along, as_box = form
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
            as_box,
            by_value,
            wide_planes,
        )
        for items, columns, rows in product(WORK_ITEMS, COLUMNS, ROWS)
        if columns <= items
    )
    return min((job for job in jobs if job.fits(limits)), key=lambda job: job.cost_a_plane(*outputs), default=None)
