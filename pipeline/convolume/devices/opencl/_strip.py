"""Correlations by a program of their own: what `strip.cl` is made for and told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from convolume.devices.opencl._arrangement import Arguments, outer_axes, pitches
from convolume.devices.opencl._jobs import Job, Numbers, Traits

if TYPE_CHECKING:
    from convolume.devices.opencl._variants import Variant
    from convolume.stencil import Stencil

__all__ = ["StripJob", "strip_arguments", "strip_job"]

Array = npt.NDArray[Any]

# Multiply-adds that stand in a program; compiling takes a millisecond or two for each.
MAX_UNROLLED_SUMS = 2400
# Steps of a work item: the first reads every line of the stencil, each other one line a plane.
MOST_STEPS = 64
CACHE_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Column:
    """A place x on a line whose vectors are loaded, and the ``(row, plane)`` of rows and weights that use them."""

    x: int
    uses: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring lines, ``first … stop``, that are used alike."""

    first: int
    stop: int
    columns: tuple[Column, ...]


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
    rows: int
    pattern: Pattern

    @property
    def line_weights(self) -> int:
        """Weights of a line, zeros included."""
        return self.pattern.shape[2]

    @property
    def plane_weights(self) -> int:
        """Weights of a plane, zeros included."""
        return self.pattern.shape[1] * self.pattern.shape[2]

    @property
    def walks_along_x(self) -> bool:
        """Say whether a work item walks along x: on other axes it would meet no line twice."""
        return self.pattern.shape[1] == 1

    @property
    def cache_line_voxels(self) -> int:
        """Voxels of the source in a line of the cache."""
        return CACHE_LINE_BYTES // np.dtype(self.numbers.source).itemsize

    @cached_property
    def planes(self) -> tuple[tuple[Run, ...], ...]:
        """What is done with each plane of the source that one of the rows needs."""
        filled = self.pattern.filled()
        return tuple(_runs(filled, plane, self.rows) for plane in range(len(filled) + self.rows - 1))

    @property
    def unrolled_sums(self) -> int:
        """Multiply-adds that stand in the source."""
        return self.vectors * _sums(self.pattern, self.rows)


@dataclass(frozen=True)
class Lines:
    """A stencil cut into lines along x, plane by plane of its first axis that has more than one weight.

    `starts` has the place of each line in the plane, as offsets on all axes; `weights` the shape of the `pattern`.
    """

    axis: int
    starts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    pattern: Pattern


def strip_job(
    stencil: Stencil, shape: tuple[int, ...], numbers: Numbers, traits: Traits, variant: Variant
) -> StripJob | None:
    """Return the job for a stencil and an output of this shape; None where no program of its own serves."""
    if not traits.on_cpu or shape[-1] < variant.vector_width or len(shape) == 1 or stencil.by_lines:
        return None
    if stencil.shape[-1] == stencil.size:
        # Rows share nothing along x: the generic program is as fast.
        return None
    lines = lines_of(stencil)
    common = (numbers, traits.on_cpu, traits.loose_pointers, variant.vector_width)
    for smaller in variant.smaller():
        fitted = smaller.fitted(shape[lines.axis], shape[-1])
        job = StripJob(*common, fitted.vectors, fitted.rows, lines.pattern)
        if job.unrolled_sums <= MAX_UNROLLED_SUMS:
            return job
    return None


def strip_arguments(source: Array, stencil: Stencil, target: Array, job: StripJob) -> Arguments:
    """Return what the strip program is called with."""
    lines = lines_of(stencil)
    axis, spans = lines.axis, -(-target.shape[-1] // job.span)
    step_axis = None if job.walks_along_x else _step_axis(stencil, axis)
    axes, count = outer_axes(source, target, tuple(a for a in range(source.ndim - 1) if a not in {axis, step_axis}))
    source_pitches, target_pitches = pitches(source), pitches(target)
    height, width = target.shape[axis], target.shape[-1]
    length, steps = spans, (0, 0)
    if step_axis is not None:
        length, steps = target.shape[step_axis], (source_pitches[step_axis], target_pitches[step_axis])
    parts = -(-length // MOST_STEPS)
    numbers: tuple[np.generic, ...] = (
        *map(np.int32, (len(axes) // 3, width, height, length, parts)),
        *map(np.int64, (source_pitches[axis], target_pitches[axis], *steps)),
    )
    return Arguments(
        lines.weights.astype(job.numbers.sum),
        lines.starts @ source_pitches,
        axes,
        numbers,
        (1 if job.walks_along_x else spans, -(-height // job.rows), parts * count),
    )


@lru_cache(maxsize=256)
def lines_of(stencil: Stencil) -> Lines:
    """Cut a stencil of two axes or more into lines, in the order of its taps."""
    axis = next(axis for axis, extent in enumerate(stencil.shape) if extent > 1)
    # Axes before this one have extent 1: moving it to the front keeps the order of the taps.
    turned = np.moveaxis(stencil.weights, axis, 0)
    held = turned.any(axis=(0, -1))
    # Lines begin at 0 on this axis and on x.
    starts = np.insert(np.argwhere(held), axis, 0, axis=1)
    starts = np.insert(starts, starts.shape[1], 0, axis=1)
    weights = turned[:, held]
    return Lines(axis, starts, weights, Pattern.of(weights))


def _step_axis(stencil: Stencil, axis: int) -> int:
    """Return the axis along which work items walk: the last one on which steps share lines."""
    return max(other for other in range(axis + 1, stencil.ndim - 1) if stencil.shape[other] > 1)


@lru_cache(maxsize=256)
def _sums(pattern: Pattern, rows: int) -> int:
    """Return how many multiply-adds stand in all runs of all planes, without making them: there may be very many."""
    filled = pattern.filled()
    count = 0
    for plane in range(len(filled) + rows - 1):
        used = filled[max(0, plane - rows + 1) : plane + 1]
        begins_run = np.insert((used[:, 1:] != used[:, :-1]).any(axis=(0, 2)), 0, values=True)
        count += int(used[:, begins_run].sum())
    return count


def _runs(filled: npt.NDArray[np.bool_], plane: int, rows: int) -> tuple[Run, ...]:
    """Return the runs of lines of one plane of the source: row r uses it with the weights of plane ``plane - r``."""
    uses = [(row, plane - row) for row in range(rows) if 0 <= plane - row < len(filled)]
    used = filled[[place for _, place in uses]]
    runs = []
    for key, group in groupby(range(used.shape[1]), key=lambda line: used[:, line].tobytes()):
        lines = list(group)
        if any(key):
            columns = _columns(used[:, lines[0]], uses)
            runs.append(Run(lines[0], lines[-1] + 1, columns))
    return tuple(runs)


def _columns(used: npt.NDArray[np.bool_], uses: list[tuple[int, int]]) -> tuple[Column, ...]:
    places = np.flatnonzero(used.any(axis=0)).tolist()
    return tuple(
        Column(x, tuple(use for use, is_used in zip(uses, used[:, x], strict=True) if is_used)) for x in places
    )
