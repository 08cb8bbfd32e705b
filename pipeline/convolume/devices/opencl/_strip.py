"""Correlations by a program of their own: what `strip.cl` is made for and told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pyopencl as cl

from convolume.arrays import CACHE_LINE_BYTES
from convolume.boundary import OUTSIDE, longest_run
from convolume.devices.opencl._arrangement import Arguments, are_whole, pitches
from convolume.devices.opencl._jobs import Job, Numbers, Traits
from convolume.devices.opencl._lines import LINE_VOXELS, pitch_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.devices import Pass
    from convolume.devices.opencl._variants import Variant
    from convolume.stencil import Stencil

__all__ = ["StripJob", "strip_arguments", "strip_job"]

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
Places = npt.NDArray[np.int64]

# The smallest vectors that OpenCL has.
LEAST_VECTOR = 2
# Multiply-adds that stand in a program; compiling takes a millisecond or two for each.
MAX_UNROLLED_SUMS = 2400
# Work items for each processor, so that none waits for the others.
ITEMS_A_UNIT = 16
# With more, a program waits for sums; with fewer for memory, and fetches more at a time into the second level.
MOST_TAPS_BOUND_BY_MEMORY = 16
# Of a ring, which stays in the second-level cache of a core.
RING_BYTES = 256 * 1024
# Rows that are read together, from one piece of memory: fewer read more of them twice, more leave the first level.
SLAB_ROWS = 16
# For each line of a plane of the stencil: a walk begins with planes that the one before it has read, too.
LEAST_STEPS = 4


@dataclass(frozen=True, slots=True)
class Column:
    """A place x on a line whose vectors are loaded, and the ``(row, plane)`` of rows and weights that use them."""

    x: int
    uses: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring lines, ``first … stop``, that are used alike: columns of every plane that one of the rows needs."""

    first: int
    stop: int
    planes: tuple[tuple[int, tuple[Column, ...]], ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which weights of a stencil differ from zero: bytes, packed, of a shape of planes, lines and x."""

    shape: tuple[int, int, int]
    packed: bytes

    @classmethod
    def of(cls, weights: Array) -> Pattern:
        """Return the pattern of weights."""
        planes, lines, columns = weights.shape
        return cls((planes, lines, columns), np.packbits(weights != 0).tobytes())

    @property
    def taps(self) -> int:
        """How many weights differ from zero."""
        return int(self.filled().sum())

    def filled(self) -> npt.NDArray[np.bool_]:
        """Return it as an array."""
        count = int(np.prod(self.shape))
        bits = np.unpackbits(np.frombuffer(self.packed, np.uint8), count=count)
        return bits.reshape(self.shape).astype(bool)


@dataclass(frozen=True)
class StripJob(Job):
    """A program for stencils with the same pattern of zeros; the weights are arguments.

    Parameters
    ----------
    rows : int
        Of the variant.
    pattern : Pattern
        Of the stencil, as `Lines` cuts it.
    """

    template: ClassVar[str] = "strip.cl"
    # How many steps before they are copied voxels are fetched.
    steps_ahead: ClassVar[int] = 2
    rows: int
    pattern: Pattern

    @property
    def lines(self) -> int:
        """Lines of a plane of the stencil."""
        return self.pattern.shape[1]

    @property
    def line_weights(self) -> int:
        """Weights of a line, zeros included."""
        return self.pattern.shape[2]

    @property
    def plane_weights(self) -> int:
        """Weights of a plane, zeros included."""
        return self.lines * self.line_weights

    @property
    def cache_line_voxels(self) -> int:
        """Voxels of the source in a line of the cache."""
        return CACHE_LINE_BYTES // np.dtype(self.numbers.source).itemsize

    @property
    def cache_level(self) -> int:
        """How near the next step's voxels are fetched: 3 is the first level, as the compiler counts."""
        return 2 if self.pattern.taps <= MOST_TAPS_BOUND_BY_MEMORY else 3

    @property
    def planes(self) -> int:
        """Planes of the source that one of the rows needs."""
        return self.pattern.shape[0] + self.rows - 1

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """What is done with the lines, in the order of the taps."""
        return tuple(_runs(self.pattern.filled(), self.rows))

    @property
    def lead(self) -> int:
        """Voxels before a line of the ring, so that the middle of what a span reads begins with a line of the cache."""
        return -(self.line_weights // 2) % LINE_VOXELS

    def pitch(self, outputs: int) -> int:
        """Return the distance of lines in the ring that so many neighbouring outputs read, in voxels."""
        return pitch_of(self.lead + outputs + self.span + self.line_weights - 1)

    def ring_bytes(self, outputs: int, rows: int) -> int:
        """Return what the lines take that a slab of so many rows of so many outputs reads."""
        planes = self.planes - self.rows + rows
        return self.lines * planes * self.pitch(outputs) * np.dtype(self.numbers.sum).itemsize

    def gathered_bytes(self, outputs: int) -> int:
        """Return what so many results of each row take that are computed at a time."""
        return self.rows * outputs * np.dtype(self.numbers.target).itemsize

    def local_bytes(self, outputs: int, rows: int) -> int:
        """Return what a work item needs of local memory."""
        return self.ring_bytes(outputs, rows) + self.gathered_bytes(outputs)

    def slab_rows(self, outputs: int, most_rows: int, most_bytes: int) -> int:
        """Return how many rows of so many outputs a work item holds at a time."""
        rows = self.rows
        # Where a plane has one line, no step meets rows again.
        most_rows = min(SLAB_ROWS, most_rows) if self.lines > 1 else rows
        while rows + self.rows <= most_rows and self.local_bytes(outputs, rows + self.rows) <= most_bytes:
            rows += self.rows
        return rows

    @property
    def unrolled_sums(self) -> int:
        """Multiply-adds that stand in the source."""
        return self.vectors * _sums(self.pattern, self.rows)


@dataclass(frozen=True)
class Lines:
    """A stencil cut into lines along x, plane by plane of its last axis before x that has more than one weight.

    `starts` has the place of each line in the plane, as offsets on all axes; `weights` the shape of the `pattern`.
    """

    axis: int
    starts: Places
    weights: npt.NDArray[np.float64]
    pattern: Pattern


def strip_job(
    stencil: Stencil, shape: tuple[int, ...], numbers: Numbers, limits: tuple[Traits, int], variant: Variant
) -> StripJob | None:
    """Return the job for a stencil; None where no program of its own serves.

    Parameters
    ----------
    stencil : Stencil
        Any.
    shape : tuple of int
        Of the output.
    numbers : Numbers
        Dtypes.
    limits : tuple of Traits and int
        Of the device; bytes of its local memory.
    variant : Variant
        The largest shape that is taken.
    """
    traits, local_bytes = limits
    has_own_order = stencil.by_lines or stencil.adds_as_box(exact=numbers.exact)
    if not traits.on_cpu or shape[-1] < LEAST_VECTOR or len(shape) == 1 or has_own_order or not stencil.tap_count:
        return None
    lines = lines_of(stencil)
    for smaller in variant.smaller():
        fitted = smaller.fitted(shape[lines.axis], shape[-1])
        common = (numbers, traits.on_cpu, traits.loose_pointers, fitted.vector_width, fitted.vectors)
        job = StripJob(*common, fitted.rows, lines.pattern)
        fits = job.local_bytes(job.span, job.rows) <= min(RING_BYTES, local_bytes)
        if fits and job.unrolled_sums <= MAX_UNROLLED_SUMS:
            return job
    return None


def strip_arguments(source: Array, target: Array, step: Pass, job: StripJob, limits: tuple[int, int]) -> Arguments:
    """Return what the strip program is called with; limits are processors and bytes of local memory."""
    compute_units, local_bytes = limits
    lines = lines_of(step.stencil)
    from_pitch, to_pitch = pitches(source), pitches(target)
    outer = [axis for axis in range(source.ndim - 1) if axis != lines.axis]
    # One entry for each step over the outer axes, and each line.
    line_places = _sum_of_places(
        [
            _offsets(step.places[axis][np.add.outer(np.arange(target.shape[axis]), lines.starts[:, axis])], pitch)
            for axis, pitch in zip(outer, from_pitch[outer], strict=True)
        ],
        job.lines,
    )
    targets = _sum_of_places([np.arange(target.shape[axis])[:, np.newaxis] * to_pitch[axis] for axis in outer], 1)
    columns = step.places[-1]
    width = target.shape[-1]
    most_bytes = min(RING_BYTES, local_bytes)
    tile_outputs = _tile_outputs(job, width, most_bytes)
    tiles = _tiles(columns, job, range(0, width, tile_outputs))
    planes = _offsets(step.places[lines.axis], from_pitch[lines.axis])
    height = target.shape[lines.axis]
    share = _share(job, (height, len(targets)), tile_outputs, ITEMS_A_UNIT * compute_units, most_bytes)
    sums = np.dtype(job.numbers.sum).type
    with np.errstate(over="ignore"):
        return Arguments(
            (
                lines.weights.astype(sums),
                np.concatenate([line_places.ravel(), targets.ravel(), planes, columns]).astype(np.int64),
                np.array(tiles, np.int32),
            ),
            (
                *map(np.int32, (len(targets), share.slabs, share.slab_rows, height, job.pitch(tile_outputs))),
                sums(step.cval),
                np.int64(to_pitch[lines.axis]),
                np.int32(are_whole(target)),
                cl.LocalMemory(job.ring_bytes(tile_outputs, share.slab_rows)),
                cl.LocalMemory(job.gathered_bytes(tile_outputs)),
            ),
            (share.lanes, share.parts, len(tiles)),
        )


class Share(NamedTuple):
    """What a work item does: so many slabs of rows in one of `parts` of the steps; `lanes` of them cover all rows."""

    slab_rows: int
    slabs: int
    lanes: int
    parts: int


def _share(job: StripJob, extents: tuple[int, int], outputs: int, items: int, most_bytes: int) -> Share:
    """Return how rows and steps, `extents`, are shared among work items."""
    height, steps = extents
    most_parts = max(1, steps // (LEAST_STEPS * job.lines))
    slab_rows = job.slab_rows(outputs, height * most_parts // items, most_bytes)
    slabs = -(-height // slab_rows)
    if job.lines > 1:
        # The next step meets lines again.
        return Share(slab_rows, 1, slabs, min(steps, -(-items // slabs)))
    # The next rows meet planes again.
    parts = min(steps, items)
    slabs_an_item = -(-slabs // -(-items // parts))
    return Share(slab_rows, slabs_an_item, -(-slabs // slabs_an_item), parts)


def _offsets(places: Indices, pitch: int) -> Places:
    """Return places in elements of the source."""
    return np.where(places == OUTSIDE, OUTSIDE, places * pitch)


def _sum_of_places(axes: list[Places], columns: int) -> Places:
    """Return, for every combination of the axes' places, their sum; `OUTSIDE` where one of them is."""
    total = np.zeros((1, columns), np.int64)
    for places in axes:
        outside = (total[:, np.newaxis] == OUTSIDE) | (places == OUTSIDE)
        total = np.where(outside, OUTSIDE, total[:, np.newaxis] + places).reshape(-1, columns)
    return total


class Tile(NamedTuple):
    """Outputs ``x … stop`` of a row, and how the columns that they read are found.

    Of these, ``low … high`` stand side by side in the source, `shift` from their number.
    """

    x: int
    stop: int
    low: int
    high: int
    shift: int


def _tile_outputs(job: StripJob, width: int, most_bytes: int) -> int:
    """Return how many outputs of a row are computed from one ring: all, or whole spans."""
    while job.local_bytes(width, job.rows) > most_bytes:
        width = max(1, -(-width // (2 * job.span))) * job.span
    return width


def _tiles(columns: Indices, job: StripJob, firsts: range) -> list[Tile]:
    """Cut a row of outputs into tiles that begin at multiples of a span."""
    width, reach = firsts.stop, job.line_weights - 1
    low, high = longest_run(columns)
    tiles = []
    for first in firsts:
        x, stop = min(first, width - job.span), min(first + firsts.step, width)
        begin, end = (min(max(place, x), stop + reach) for place in (low, high))
        if end - begin < job.vector_width:
            # What is shorter than a vector is filled one by one.
            begin = end = x
        tiles.append(Tile(x, stop, begin, end, int(columns[low]) - low))
    return tiles


@lru_cache(maxsize=256)
def lines_of(stencil: Stencil) -> Lines:
    """Cut a stencil of two axes or more into lines, in the order of its taps."""
    wide = [axis for axis, extent in enumerate(stencil.shape[:-1]) if extent > 1]
    axis = wide[-1] if wide else stencil.ndim - 2
    turned = np.moveaxis(stencil.weights, axis, 0)
    held = turned.any(axis=(0, -1))
    # Lines begin at 0 on this axis and on x.
    starts = np.insert(np.argwhere(held), axis, 0, axis=1)
    starts = np.insert(starts, starts.shape[1], 0, axis=1)
    weights = turned[:, held]
    return Lines(axis, starts, weights, Pattern.of(weights))


@lru_cache(maxsize=256)
def _sums(pattern: Pattern, rows: int) -> int:
    """Return how many multiply-adds stand in all runs, without making them: there may be very many."""
    filled = pattern.filled()
    begins_run = np.insert((filled[:, 1:] != filled[:, :-1]).any(axis=(0, 2)), 0, values=True)
    return rows * int(filled[:, begins_run].sum())


def _runs(filled: npt.NDArray[np.bool_], rows: int) -> Iterator[Run]:
    """Yield the runs of lines: row r uses plane p of the source with the weights of plane ``p - r``."""
    for _, group in groupby(range(filled.shape[1]), key=lambda line: filled[:, line].tobytes()):
        lines = list(group)
        held = filled[:, lines[0]]
        planes = ((plane, _columns(held, plane, rows)) for plane in range(len(filled) + rows - 1))
        yield Run(lines[0], lines[-1] + 1, tuple((plane, columns) for plane, columns in planes if columns))


def _columns(held: npt.NDArray[np.bool_], plane: int, rows: int) -> tuple[Column, ...]:
    uses = [(row, plane - row) for row in range(rows) if 0 <= plane - row < len(held)]
    used = held[[place for _, place in uses]]
    places = np.flatnonzero(used.any(axis=0)).tolist()
    return tuple(
        Column(x, tuple(use for use, is_used in zip(uses, used[:, x], strict=True) if is_used)) for x in places
    )
