"""What blocks read of a source, and which chunks are decoded for it, with so many of them kept."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from convolume.boundary import runs_length
from convolume.operations import reach_on_axis

if TYPE_CHECKING:
    from convolume.operations import Operation
    from convolume.regions import BlockGrid

__all__ = ["ENTRY_BYTES", "Reading", "Reads"]

# A chunk that is kept takes a little beside its voxels: its key, its version, its place in the queue.
ENTRY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """What the blocks of one grid read.

    Parameters
    ----------
    bytes_read : int
        What blocks are given, halos included, all of them together.
    bytes_decoded : int
        What is decoded for it: whole chunks, those again that were not kept.
    cache_bytes : int
        Decoded chunks that a worker keeps.
    chunk_bytes : int
        The most that the chunks of one block take, decoded.
    """

    bytes_read: int
    bytes_decoded: int
    cache_bytes: int
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class _AxisReads:
    """Voxels that all blocks along an axis read together; chunks, each time and once.

    Of one block `most` chunks are read, and `shared` is the most that it has in common with the next.
    """

    voxels: int
    touched: int
    distinct: int
    most: int
    shared: int


def _at_a_border(axes: list[_AxisReads], last: int) -> int:
    """Return the chunks that two workers read where the blocks of one end and those of the next begin."""
    return sum(
        prod(axis.most for axis in axes[:cut]) * axes[cut].shared * prod(axis.distinct for axis in axes[cut + 1 :])
        for cut in range(last, len(axes))
    )


def _between(axes: list[_AxisReads], last: int) -> int:
    """Return the chunks that are read between the uses of one by neighbours along an axis: all along later axes."""
    return prod(axis.most for axis in axes[: last + 1]) * prod(axis.distinct for axis in axes[last + 1 :])


class Reads:
    """Counts what blocks read; what one axis needs does not depend on the others.

    Parameters
    ----------
    operations : list of Operation
        What is done on every block.
    shape : tuple of int
        Extents of the image.
    itemsize : int
        Bytes of a voxel as it is stored.
    chunks : tuple of (extent, origin), optional
        What is decoded at a time, axis by axis, and the image's first voxel in the first chunk's coordinates; None
        where nothing is decoded.
    """

    def __init__(
        self,
        operations: list[Operation],
        shape: tuple[int, ...],
        itemsize: int,
        chunks: tuple[tuple[int, int], ...] | None,
    ) -> None:
        self._operations, self._shape, self._itemsize, self._chunks = operations, shape, itemsize, chunks
        self._known: dict[tuple[int, int], _AxisReads] = {}

    @property
    def image_bytes(self) -> int:
        """Bytes of the whole image."""
        return prod(self._shape) * self._itemsize

    def of(self, grid: BlockGrid, slots: int, *, most_cache_bytes: int, workers: int = 1) -> list[Reading]:
        """Return what is read with no chunks kept, and with as many as serve neighbours along one axis, two, and so on.

        Parameters
        ----------
        grid : BlockGrid
            The blocks, of which a worker gets a part, one after the other, the last axis first.
        slots : int
            Blocks that a worker works on at a time.
        most_cache_bytes : int
            What chunks that are kept may take.
        workers : int
            How many there are; what lies where two parts meet is decoded by both.
        """
        axes = [self._axis(axis, block) for axis, block in enumerate(grid.block_shape)]
        bytes_read = prod(axis.voxels for axis in axes) * self._itemsize
        if self._chunks is None:
            return [Reading(bytes_read, bytes_read, 0, 0)]
        one = prod(extent for extent, _ in self._chunks) * self._itemsize
        most = prod(axis.most for axis in axes) * one
        readings = [Reading(bytes_read, prod(axis.touched for axis in axes) * one, 0, most)]
        for last in reversed(range(len(axes))):
            # What was used longest ago goes first, also while a block is read, in whatever order: so there is room for
            # neighbours along the next axis beside what is kept, or for the last blocks.
            kept = slots * (_between(axes, last) + _between(axes, min(last + 1, len(axes) - 1)))
            cache_bytes = min(kept, prod(axis.distinct for axis in axes)) * (one + ENTRY_BYTES)
            if axes[last].touched == axes[last].distinct:
                continue
            if cache_bytes > most_cache_bytes:
                break
            counts = [axis.touched for axis in axes[:last]] + [axis.distinct for axis in axes[last:]]
            decoded = prod(counts) + (workers - 1) * _at_a_border(axes, last)
            readings.append(Reading(bytes_read, decoded * one, cache_bytes, most))
        return readings

    def _axis(self, axis: int, block: int) -> _AxisReads:
        if (axis, block) not in self._known:
            self._known[axis, block] = self._counted(axis, block)
        return self._known[axis, block]

    def _counted(self, axis: int, block: int) -> _AxisReads:
        length, voxels, touched, most, shared = self._shape[axis], 0, 0, 0, 0
        chunk, origin = (1, 0) if self._chunks is None else self._chunks[axis]
        all_touched: set[int] = set()
        before: set[int] = set()
        for start in range(0, length, block):
            runs = reach_on_axis(self._operations, self._shape, axis, (start, min(start + block, length)))
            here = {at for a, b in runs for at in range((a + origin) // chunk, -(-(b + origin) // chunk))}
            voxels += runs_length(runs)
            touched += len(here)
            most, shared = max(most, len(here)), max(shared, len(here & before))
            all_touched |= here
            before = here
        return _AxisReads(voxels, touched, len(all_touched), most, shared)
