"""The blocks of a run: their shape, and what they read."""

from __future__ import annotations

from itertools import accumulate
from math import lcm, prod
from typing import TYPE_CHECKING

from convolume.boundary import runs_length
from convolume.errors import InputError
from convolume.operations import reach_on_axis
from convolume.planning.memory import WORKER_BASE_BYTES
from convolume.regions import BlockGrid

if TYPE_CHECKING:
    from convolume.operations import Operation
    from convolume.planning.memory import BlockMemory
    from convolume.planning.plan import Resources

__all__ = ["bytes_to_read", "checked_block", "choose_block_shape"]

# Blocks stop growing here: large enough that halos are cheap, small enough to be many.
_BLOCK_VOXELS = 2**24
# Enough blocks that all workers stay busy until the end.
_BLOCKS_PER_SLOT = 4


def choose_block_shape(
    image_shape: tuple[int, ...],
    write_units: list[tuple[int, ...]],
    space_axes: tuple[int, ...],
    memory: BlockMemory,
    resources: Resources,
) -> tuple[tuple[int, ...], str]:
    """Return a block shape that is a whole number of every output's shards, and the reason for it.

    Blocks grow from one shard, the shortest space axis first, while they stay under 2^24 voxels, fit into the
    workers' memory and are at least four for each slot.
    """
    unit = tuple(min(lcm(*axis), n) for axis, n in zip(zip(*write_units, strict=True), image_shape, strict=True))
    budget = _block_budget(resources)
    block = unit
    while (larger := _grown(block, image_shape, space_axes)) is not None:
        grid = BlockGrid(image_shape, larger)
        fits = memory.host_bytes(larger) <= budget and prod(larger) <= _BLOCK_VOXELS
        if not fits or len(grid) < _BLOCKS_PER_SLOT * resources.slots:
            break
        block = larger
    shards = prod(-(-b // u) for b, u in zip(block, unit, strict=True))
    return block, f"{shards} shard{'s' if shards > 1 else ''} of every output"


def checked_block(wanted: tuple[int, ...], shape: tuple[int, ...], units: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the wanted block for all axes: missing leading ones get 1, none exceeds the image.

    Raises
    ------
    InputError
        It has too many axes, or cuts through a shard.
    """
    if len(wanted) > len(shape):
        message = f"{list(wanted)} has {len(wanted)} axes, and the image has {len(shape)}"
        raise InputError(message)
    block = tuple(min(b, n) for b, n in zip((1,) * (len(shape) - len(wanted)) + wanted, shape, strict=True))
    for unit in units:
        if any(b % u and b < n for b, u, n in zip(block, unit, shape, strict=True)):
            message = (
                f"{list(block)} cuts through the outputs' shards of {list(unit)}: each shard has one writer, so a "
                "block is a whole number of them (name smaller `chunks:` or `shards:` for the output, or another block)"
            )
            raise InputError(message)
    return block


def bytes_to_read(
    operations: list[Operation], grid: BlockGrid, itemsize: int, *, with_halos: bool
) -> tuple[int, float]:
    """Return the bytes that all blocks read, and how often an average voxel is read.

    What a block needs on one axis does not depend on the others, so the sum over all blocks is a
    product of sums over the axes.
    """
    whole = prod(grid.shape) * itemsize
    if not with_halos or not whole:
        return whole, 1.0
    total = 1
    for axis, extents in enumerate(grid.extents):
        intervals = [(stop - extent, stop) for stop, extent in zip(accumulate(extents), extents, strict=True)]
        total *= sum(runs_length(reach_on_axis(operations, grid.shape, axis, interval)) for interval in intervals)
    return total * itemsize, total * itemsize / whole


def _grown(block: tuple[int, ...], image_shape: tuple[int, ...], space_axes: tuple[int, ...]) -> tuple[int, ...] | None:
    open_axes = [axis for axis in space_axes if block[axis] < image_shape[axis]]
    if not open_axes:
        return None
    shortest = min(reversed(open_axes), key=lambda axis: block[axis])
    return tuple(min(2 * b, n) if a == shortest else b for a, (b, n) in enumerate(zip(block, image_shape, strict=True)))


def _block_budget(resources: Resources) -> int:
    return (resources.worker_memory_bytes - WORKER_BASE_BYTES) // resources.threads_per_worker
