"""Correlations over one axis after the other, done in one walk through memory: what `walk.cl` is made for and told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyopencl as cl

from convolume.devices.opencl._arrangement import (
    Arguments,
    are_whole,
    is_lost,
    lead_of,
    outer_axes,
    pitches,
    vector_width,
)
from convolume.devices.opencl._jobs import Job, Numbers, Traits
from convolume.devices.opencl._lines import (
    LINE_VOXELS,
    Line,
    Row,
    columns_of,
    offsets_of,
    pitch_of,
    read_by,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convolume.devices import Pass

__all__ = ["Taps", "Walk", "WalkJob", "walks_of"]

Array = npt.NDArray[Any]

# Rows that a work item owns.
COUNTS = (1, 2, 4, 8)
# Outputs and vectors whose sums are kept in registers, 32 or 16.
BYTES_WITH_32_REGISTERS = 64
WIDE_SHAPE, NARROW_SHAPE = (8, 1), (4, 2)
# Passes before the one along x, and whether that one is missing.
WALKS = ((1, False), (2, False), (1, True), (2, True))
MAX_UNROLLED_TAPS = 32
# Longer boxes have a program of their own.
MOST_OF_BOX = 7
# Passes along b over so many voxels wait for the memory, longer ones for their sums.
FEW_LINES = 8
# Rows, ring and weights stay in the second-level cache of a core.
RING_BYTES = 512 * 1024
LEAST_TILE = 64


@dataclass(frozen=True, slots=True)
class Taps:
    """Where weights along an axis differ from zero; without offsets, everywhere on an extent that is an argument."""

    offsets: tuple[int, ...] = ()
    as_box: bool = False

    @classmethod
    def of(cls, line: Line, least_looped: int) -> Self | None:
        """Return the taps of a line; None where there are none, or too many with gaps, or of a box."""
        weights = line.weights
        if line.as_box:
            return cls(tuple(range(len(weights))), as_box=True) if len(weights) <= MOST_OF_BOX else None
        offsets = tuple(int(offset) for offset in np.flatnonzero(weights))
        if len(offsets) == len(weights) and len(offsets) >= least_looped:
            return cls()
        return cls(offsets) if 0 < len(offsets) <= MAX_UNROLLED_TAPS else None

    @property
    def size(self) -> int:
        """Lines from the first tap to the last."""
        return self.offsets[-1] + 1

    @property
    def are_looped(self) -> bool:
        """Say whether one program serves all extents."""
        return not self.offsets

    def lines(self, count: int) -> Iterator[tuple[int, list[int]]]:
        """Yield the lines that so many neighbouring outputs need, each with the outputs that it serves."""
        for line in range(self.offsets[-1] + count):
            outputs = [output for output in range(count) if line - output in self.offsets]
            if outputs:
                yield line, outputs

    def unrolled(self, count: int) -> int:
        """Return how many multiply-adds stand in the source for so many outputs."""
        return count * (len(self.offsets) or count)


@dataclass(frozen=True, slots=True)
class WalkJob(Job):
    """A program for passes along a, b and x; those along a and x may be missing.

    Parameters
    ----------
    rows : int
        Rows along a that a work item owns.
    rows_at_once : int
        Of them, those that are computed at a time.
    steps : int
        Outputs along b that are computed at a time.
    a, b, x : Taps
        Of each pass.
    """

    template: ClassVar[str] = "walk.cl"
    rows: int
    rows_at_once: int
    steps: int
    a: Taps | None
    b: Taps
    x: Taps | None

    @property
    def unrolled_sums(self) -> int:
        """Multiply-adds that stand in the source."""
        counts = ((self.a, self.rows_at_once), (self.b, self.steps), (self.x, self.steps))
        return self.vectors * sum(taps.unrolled(count) for taps, count in counts if taps)


@dataclass(frozen=True)
class Walk:
    """One call of the program: its job, the part of the source that it reads, and its passes by their roles."""

    job: WalkJob
    voxels: Array
    out: Array
    a: Line | None
    b: Line
    x: Line | None
    row: Row

    @classmethod
    def of(cls, voxels: Array, passes: Sequence[Line], out: Array, numbers: Numbers, traits: Traits) -> Self | None:
        """Return the walk for passes; None where it does not serve."""
        last = voxels.ndim - 1
        *ahead, final = passes
        x = final if final.axis == last else None
        outer = ahead if x else list(passes)
        if not outer and last:
            outer = [Line.of_nothing(last - 1, out.shape[last - 1])]
        width = vector_width(numbers, traits)
        if (len(outer), x is None) not in WALKS or any(step.axis == last for step in outer) or width == 1:
            return None
        a, b = outer if len(outer) > 1 else (None, outer[0])
        between = np.dtype(numbers.between)
        if any(is_lost(step.places, step.cval, between, numbers) for step in (b, x) if step):
            return None
        if a is None and not np.can_cast(np.dtype(numbers.source), between, "safe"):
            return None
        row = Row.of(x.places) if x else Row.of_nothing(voxels.shape[-1])
        if row is None or min(row.width, out.shape[-1]) < width:
            return None
        job = _job(numbers, traits, (a, b, x), out, min(row.width, out.shape[-1]))
        return cls(job, voxels[..., row.voxels], out, a, b, x, row) if job else None

    @property
    def ahead(self) -> int:
        """Steps for which the ring is filled while rows are finished."""
        return self.job.steps if len(self.b.weights) <= FEW_LINES else 0

    @property
    def slots(self) -> int:
        """Coordinates along b whose rows stand in the ring: an odd number, for the reason of `pitch_of`."""
        return (len(self.b.weights) + self.job.steps - 1 + self.ahead) | 1

    @property
    def local_bytes(self) -> int:
        """Local memory that a work item needs."""
        return self._ring_bytes + self._gathered_bytes

    @property
    def _ring_bytes(self) -> int:
        """What the ring takes, and the lines behind it."""
        voxels = self._ring_voxels + self.job.steps * self._line_pitch
        return voxels * np.dtype(self.job.numbers.between).itemsize

    @property
    def _gathered_bytes(self) -> int:
        """What results take that are computed at a time."""
        return int(self.job.steps * self.out.shape[-1] * np.dtype(self.job.numbers.target).itemsize)

    @property
    def _ring_voxels(self) -> int:
        slot, row, _ = self._ring_pitches
        return max(self.slots * slot, self.job.rows * row)

    @property
    def _ring_pitches(self) -> tuple[int, int, int]:
        """Return how far slots, rows and columns of the ring are from each other."""
        # The first column may be a part of one.
        columns = -(-self.row.width // self.job.span) + 1
        if len(self.b.weights) <= FEW_LINES:
            column = self.slots * self.job.span
            return self.job.span, (columns | 1) * column, column
        row = pitch_of(columns * self.job.span)
        return self.job.rows * row, row, self.job.span

    @property
    def _line_pitch(self) -> int:
        return pitch_of(self.row.width + len(self.row.before) + len(self.row.after) + LINE_VOXELS)

    def _lead(self, source: Array) -> int:
        """Return where columns begin: loads that cross lines of the cache count where a pass has many."""
        is_wanted = self.job.on_cpu and self.job.a and self.job.a.are_looped
        return lead_of(source, self.job.span) if is_wanted else 0

    def arguments(self, source: Array, target: Array, compute_units: int) -> Arguments:
        """Return what the program is called with; `source` and `target` may lie otherwise than `voxels` and `out`."""
        own = [step.axis for step in (self.a, self.b) if step]
        axes, count = outer_axes(source, target, tuple(x for x in range(source.ndim - 1) if x not in own))
        from_pitch, to_pitch = pitches(source), pitches(target)
        height = target.shape[self.a.axis] if self.a else 1
        depth = target.shape[self.b.axis]
        rows = offsets_of(self.a, from_pitch) if self.a else np.zeros(1, np.int64)
        places = np.concatenate([rows, offsets_of(self.b, from_pitch), self.row.before, self.row.after])
        weights = [step.weights if step else np.ones(1) for step in (self.a, self.b, self.x)]
        blocks = -(-height // self.job.rows)
        lead, before = self._lead(source), len(self.row.before)
        integers = (
            len(axes) // 3,
            *map(len, weights),
            height,
            depth,
            self.row.width,
            target.shape[-1],
            lead,
            before,
            len(self.row.after),
            self.slots,
            self.ahead,
            *self._ring_pitches,
            # Columns stand in them as they do in lines of the cache.
            self._ring_voxels + before + -(before + lead) % LINE_VOXELS,
            self._line_pitch,
        )
        longs = (from_pitch[self.b.axis], to_pitch[self.a.axis] if self.a else 0, to_pitch[self.b.axis])
        constants = [step.cval if step else 0.0 for step in (self.a, self.b, self.x)]
        sums = np.dtype(self.job.numbers.sum).type
        with np.errstate(over="ignore"):
            return Arguments(
                (np.concatenate(weights).astype(sums), places.astype(np.int64), axes),
                (
                    *map(np.int32, integers),
                    *map(np.int64, longs),
                    np.int32(are_whole(target)),
                    *map(sums, constants),
                    cl.LocalMemory(self._ring_bytes),
                    cl.LocalMemory(4 * self.slots),
                    cl.LocalMemory(self._gathered_bytes),
                ),
                (blocks, self._segments(depth, blocks * count, compute_units), count),
            )

    def _segments(self, depth: int, blocks: int, compute_units: int) -> int:
        """Return into how many walks one along b is cut, so that every processor has some."""
        most = depth // max(self.job.steps, 4 * len(self.b.weights))
        return max(1, min(most, 4 * compute_units // blocks))


def walks_of(
    voxels: Array, passes: Sequence[Pass], out: Array, numbers: Numbers, limits: tuple[Traits, int]
) -> list[Walk]:
    """Return walks that do the passes, one for each tile along x whose rows fit local memory; [] if they do not fit.

    Parameters
    ----------
    voxels, passes, out
        As `convolume.devices.Device.correlate_passes` takes them, in rows that a program can read and write.
    numbers : Numbers
        Dtypes.
    limits : tuple of Traits and int
        Of the device; bytes of its local memory.
    """
    stencils = [step.stencil for step in passes]
    if any(stencil.by_lines or max(stencil.shape) < stencil.size for stencil in stencils):
        # The ones are summed in an order of their own, the others along several axes.
        return []
    lines = [Line.of(step, numbers) for step in passes]
    axes = [line.axis for line in lines]
    if all(line.as_box for line in lines) and (len(axes) == 1 or axes == [axes[0], voxels.ndim - 1]):
        # The program for long boxes goes through memory once, too, and is quicker.
        return []
    return _tiles(read_by(voxels, passes, lines), lines, out, numbers, limits)


def _tiles(
    voxels: Array, lines: Sequence[Line], out: Array, numbers: Numbers, limits: tuple[Traits, int]
) -> list[Walk]:
    traits, local_bytes = limits
    walk = Walk.of(voxels, lines, out, numbers, traits)
    if walk is None or walk.local_bytes <= min(RING_BYTES, local_bytes):
        return [walk] if walk else []
    width = out.shape[-1]
    half = -(-width // 2 // LINE_VOXELS) * LINE_VOXELS
    if half < LEAST_TILE:
        return []
    parts = [
        _tiles(*columns_of(voxels, lines, slice(start, stop)), out[..., start:stop], numbers, limits)
        for start, stop in ((0, half), (half, width))
    ]
    return [walk for part in parts for walk in part] if all(parts) else []


def _job(
    numbers: Numbers,
    traits: Traits,
    passes: tuple[Line | None, Line, Line | None],
    out: Array,
    voxels: int,
) -> WalkJob | None:
    a, b, x = passes
    width = vector_width(numbers, traits)
    most, vectors = WIDE_SHAPE if traits.vector_bytes >= BYTES_WITH_32_REGISTERS else NARROW_SHAPE
    vectors = vectors if voxels >= width * vectors else 1
    rows = max(count for count in COUNTS if count <= out.shape[a.axis]) if a else 1
    at_once = min(rows, most)
    steps = max(count for count in COUNTS if count <= min(most, out.shape[b.axis]))
    taps = (
        Taps.of(a, at_once) if a else None,
        Taps.of(b, steps),
        Taps.of(x, 1) if x else None,
    )
    if taps[1] is None or any(step and not held for step, held in zip(passes, taps, strict=True)):
        return None
    common = (numbers, traits.on_cpu, traits.loose_pointers, width, vectors)
    return WalkJob(*common, rows, at_once, steps, taps[0], taps[1], taps[2])
