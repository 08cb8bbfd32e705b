"""How a correlation is laid out for the programs: pitches, offsets of taps, rows of the outer axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.devices.opencl._jobs import GenericJob, Numbers, Traits

if TYPE_CHECKING:
    from convolume.stencil import Stencil

__all__ = ["Arguments", "generic_arguments", "generic_job", "outer_axes", "pitches", "vector_width"]

Array = npt.NDArray[Any]

GENERIC_VECTORS = 4


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


def pitches(array: Array) -> npt.NDArray[np.int64]:
    """Return the distance of neighbours in elements, axis by axis; 0 where there are none."""
    steps = zip(array.strides, array.shape, strict=True)
    return np.array([stride // array.itemsize if extent > 1 else 0 for stride, extent in steps], dtype=np.int64)


def generic_job(stencil: Stencil, numbers: Numbers, traits: Traits) -> GenericJob:
    """Return the job that any stencil can be computed with."""
    width = vector_width(numbers, traits)
    vectors = GENERIC_VECTORS if width > 1 else 1
    return GenericJob(numbers, traits.on_cpu, traits.loose_pointers, width, vectors, stencil.by_lines)


def vector_width(numbers: Numbers, traits: Traits) -> int:
    """Return how many sums fit a vector of the device; 1 on devices that have none."""
    if not traits.on_cpu:
        return 1
    return min(16, max(2, traits.vector_bytes // np.dtype(numbers.sum).itemsize))


def generic_arguments(source: Array, stencil: Stencil, target: Array, job: GenericJob) -> Arguments:
    """Return what the generic program is called with."""
    taps, pairs = list(stencil.taps()), list(stencil.pairs())
    places, weights = [place for place, _ in taps], [weight for _, weight in taps]
    if job.by_lines:
        places += [*(place for place, *_ in pairs), *(other for _, other, *_ in pairs)]
        weights += [*(weight for *_, weight in pairs), *(sign for *_, sign, _ in pairs), stencil.divisor]
    axes, count = outer_axes(source, target, tuple(range(source.ndim - 1)))
    width = target.shape[-1]
    counts = (len(axes) // 3, len(taps), width, *((len(pairs),) if job.by_lines else ()))
    return Arguments(
        np.array(weights, job.numbers.sum),
        np.array(places, np.int64) @ pitches(source),
        axes,
        tuple(np.int32(number) for number in counts),
        (1 if job.on_cpu else width, count),
    )


def outer_axes(source: Array, target: Array, axes: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], int]:
    """Return extents and pitches of these axes from the innermost, flat, and the number of rows over them."""
    steps = zip(target.shape, pitches(source), pitches(target), strict=True)
    rows = [(extent, a, b) for axis, (extent, a, b) in enumerate(steps) if axis in axes and extent > 1]
    count = int(np.prod([extent for extent, _, _ in rows], dtype=np.int64))
    return np.array(rows[::-1], dtype=np.int64).ravel(), count
