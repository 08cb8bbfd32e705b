"""How a correlation is laid out for the programs: pitches, offsets of taps, planes of a stencil."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from convolume.devices.opencl._jobs import GenericJob, Job, Numbers, Run, StripJob, Traits

if TYPE_CHECKING:
    from convolume.stencil import Stencil

__all__ = ["Arguments", "generic_arguments", "generic_job", "strip_arguments", "strip_job"]

Array = npt.NDArray[Any]

MAX_UNROLLED_SUMS = 2400
ROWS, VECTORS, GENERIC_VECTORS = 4, 2, 4


@dataclass(frozen=True)
class Arguments:
    """What a program is called with, beside source and target.

    Parameters
    ----------
    weights : numpy.ndarray
        In the dtype of the sum.
    offsets, axes : numpy.ndarray
        Int64: where taps or planes stand, in elements of the source; extents and pitches of the outer axes.
    numbers : tuple
        NumPy scalars that follow, and local memory.
    global_size : tuple of int
        Work items.
    """

    weights: Array
    offsets: npt.NDArray[np.int64]
    axes: npt.NDArray[np.int64]
    numbers: tuple[Any, ...]
    global_size: tuple[int, ...]


@dataclass(frozen=True)
class Planes:
    """A stencil cut into planes of (y, x): y is its last axis before x with more than one weight."""

    y_axis: int
    starts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    runs: tuple[Run, ...]


class Laid(Protocol):
    """Whatever lies in memory as NumPy's arrays do."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Distance of neighbours in bytes."""

    @property
    def itemsize(self) -> int:
        """Bytes of a voxel."""


def pitches(array: Laid) -> npt.NDArray[np.int64]:
    """Return the distance of neighbours in elements, axis by axis; 0 where there are none."""
    steps = zip(array.strides, array.shape, strict=True)
    return np.array([stride // array.itemsize if extent > 1 else 0 for stride, extent in steps], dtype=np.int64)


def generic_job(stencil: Stencil, numbers: Numbers, traits: Traits) -> GenericJob:
    """Return the job that any stencil can be computed with."""
    width = vector_width(numbers, traits)
    vectors = GENERIC_VECTORS if width > 1 else 1
    return GenericJob(numbers, traits.on_cpu, traits.loose_pointers, width, vectors, stencil.by_lines)


def strip_job(stencil: Stencil, shape: tuple[int, ...], numbers: Numbers, traits: Traits) -> StripJob | None:
    """Return the specialised job for a stencil and an output of this shape; None where it does not pay or fit."""
    width = vector_width(numbers, traits)
    if not traits.on_cpu or shape[-1] < width or len(shape) == 1 or stencil.by_lines:
        return None
    planes = planes_of(stencil)
    if planes.weights.shape[:2] == (1, 1):
        # Rows along x share nothing: the generic program is as fast.
        return None
    height = shape[planes.y_axis]
    rows = max(r for r in (1, 2, ROWS) if r <= height)
    vectors = VECTORS if shape[-1] >= VECTORS * width else 1
    _, lines, columns = planes.weights.shape
    # Along z first, so that planes stay in the cache; rows first where there is one plane.
    outer_dimension = 0 if len(planes.starts) > 1 else 1
    common = (numbers, traits.on_cpu, traits.loose_pointers, width, vectors)
    job = StripJob(*common, rows, columns, lines * columns, outer_dimension, planes.runs)
    return job if job.unrolled_sums <= MAX_UNROLLED_SUMS else None


def vector_width(numbers: Numbers, traits: Traits) -> int:
    """Return how many sums fit a vector of the device; 1 on devices that have none."""
    if not traits.on_cpu:
        return 1
    return min(16, max(2, traits.vector_bytes // np.dtype(numbers.sum).itemsize))


def generic_arguments(source: Array, stencil: Stencil, target: Array, job: GenericJob) -> Arguments:
    """Return what the generic program is called with."""
    weights, taps, (tap_count, pair_count) = weights_and_taps(stencil)
    axes, count = outer_axes(source, target, tuple(range(source.ndim - 1)))
    width = target.shape[-1]
    counts = (len(axes) // 3, tap_count, width, *((pair_count,) if job.by_lines else ()))
    return Arguments(
        weights.astype(job.numbers.sum),
        taps @ pitches(source),
        axes,
        tuple(np.int32(number) for number in counts),
        (1 if job.on_cpu else width, count),
    )


def weights_and_taps(stencil: Stencil) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], tuple[int, int]]:
    """Return weights and offsets as programs for any stencil take them, and the numbers of taps and of pairs.

    Behind the taps stand first and second of each pair; behind the weights, those of pairs, their signs, the divisor.
    """
    taps, pairs = list(stencil.taps()), list(stencil.pairs())
    places, weights = [place for place, _ in taps], [weight for _, weight in taps]
    if stencil.by_lines:
        places += [*(place for place, *_ in pairs), *(other for _, other, *_ in pairs)]
        weights += [*(weight for *_, weight in pairs), *(sign for *_, sign, _ in pairs), stencil.divisor]
    offsets = np.array(places, np.int64).reshape(-1, stencil.ndim)
    return np.array(weights, np.float64), offsets, (len(taps), len(pairs))


def strip_arguments(source: Array, stencil: Stencil, target: Array, job: StripJob) -> Arguments:
    """Return what the strip program is called with."""
    planes = planes_of(stencil)
    y_axis = planes.y_axis
    axes, count = outer_axes(source, target, tuple(axis for axis in range(source.ndim - 1) if axis != y_axis))
    height, width = target.shape[y_axis], target.shape[-1]
    source_pitches, target_pitches = pitches(source), pitches(target)
    numbers: tuple[np.generic, ...] = (
        np.int32(len(axes) // 3),
        np.int32(width),
        np.int32(height),
        source_pitches[y_axis],
        target_pitches[y_axis],
    )
    groups = -(-height // job.rows)
    global_size = (count, groups) if job.outer_dimension == 0 else (groups, count)
    weights = planes.weights.astype(job.numbers.sum)
    return Arguments(weights, planes.starts @ source_pitches, axes, numbers, global_size)


def arguments_for(source: Array, stencil: Stencil, target: Array, job: Job) -> Arguments:
    """Return what the program for a job is called with."""
    if isinstance(job, StripJob):
        return strip_arguments(source, stencil, target, job)
    if isinstance(job, GenericJob):
        return generic_arguments(source, stencil, target, job)
    raise TypeError(type(job))


def outer_axes(source: Array, target: Array, axes: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], int]:
    """Return extents and pitches of these axes from the innermost, flat, and the number of rows over them."""
    steps = zip(target.shape, pitches(source), pitches(target), strict=True)
    rows = [(extent, a, b) for axis, (extent, a, b) in enumerate(steps) if axis in axes and extent > 1]
    count = int(np.prod([extent for extent, _, _ in rows], dtype=np.int64))
    return np.array(rows[::-1], dtype=np.int64).ravel(), count


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
