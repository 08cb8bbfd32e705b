"""The lower levels of an output: each is the block mean of the level above it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.arrays import new_array
from convolume.clusters import Task
from convolume.execution.failures import finish_all
from convolume.execution.footprint import peak_bytes, worker_name
from convolume.execution.journal import check_claims
from convolume.execution.patience import errors_at, patiently
from convolume.execution.recovery import alone_if_memory_lacks
from convolume.numerics import cast_result
from convolume.regions import BlockGrid, Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from convolume.clusters import Cluster
    from convolume.execution.journal import Journal
    from convolume.stores import Sink

__all__ = [
    "LevelBlock",
    "Pyramid",
    "block_mean",
    "display_windows",
    "drive_pyramids",
    "pyramid_block_count",
    "pyramid_bytes",
]

Array = npt.NDArray[Any]

# Blocks grow by whole shards up to about this size, so that a level does not take a task a chunk; of the level above
# they read eight times as much.
_BLOCK_VOXELS = 2**21
# Of larger images only the middle is looked at for the range that is worth showing: whoever drives the run holds it.
_SHOWN_VOXELS = 2**21
# What is averaged at a time stays in a core's second-level cache.
_PART_VOXELS = 2**17
_BEYOND_FLOAT64 = (np.dtype(np.int64), np.dtype(np.uint64))


@dataclass(frozen=True)
class Pyramid:
    """The lower levels of one output, and where their blocks are marked; small, and sent to the workers."""

    name: str
    sink: Sink
    journal: Journal | None = None

    def blocks(self, level: int) -> BlockGrid:
        """Return the blocks of a level that is there."""
        return _level_grid(self.sink, level)


@dataclass(frozen=True, slots=True)
class LevelBlock:
    """A block of a lower level that was written: its bytes, and the most that the worker has held so far."""

    bytes_written: int
    worker: str
    peak_host_bytes: int


def drive_pyramids(
    cluster: Cluster, pyramids: list[Pyramid], is_done: Callable[[str, int, Region], bool]
) -> Iterator[LevelBlock]:
    """Fill the levels of all outputs, from the finest to the coarsest; yield every block written.

    Parameters
    ----------
    cluster : Cluster
        Where tasks run.
    pyramids : list of Pyramid
        One for each output.
    is_done : callable
        Says of an output's name, a level and a block's region whether it is done already; then it is left out.
    """
    deepest = max(len(pyramid.sink.levels) for pyramid in pyramids)
    for level in range(1, deepest):
        tasks = (
            Task(f"{pyramid.name}: pyramid level {level}", index, write_level_block, (pyramid, level, index, region))
            for pyramid in pyramids
            if level < len(pyramid.sink.levels)
            for index, region in pyramid.blocks(level)
            if not is_done(pyramid.name, level, region)
        )
        yield from finish_all(cluster, tasks)


def pyramid_block_count(pyramids: list[Pyramid], is_done: Callable[[str, int, Region], bool]) -> int:
    """Return the number of blocks that `drive_pyramids` writes."""
    return sum(
        not is_done(pyramid.name, level, region)
        for pyramid in pyramids
        for level in range(1, len(pyramid.sink.levels))
        for _, region in pyramid.blocks(level)
    )


def pyramid_bytes(sinks: Iterable[Sink]) -> int:
    """Return the peak bytes of one block of the lower levels: what it reads, decoded chunks, and its copies."""
    most = 0
    for sink in sinks:
        for level in range(1, len(sink.levels)):
            grid, factors = _level_grid(sink, level), _factors(sink, level)
            voxels = prod(grid.block_shape)
            above = min(voxels * prod(factors), sink.levels[level - 1].size_voxels)
            most = max(most, (2 * above + 3 * voxels) * np.dtype(sink.levels[level].dtype).itemsize)
    return most


def write_level_block(pyramid: Pyramid, level: int, index: tuple[int, ...], region: Region) -> LevelBlock:
    """Write and mark one block of a level, made from the level above it.

    Where memory lacks, it is done once more while no other block is.
    """
    written = alone_if_memory_lacks(lambda: _write_level_block(pyramid, level, index, region))
    return LevelBlock(written, worker_name(), peak_bytes())


def _write_level_block(pyramid: Pyramid, level: int, index: tuple[int, ...], region: Region) -> int:
    sink = pyramid.sink
    above, factors = sink.levels[level - 1].shape, _factors(sink, level)
    start = tuple(a * f for a, f in zip(region.start, factors, strict=True))
    stop = tuple(min(b * f, n) for b, f, n in zip(region.stop, factors, above, strict=True))
    journal = pyramid.journal
    with errors_at(f"{sink.path}, pyramid level {level} at {region}"):
        finer = _read(sink, level - 1, Region(start, stop))
        means = block_mean(finer, factors)
        check_claims([journal])
        written = patiently(sink.path, f"voxels {region} cannot be written", lambda: sink.write(level, region, means))
        if journal is not None:
            patiently(journal.folder, "a mark cannot be left", lambda: journal.mark(level, index, region, means))
    return written


def _read(sink: Sink, level: int, region: Region) -> Array:
    return patiently(sink.path, f"voxels {region} cannot be read", lambda: sink.read(level, region))


def block_mean(voxels: Array, factors: tuple[int, ...]) -> Array:
    """Return the mean of every 2 voxels along the axes whose factor is 2, in the input's dtype.

    A last voxel without a partner stands for itself; integers are rounded half to even, once.

    Examples
    --------
    >>> block_mean(np.array([[0, 1], [1, 1], [7, 8]], np.uint8), (2, 2)).tolist()
    [[1], [8]]
    """
    shape = tuple(-(-n // factor) for n, factor in zip(voxels.shape, factors, strict=True))
    result = new_array(shape, voxels.dtype)
    axis = next((axis for axis, n in enumerate(shape) if n > 1), 0)
    length = max(1, _PART_VOXELS * shape[axis] // max(1, voxels.size))
    for start in range(0, shape[axis], length):
        part = (slice(None),) * axis + (slice(start, start + length),)
        finer = (slice(None),) * axis + (slice(start * factors[axis], (start + length) * factors[axis]),)
        result[part] = _mean_of_part(voxels[finer], factors)
    return result


def _mean_of_part(voxels: Array, factors: tuple[int, ...]) -> Array:
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

    Start and end are the 0.1 and 99.9 percentiles of the coarsest level, or of its middle, as finite numbers.
    """
    image = sink.levels[-1]
    channel = next((i for i, axis in enumerate(image.axes) if axis.kind == "channel"), None)
    low, high = (value if np.isfinite(value) else 0.0 for value in (smallest, largest))
    middles = [_middle(image.shape)] if channel is None else _middles(image.shape, channel)
    return tuple((low, high, *_shown_range(_read(sink, len(sink.levels) - 1, middle))) for middle in middles)


def _middles(shape: tuple[int, ...], channel: int) -> Iterator[Region]:
    """Return the middles of all channels."""
    one = _middle((*shape[:channel], 1, *shape[channel + 1 :]))
    steps = ((0,) * channel + (number,) + (0,) * (len(shape) - channel - 1) for number in range(shape[channel]))
    return map(one.shifted, steps)


def _middle(shape: tuple[int, ...]) -> Region:
    """Return the middle of an image, its longest axis halved until so few voxels are left."""
    extents = list(shape)
    while prod(extents) > _SHOWN_VOXELS:
        longest = extents.index(max(extents))
        extents[longest] = -(-extents[longest] // 2)
    start = tuple((n - extent) // 2 for n, extent in zip(shape, extents, strict=True))
    return Region(start, tuple(map(sum, zip(start, extents, strict=True))))


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


def _factors(sink: Sink, level: int) -> tuple[int, ...]:
    """Return by how much each axis of the level above is longer: 2 or 1."""
    above, here = sink.levels[level - 1].shape, sink.levels[level].shape
    return tuple(2 if n < m else 1 for n, m in zip(here, above, strict=True))


def _level_grid(sink: Sink, level: int) -> BlockGrid:
    image = sink.levels[level]
    unit = image.shards or image.chunks or image.shape
    block = list(unit)
    for axis in reversed(range(image.ndim)):
        while block[axis] < image.shape[axis] and 2 * int(np.prod(block)) <= _BLOCK_VOXELS:
            block[axis] *= 2
    return BlockGrid(image.shape, tuple(block))
