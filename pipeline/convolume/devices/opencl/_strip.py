"""One correlation with a program of its own, faces and all: what `strip.cl` is made for and told."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.boundary import OUTSIDE, longest_run
from convolume.devices.opencl._arrangement import Arguments, can_stream, is_lost, pitches, vector_width
from convolume.devices.opencl._jobs import Numbers, Run, StripJob, Traits

if TYPE_CHECKING:
    from convolume.devices import Pass
    from convolume.stencil import Stencil

__all__ = ["strip_arguments", "strip_job"]

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
Places = npt.NDArray[np.int64]

MAX_UNROLLED_SUMS = 2800
ROWS = (1, 2, 4, 8)
# Work items for each processor, so that none waits for the others.
ITEMS_A_UNIT = 8


@dataclass(frozen=True)
class Planes:
    """A stencil cut into planes of (y, x): y is its last axis before x with more than one weight."""

    y_axis: int
    starts: Places
    weights: npt.NDArray[np.float64]
    runs: tuple[Run, ...]


def strip_job(step: Pass, source: Array, out: Array, numbers: Numbers, traits: Traits) -> StripJob | None:
    """Return the specialised job for a pass; None where it does not pay or fit."""
    stencil, width = step.stencil, vector_width(numbers, traits)
    if not traits.on_cpu or width == 1 or out.shape[-1] < width or out.ndim == 1 or stencil.by_lines:
        return None
    if any(is_lost(places, step.cval, source.dtype, numbers) for places in step.places):
        return None
    planes = planes_of(stencil)
    rows = max(count for count in ROWS if count <= out.shape[planes.y_axis])
    common = (numbers, traits.on_cpu, traits.loose_pointers, width, 1, can_stream(out, width, traits))
    _, lines, weights_a_line = planes.weights.shape
    job = StripJob(*common, rows, lines, weights_a_line, planes.runs)
    return job if job.unrolled_sums <= MAX_UNROLLED_SUMS else None


def strip_arguments(source: Array, target: Array, step: Pass, job: StripJob, compute_units: int) -> Arguments:
    """Return what the strip program is called with."""
    planes, y_axis = planes_of(step.stencil), planes_of(step.stencil).y_axis
    from_pitch, to_pitch = pitches(source), pitches(target)
    outer = [axis for axis in range(source.ndim - 1) if axis != y_axis]
    # One entry for each step of the walk over the outer axes, and each plane.
    plane_places = _sum_of_places(
        [
            _offsets(step.places[axis][np.add.outer(np.arange(target.shape[axis]), planes.starts[:, axis])], pitch)
            for axis, pitch in zip(outer, from_pitch[outer], strict=True)
        ],
        len(planes.starts),
    )
    targets = _sum_of_places([np.arange(target.shape[axis])[:, np.newaxis] * to_pitch[axis] for axis in outer], 1)
    columns = step.places[-1]
    parts = _parts(columns, target.shape[-1], job)
    places = [plane_places.ravel(), _offsets(step.places[y_axis], from_pitch[y_axis]), columns, targets.ravel()]
    height, depth = target.shape[y_axis], len(targets)
    groups = -(-height // job.rows)
    segments = max(1, min(depth, ITEMS_A_UNIT * compute_units // groups))
    line_pitch = sum(part.line_voxels(job) for part in parts)
    scratch_pitch = job.planes * job.lines_read * line_pitch
    with np.errstate(all="ignore"):
        return Arguments(
            (
                planes.weights.astype(job.numbers.sum),
                np.concatenate(places).astype(np.int64),
                np.array([dataclasses.astuple(part) for part in parts], np.int32),
                np.full(len(columns), step.cval).astype(source.dtype),
            ),
            (
                *map(np.int32, (len(parts), depth, height, len(columns))),
                np.int64(to_pitch[y_axis]),
                *map(np.int32, (scratch_pitch, line_pitch)),
            ),
            (groups, segments),
            max(1, groups * segments * scratch_pitch) * source.itemsize,
        )


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


@dataclass(frozen=True, slots=True)
class Part:
    """Some columns of all rows: outputs ``begin … stop``, and how what they read is found.

    Columns ``low … high`` stand side by side in the source. A column stands `shift` from its number: in the source, or,
    where a part is filled, in a line that holds all such parts of a row.
    """

    begin: int
    stop: int
    low: int
    high: int
    shift: int
    is_filled: bool

    def line_voxels(self, job: StripJob) -> int:
        """Return the voxels of the part in a line of what is filled."""
        return self.is_filled * (self.stop - self.begin + job.weights_a_line - 1)


def _parts(columns: Indices, width: int, job: StripJob) -> list[Part]:
    """Cut rows of outputs into what is read as it lies, and ends that are filled; every part is a span or more."""
    low, high = longest_run(columns)
    reach, span = job.weights_a_line - 1, job.span
    first, last = -(-low // span) * span, width - -(-max(0, width - high + reach) // span) * span
    ends = [(0, first), (last, width)]
    parts = [Part(first, last, low, high, int(columns[low]) - low, is_filled=False)]
    if last - first < span:
        ends, parts = [(0, width)], []
    offset = 0
    for begin, stop in ends:
        if begin < stop:
            run = [min(max(end, begin), stop + reach) for end in (low, high)]
            # What is shorter than a vector is filled one by one.
            run = run if run[1] - run[0] >= job.vector_width else [begin, begin]
            parts.append(Part(begin, stop, run[0], run[1], offset - begin, is_filled=True))
            offset += parts[-1].line_voxels(job)
    return parts


@lru_cache(maxsize=256)
def planes_of(stencil: Stencil) -> Planes:
    """Cut a stencil of two axes or more into the planes that hold weights, in the order of its taps."""
    active = [axis for axis, extent in enumerate(stencil.shape[:-1]) if extent > 1]
    y_axis = active[-1] if active else stencil.ndim - 2
    # Axes between y and x have extent 1: moving y past them keeps the order of the taps.
    turned = np.moveaxis(stencil.weights, y_axis, -2)
    held = turned.any(axis=(-2, -1))
    places = np.argwhere(held)
    # y and x begin at 0 in every plane.
    starts = np.insert(places, y_axis, 0, axis=1)
    starts = np.insert(starts, starts.shape[1], 0, axis=1)
    weights = turned[held].reshape(-1, *turned.shape[-2:])
    return Planes(y_axis, starts, weights, _runs(weights != 0))


def _runs(filled: npt.NDArray[np.bool_]) -> tuple[Run, ...]:
    runs = []
    first = 0
    for _, group in groupby(filled, key=lambda plane: plane.tobytes()):
        alike = list(group)
        pattern = tuple((int(y), int(x)) for y, x in np.argwhere(alike[0]))
        runs.append(Run(first, first + len(alike), pattern))
        first += len(alike)
    return tuple(runs)
