"""Boxes over one axis after the other: what `box.cl` is made for and told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyopencl as cl

from convolume.arrays import CACHE_LINE_BYTES
from convolume.devices.opencl._arrangement import Arguments, are_whole, is_lost, outer_axes, pitches, vector_width
from convolume.devices.opencl._box_job import BoxJob, steps_of
from convolume.devices.opencl._lines import (
    LINE_VOXELS,
    Line,
    Row,
    columns_of,
    offsets_of,
    pitch_of,
    read_by,
)
from convolume.devices.opencl._means import mean_numbers, raised_inverse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from convolume.devices import Pass
    from convolume.devices.opencl._jobs import Numbers, Traits

__all__ = ["BoxWalk", "box_walks"]

Array = npt.NDArray[Any]

# Rows of sums stay in the second-level cache of a core: those of tiles of planes, and at most.
RING_BYTES, MOST_RING_BYTES = 128 * 1024, 512 * 1024
LEAST_TILE = 64
# Vectors whose sums are stored together, where they are no longer than a line of the cache.
VECTORS = 2
# What one program hands to the next is made in slabs of about so many bytes; none is thinner than two boxes.
SLAB_BYTES, SLAB_BOXES = 64 * 1024 * 1024, 2


@dataclass(frozen=True)
class Box:
    """A pass, and what its sums are multiplied by."""

    line: Line
    scale: float

    @property
    def size(self) -> int:
        """Voxels along its axis."""
        return len(self.line.weights)


Roles = tuple[Box | None, Box | None]


@dataclass(frozen=True)
class BoxWalk:
    """One call of the program: its job, what it reads and writes, and its passes by their roles."""

    job: BoxJob
    voxels: Array
    out: Array
    b: Box | None
    x: Box | None
    row: Row

    @classmethod
    def of(cls, voxels: Array, roles: Roles, out: Array, numbers: Numbers, traits: Traits) -> Self | None:
        """Return the walk for a pass along b, and one along x; None where it does not serve."""
        b, x = roles
        read = np.dtype(numbers.source)
        row = Row.of(x.line.places) if x else Row.of_nothing(voxels.shape[-1])
        width = vector_width(numbers, traits)
        if width == 1 or row is None or min(row.width, out.shape[-1]) < width:
            return None
        span_bytes = VECTORS * width * np.dtype(numbers.sum).itemsize
        is_long = min(row.width, out.shape[-1]) >= VECTORS * width
        vectors = VECTORS if is_long and span_bytes <= CACHE_LINE_BYTES else 1
        if any(is_lost(box.line.places, box.line.cval, read, numbers) for box in roles if box):
            return None
        common = (numbers, traits.on_cpu, traits.loose_pointers, width, vectors)
        size = b.size if b else 1
        job = BoxJob(*common, steps_of(size), size, x.size if x else 1)
        return cls(job, voxels[..., row.voxels], out, b, x, row)

    @property
    def tile(self) -> int:
        """Columns that a work item owns."""
        if self.x:
            return self.row.width
        step = 8 * self.job.vector_width
        tile = RING_BYTES // (self.job.b * np.dtype(self.job.numbers.sum).itemsize) // step * step
        return min(self.row.width, max(step, tile))

    @property
    def local_bytes(self) -> int:
        """Local memory that a work item needs."""
        return self._ring_bytes + self._gathered_bytes

    @property
    def _gathered_bytes(self) -> int:
        """What results take until they are stored: some of a line, or rows of a tile."""
        voxels = self.job.span if self.x else self.job.steps * self.tile
        return voxels * np.dtype(self.job.numbers.target).itemsize

    @property
    def _ring_bytes(self) -> int:
        """What the ring takes, and the lines behind it."""
        lines = (self.job.steps + len(self.job.lines) - 1) * self._line_pitch if self.x else 0
        return max(self._lines_begin + lines, 1) * np.dtype(self.job.numbers.sum).itemsize

    @property
    def _lines_begin(self) -> int:
        # Rows stand in lines as they do in lines of the cache: stores that cross those are slow. A span that begins
        # before them reads what is there.
        ring = self.job.ring_rows * -(-self.tile // self.job.span) * self.job.span
        return max(ring, self.job.span) + -(-len(self.row.before) // LINE_VOXELS) * LINE_VOXELS

    @property
    def _line_pitch(self) -> int:
        # Sums of a line are made for every column that is read, a vector at a time.
        ends = len(self.row.before) + len(self.row.after)
        return pitch_of(self.row.width + ends + self.job.span + self.job.vector_width)

    @property
    def _outside(self) -> Array:
        """A row beyond a face, which is read like others."""
        with np.errstate(all="ignore"):
            return np.full(self.tile, self.b.line.cval if self.b else 0.0).astype(self.job.numbers.source)

    def arguments(self, source: Array, target: Array, compute_units: int) -> Arguments:
        """Return what the program is called with; `source` and `target` may lie otherwise than `voxels` and `out`."""
        axis = self.b.line.axis if self.b else source.ndim - 2
        axes, count = outer_axes(source, target, tuple(x for x in range(source.ndim - 1) if x != axis))
        from_pitch, to_pitch = pitches(source), pitches(target)
        depth = target.shape[axis]
        rows = offsets_of(self.b.line, from_pitch) if self.b else np.arange(depth) * from_pitch[axis]
        tiles = -(-self.row.width // self.tile)
        integers = (
            len(axes) // 3,
            depth,
            self.row.width,
            target.shape[-1],
            self.tile,
            len(self.row.before),
            len(self.row.after),
            self._lines_begin,
            self._line_pitch,
        )
        constants = (self.x.line.cval if self.x else 0.0, *(box.scale if box else 1.0 for box in (self.b, self.x)))
        segments = max(1, min(depth // (4 * self.job.b), 4 * compute_units // (tiles * count)))
        with np.errstate(over="ignore"):
            return Arguments(
                (np.concatenate([rows, self.row.before, self.row.after]).astype(np.int64), axes, self._outside),
                (
                    *map(np.int32, integers),
                    np.int64(to_pitch[axis]),
                    np.int32(are_whole(target)),
                    *map(np.dtype(self.job.numbers.sum).type, constants),
                    cl.LocalMemory(self._ring_bytes),
                    cl.LocalMemory(self._gathered_bytes),
                ),
                (tiles, segments, count),
            )


@dataclass(frozen=True)
class _Terms:
    """Dtypes, traits of the device and bytes of its local memory, and where room between passes comes from."""

    numbers: Numbers
    traits: Traits
    local_bytes: int
    room: Callable[[int, int, np.dtype[Any]], Array]


def box_walks(
    voxels: Array,
    passes: Sequence[Pass],
    out: Array,
    numbers: Numbers,
    limits: tuple[Traits, int],
    room: Callable[[int, int, np.dtype[Any]], Array],
) -> list[BoxWalk]:
    """Return walks that do passes over boxes when they run one after the other; [] where they do not serve.

    Parameters
    ----------
    voxels, passes, out
        As `convolume.devices.Device.correlate_passes` takes them, in rows that a program can read and write.
    numbers : Numbers
        Dtypes.
    limits : tuple of Traits and int
        Of the device; bytes of its local memory.
    room : callable
        Gives ``(number, voxels, dtype)`` flat arrays for what lies between passes; the same one for a number.
    """
    # Means of whole numbers are exact in any order.
    exact = mean_numbers(passes, numbers)
    if exact is None and not all(step.stencil.adds_as_box(exact=numbers.exact) for step in passes):
        return []
    numbers = exact or numbers
    boxes = [_box(step, numbers) for step in passes]
    voxels = read_by(voxels, passes, [box.line for box in boxes])
    if voxels.ndim == 1:
        voxels, out = voxels[np.newaxis], out[np.newaxis]
        boxes = [replace(box, line=replace(box.line, axis=1)) for box in boxes]
    return _staged(voxels, list(_roles(boxes, voxels.ndim - 1)), out, _Terms(numbers, *limits, room))


def _box(step: Pass, numbers: Numbers) -> Box:
    weight = step.stencil.box_weight
    return Box(Line.of(step, numbers), raised_inverse(step.stencil, numbers) if weight is None else weight)


def _roles(boxes: Sequence[Box], last: int) -> Iterator[Roles]:
    """Yield passes that are done together: one along x joins the one before it."""
    ahead: Box | None = None
    for box in boxes:
        if box.line.axis == last:
            yield ahead, box
            ahead = None
        else:
            if ahead:
                yield ahead, None
            ahead = box
    if ahead:
        yield ahead, None


def _staged(voxels: Array, stages: list[Roles], out: Array, terms: _Terms) -> list[BoxWalk]:
    """Return the walks of all stages, the first of them slab by slab."""
    first, *rest = stages
    if not rest:
        return _tiles(voxels, first, out, terms)
    (b, x), walks = first, []
    handed_on = terms.numbers.between
    later = replace(terms, numbers=replace(terms.numbers, source=handed_on))
    terms = replace(terms, numbers=replace(terms.numbers, target=handed_on, rounded=False))
    for part in _slabs(b, voxels, out, terms) if b else [slice(None)]:
        shape = list(voxels.shape)
        for box in (b, x):
            if box:
                shape[box.line.axis] = out.shape[box.line.axis]
        own = b
        if b:
            shape[b.line.axis] = part.stop - part.start
            places = b.line.places[part.start : part.stop + b.size - 1]
            own = replace(b, line=replace(b.line, places=places))
        between = _between(shape, b.line.axis if b else len(shape) - 2, len(rest), terms)
        result = out[(*[slice(None)] * b.line.axis, part)] if b else out
        two = _tiles(voxels, (own, x), between, terms), _staged(between, rest, result, later)
        if not all(two):
            return []
        walks += [walk for some in two for walk in some]
    return walks


def _between(shape: Sequence[int], axis: int, number: int, terms: _Terms) -> Array:
    """Return the array that a stage hands on: rows that are written together begin in different lines of the cache."""
    row = int(np.prod(shape[axis + 1 :]))
    rows = (*shape[: axis + 1], pitch_of(row))
    flat = terms.room(number, int(np.prod(rows)), np.dtype(terms.numbers.target))
    return flat.reshape(rows)[..., :row].reshape(shape)


def _slabs(b: Box, voxels: Array, out: Array, terms: _Terms) -> Iterator[slice]:
    depth = out.shape[b.line.axis]
    plane_bytes = voxels.size // voxels.shape[b.line.axis] * np.dtype(terms.numbers.target).itemsize
    count = -(-depth // max(SLAB_BYTES // plane_bytes, SLAB_BOXES * b.size))
    return (slice(depth * i // count, depth * (i + 1) // count) for i in range(count))


def _tiles(voxels: Array, roles: Roles, out: Array, terms: _Terms) -> list[BoxWalk]:
    """Return the walks of a stage, one for each tile along x whose rows fit local memory."""
    b, x = roles
    if b and not x:
        voxels, out = _merged(voxels, out, b.line.axis)
    walk = BoxWalk.of(voxels, roles, out, terms.numbers, terms.traits)
    if walk is None or walk.local_bytes <= min(MOST_RING_BYTES, terms.local_bytes):
        return [walk] if walk else []
    width = out.shape[-1]
    half = width // 2 // LEAST_TILE * LEAST_TILE
    if half == 0 or x is None:
        return []
    halves = []
    for part in (slice(0, half), slice(half, width)):
        _, (line,) = columns_of(voxels, [x.line], part)
        halves.append(_tiles(voxels, (b, replace(x, line=line)), out[..., part], terms))
    return [walk for some in halves for walk in some] if all(halves) else []


def _merged(voxels: Array, out: Array, axis: int) -> tuple[Array, Array]:
    """Return arrays whose rows are whole planes, where rows of both follow one another."""
    inner = range(axis + 1, out.ndim - 1)
    if not all(a.strides[i] == a.strides[i + 1] * a.shape[i + 1] for a in (voxels, out) for i in inner):
        return voxels, out
    row = int(np.prod(out.shape[axis + 1 :]))
    return voxels.reshape(*voxels.shape[: axis + 1], row), out.reshape(*out.shape[: axis + 1], row)
