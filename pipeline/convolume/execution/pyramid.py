"""The lower levels of an output: each is the block mean of the level above it."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.clusters import Task
from convolume.execution.failures import finish_all
from convolume.execution.patience import errors_at, patiently
from convolume.numerics import cast_result
from convolume.regions import BlockGrid, Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.clusters import Cluster
    from convolume.stores import Sink

__all__ = ["block_mean", "display_windows", "drive_pyramid", "pyramid_block_count"]

Array = npt.NDArray[Any]

# Blocks grow by whole shards up to about this size, so that a level does not take a task a chunk.
_BLOCK_VOXELS = 2**23
_BEYOND_FLOAT64 = (np.dtype(np.int64), np.dtype(np.uint64))


def drive_pyramid(cluster: Cluster, sinks: dict[str, Sink]) -> Iterator[int]:
    """Fill the levels of all outputs, from the finest to the coarsest; yield the bytes of every block written."""
    deepest = max(len(sink.levels) for sink in sinks.values())
    for level in range(1, deepest):
        tasks = (
            Task(f"{name}: pyramid level {level}", index, write_level_block, (sink, level, region))
            for name, sink in sinks.items()
            if level < len(sink.levels)
            for index, region in _level_grid(sink, level)
        )
        yield from finish_all(cluster, tasks)


def pyramid_block_count(sinks: dict[str, Sink]) -> int:
    """Return the number of blocks that `drive_pyramid` writes."""
    return sum(len(_level_grid(sink, level)) for sink in sinks.values() for level in range(1, len(sink.levels)))


def write_level_block(sink: Sink, level: int, region: Region) -> int:
    """Write one block of a level from the level above it; return the bytes written."""
    above, here = sink.levels[level - 1].shape, sink.levels[level].shape
    factors = tuple(2 if n < m else 1 for n, m in zip(here, above, strict=True))
    start = tuple(a * f for a, f in zip(region.start, factors, strict=True))
    stop = tuple(min(b * f, n) for b, f, n in zip(region.stop, factors, above, strict=True))
    above_it = Region(start, stop)
    with errors_at(f"{sink.path}, pyramid level {level} at {region}"):
        finer = patiently(sink.path, f"voxels {above_it} cannot be read", lambda: sink.read(level - 1, above_it))
        means = block_mean(finer, factors)
        return patiently(sink.path, f"voxels {region} cannot be written", lambda: sink.write(level, region, means))


def block_mean(voxels: Array, factors: tuple[int, ...]) -> Array:
    """Return the mean of every 2 voxels along the axes whose factor is 2, in the input's dtype.

    A last voxel without a partner stands for itself; integers are rounded half to even, once.

    Examples
    --------
    >>> block_mean(np.array([[0, 1], [1, 1], [7, 8]], np.uint8), (2, 2)).tolist()
    [[1], [8]]
    """
    if voxels.dtype in _BEYOND_FLOAT64:
        return _whole_mean(voxels, factors)
    narrow = voxels.dtype.itemsize <= np.dtype(np.uint16).itemsize or voxels.dtype == np.float32
    means = voxels.astype(np.float32 if narrow else np.float64, copy=False)
    for axis, factor in enumerate(factors):
        if factor > 1:
            means = _pair_mean(means, axis)
    # A mask stays a mask: half or less of it is nothing.
    return cast_result(np.rint(means) if voxels.dtype.kind == "b" else means, voxels.dtype)


def display_windows(sink: Sink, smallest: float, largest: float) -> tuple[tuple[float, float, float, float], ...]:
    """Return (min, max, start, end) of every channel: the range of the whole image, and what is worth showing.

    Start and end are the 0.1 and 99.9 percentiles of the coarsest level, as finite numbers.
    """
    image = sink.levels[-1]
    channel = next((i for i, axis in enumerate(image.axes) if axis.kind == "channel"), None)
    low, high = (value if np.isfinite(value) else 0.0 for value in (smallest, largest))
    if image.size_voxels > _BLOCK_VOXELS:
        return ((low, high, low, high),) * (1 if channel is None else image.shape[channel])
    voxels = sink.read(len(sink.levels) - 1, Region.whole(image.shape))
    channels = [voxels] if channel is None else list(np.moveaxis(voxels, channel, 0))
    return tuple((low, high, *_shown_range(values)) for values in channels)


def _shown_range(voxels: Array) -> tuple[float, float]:
    finite = voxels[np.isfinite(voxels)]
    if not finite.size:
        return 0.0, 1.0
    start, end = np.percentile(finite.astype(np.float64), (0.1, 99.9)).tolist()
    return (start, end) if start < end else (start, start + 1.0)


def _pair_mean(values: Array, axis: int) -> Array:
    first = values[(slice(None),) * axis + (slice(0, None, 2),)]
    second = values[(slice(None),) * axis + (slice(1, None, 2),)]
    paired = (slice(None),) * axis + (slice(0, second.shape[axis]),)
    means = first.copy()
    with np.errstate(all="ignore"):
        means[paired] *= 0.5
        means[paired] += second * means.dtype.type(0.5)
    return means


def _whole_mean(voxels: Array, factors: tuple[int, ...]) -> Array:
    """Return the block mean of 64-bit integers: quotients and remainders are summed apart, so nothing overflows."""
    one = voxels.dtype.type(1)
    count = voxels.dtype.type(prod(factors))
    quotients, remainders = np.divmod(voxels, count)
    for axis, factor in enumerate(factors):
        if factor > 1:
            quotients, remainders = _pair_sum(quotients, axis), _pair_sum(remainders, axis)
    carried, left = np.divmod(remainders, count)
    means: Array = quotients + carried
    doubled = left + left
    means[(doubled > count) | ((doubled == count) & (means % (one + one) == one))] += one
    return means


def _pair_sum(values: Array, axis: int) -> Array:
    first = values[(slice(None),) * axis + (slice(0, None, 2),)]
    second = values[(slice(None),) * axis + (slice(1, None, 2),)]
    # A last voxel without a partner counts twice.
    alone = first[(slice(None),) * axis + (slice(second.shape[axis], None),)]
    sums: Array = first + np.concatenate([second, alone], axis=axis)
    return sums


def _level_grid(sink: Sink, level: int) -> BlockGrid:
    image = sink.levels[level]
    unit = image.shards or image.chunks or image.shape
    block = list(unit)
    for axis in reversed(range(image.ndim)):
        while block[axis] < image.shape[axis] and 2 * int(np.prod(block)) <= _BLOCK_VOXELS:
            block[axis] *= 2
    return BlockGrid(image.shape, tuple(block))
