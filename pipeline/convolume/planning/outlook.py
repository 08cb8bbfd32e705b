"""What a run would take with blocks of a given shape: reading, memory and time together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convolume.planning.blocks import BlockOption
from convolume.planning.reading import Reading
from convolume.regions import BlockGrid

if TYPE_CHECKING:
    from convolume.planning.forecast import Clock
    from convolume.planning.memory import WorkerMemory
    from convolume.planning.plan import Resources
    from convolume.planning.reading import Reads

__all__ = ["Outlook"]

# Decoded chunks take at most this part of what a worker has beside itself.
_SHARE_OF_CHUNKS = 0.5


@dataclass(frozen=True)
class Outlook:
    """Weighs shapes of blocks.

    Parameters
    ----------
    image_shape : tuple of int
        Extents of the image.
    reads : Reads
        Counts what is read.
    promise : WorkerMemory
        Counts what a worker holds.
    clock : Clock
        Forecasts times.
    resources : Resources
        Workers, threads and memory.
    with_halos : bool
        Whether every block reads its own halo; else the image is read once.
    """

    image_shape: tuple[int, ...]
    reads: Reads
    promise: WorkerMemory
    clock: Clock
    resources: Resources
    with_halos: bool

    def options(self, block: tuple[int, ...]) -> list[BlockOption]:
        """Return what blocks of a shape take, with fewer and with more chunks kept."""
        grid = BlockGrid(self.image_shape, block)
        return [self._option(grid, reading) for reading in self._readings(grid)]

    def needs(self, threads: int, block: tuple[int, ...]) -> int:
        """Return the least bytes that a worker needs for so many blocks of a shape at a time."""
        resources = replace(self.resources, threads_per_worker=threads)
        outlook = replace(self, promise=replace(self.promise, threads=threads), resources=resources)
        return min(option.peak_host_bytes for option in outlook.options(block))

    def _readings(self, grid: BlockGrid) -> list[Reading]:
        if not self.with_halos:
            whole = self.reads.image_bytes
            return [Reading(whole, whole, 0, 0)]
        free_bytes = self.resources.worker_memory_bytes - self.promise.base_bytes
        threads = min(self.resources.threads_per_worker, len(grid))
        workers = min(self.resources.workers, len(grid))
        return self.reads.of(grid, threads, most_cache_bytes=int(_SHARE_OF_CHUNKS * free_bytes), workers=workers)

    def _option(self, grid: BlockGrid, reading: Reading) -> BlockOption:
        resources = self.resources
        seconds = self.clock.blocks_seconds(grid, reading, resources.workers, resources.threads_per_worker)
        return BlockOption(grid.block_shape, reading, seconds, self.promise.peak_bytes(grid, reading))
