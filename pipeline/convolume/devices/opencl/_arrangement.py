"""How a correlation is laid out for the programs: pitches, offsets of taps, what can be stored and filled how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from convolume.addition_chain import completed_sums
from convolume.arrays import CACHE_LINE_BYTES
from convolume.boundary import OUTSIDE
from convolume.devices.opencl._jobs import GenericJob, Numbers, Traits

if TYPE_CHECKING:
    from convolume.stencil import Stencil

__all__ = [
    "Arguments",
    "are_whole",
    "completed_by",
    "generic_arguments",
    "generic_job",
    "is_lost",
    "lead_of",
    "outer_axes",
    "pitches",
    "vector_width",
]

Array = npt.NDArray[Any]

GENERIC_VECTORS = 4


@dataclass(frozen=True)
class Arguments:
    """What a program is called with, beside source and target.

    Parameters
    ----------
    tables : tuple of numpy.ndarray
        Weights, in the dtype of the sum; where taps or rows stand, in elements of the source; and what else it reads.
    numbers : tuple
        NumPy scalars that follow, and local memory.
    global_size : tuple of int
        Work items.
    """

    tables: tuple[Array, ...]
    numbers: tuple[Any, ...]
    global_size: tuple[int, ...]


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
    common = (numbers, traits.on_cpu, traits.loose_pointers, width, vectors)
    as_box = stencil.adds_as_box(exact=numbers.exact)
    return GenericJob(*common, by_lines=stencil.by_lines, as_box=as_box)


def vector_width(numbers: Numbers, traits: Traits) -> int:
    """Return how many sums fit a vector of the device; 1 on devices that have none."""
    if not traits.on_cpu:
        return 1
    return min(16, max(2, traits.vector_bytes // np.dtype(numbers.sum).itemsize))


def generic_arguments(source: Array, target: Array, stencil: Stencil, job: GenericJob) -> Arguments:
    """Return what the generic program is called with."""
    weights, taps, (tap_count, pair_count) = weights_and_taps(stencil)
    axes, count = outer_axes(source, target, tuple(range(source.ndim - 1)))
    width = target.shape[-1]
    counts = (len(axes) // 3, tap_count, width, *((pair_count,) if job.by_lines else ()))
    return Arguments(
        (weights.astype(job.numbers.sum), np.concatenate([taps @ pitches(source), completed_by(stencil)]), axes),
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


def completed_by(stencil: Stencil) -> npt.NDArray[np.int64]:
    """Return how many sums each voxel of a box completes, which stands behind its taps; of other stencils nothing."""
    return np.array(() if stencil.box_weight is None else completed_sums(stencil.size), np.int64)


def outer_axes(source: Array, target: Array, axes: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], int]:
    """Return extents and pitches of these axes from the innermost, flat, and the number of rows over them."""
    steps = zip(target.shape, pitches(source), pitches(target), strict=True)
    rows = [(extent, a, b) for axis, (extent, a, b) in enumerate(steps) if axis in axes and extent > 1]
    count = int(np.prod([extent for extent, _, _ in rows], dtype=np.int64))
    return np.array(rows[::-1], dtype=np.int64).ravel(), count


def lead_of(rows: Array, span: int) -> int:
    """Return where spans along rows begin, so that those after the first begin with a line of the cache: 0 or less.

    Parameters
    ----------
    rows : numpy.ndarray
        What is read or written. Rows that lie differently to the lines have no such place.
    span : int
        Voxels that are read or written at a time.

    Examples
    --------
    >>> memory = np.zeros(1024 + 64, np.uint8)
    >>> begin = -memory.ctypes.data % 64
    >>> rows = memory[begin:][:1024].view(np.float32).reshape(4, 64)
    >>> lead_of(rows, 16), lead_of(rows[:, 3:], 16), lead_of(rows[:, :15].copy(), 16)
    (0, -3, 0)
    """
    line_bytes = min(CACHE_LINE_BYTES, span * rows.itemsize)
    place = rows.ctypes.data % line_bytes
    strides = (stride for stride, extent in zip(rows.strides[:-1], rows.shape, strict=False) if extent > 1)
    if place % rows.itemsize or any(stride % line_bytes for stride in strides):
        return 0
    return -(place // rows.itemsize)


def are_whole(rows: Array) -> bool:
    """Say whether rows begin and end with lines of the cache.

    Examples
    --------
    >>> memory = np.zeros(16384 + 64, np.uint8)
    >>> rows = memory[-memory.ctypes.data % 64 :][:16384].view(np.float32).reshape(16, 256)
    >>> [are_whole(part) for part in (rows, rows[:, :240], rows[:, :250], rows[:, 3:])]
    [True, True, False, False]
    """
    steps = [stride for stride, extent in zip(rows.strides[:-1], rows.shape, strict=False) if extent > 1]
    row_bytes = rows.shape[-1] * rows.itemsize
    return not any(part % CACHE_LINE_BYTES for part in (rows.ctypes.data, row_bytes, *steps))


def is_lost(places: npt.NDArray[np.intp], cval: float, dtype: np.dtype[Any], numbers: Numbers) -> bool:
    """Say whether a constant is needed beyond a face, and is no value of a dtype that is not that of the sums."""
    if dtype.name == numbers.sum or not (places == OUTSIDE).any():
        return False
    with np.errstate(all="ignore"):
        cast = float(np.asarray(cval).astype(dtype))
    return cast != cval and not (dtype.kind == "f" and np.isnan(cval))
