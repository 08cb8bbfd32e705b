"""How long a run is expected to take: from what was measured of the device and of the storage."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from convolume.boundary import runs_length
from convolume.operations import Combine, Correlate, Sequence, reach_of
from convolume.planning.method import step_ns, walk_ns
from convolume.stages import Stage, Stages

if TYPE_CHECKING:
    from convolume.boundary import Runs
    from convolume.operations import Operation
    from convolume.planning.reading import Reading
    from convolume.records import MethodSpeeds, StorageSpeeds
    from convolume.regions import BlockGrid

__all__ = ["BlockTime", "Clock"]

# A block takes this part of the machine's processors on average: two at a time hardly hinder each other.
_SHARE_OF_PROCESSORS = 0.55
# To join two branches, and to cast a result and look for its range, in nanoseconds a voxel.
_JOIN_NS, _CAST_NS = 1.0, 1.0
# To take the means of a level of the pyramid, in nanoseconds a voxel of the level above it.
_MEAN_NS = 1.5
# Single precision is what is measured.
_DOUBLE = 2.0


@dataclass(frozen=True, slots=True)
class BlockTime:
    """Seconds that a block takes, alone on the machine."""

    read: float
    compute: float
    write: float

    @property
    def total(self) -> float:
        """One after the other."""
        return self.read + self.compute + self.write


@dataclass(frozen=True)
class Clock:
    """Forecasts times.

    Parameters
    ----------
    operations : tuple of Operation
        What is done for each output.
    output_itemsizes : tuple of int
        Bytes of a voxel of each.
    speeds : MethodSpeeds
        Of the device.
    storage : StorageSpeeds
        Of the source and of the outputs.
    prepares : bool
        Whether kernels get programs of their own.
    is_double : bool
        Whether sums are kept in float64.
    task_seconds : float
        What a task costs beside its block.
    own_device : bool
        Whether the device is no part of the processors that read and write; it does one block at a time.
    start_seconds : float
        Until workers are ready for their first block.
    """

    operations: tuple[Operation, ...]
    output_itemsizes: tuple[int, ...]
    speeds: MethodSpeeds
    storage: StorageSpeeds
    prepares: bool
    is_double: bool
    task_seconds: float
    own_device: bool
    start_seconds: float = 0.0

    def block(self, grid: BlockGrid, reading: Reading) -> BlockTime:
        """Return what an average block takes."""
        voxels, count = prod(grid.shape), len(grid)
        compute_ns = self._compute_ns(grid) + len(self.operations) * _CAST_NS * voxels / count
        return BlockTime(
            read=1e-9 * self.storage.read_ns * reading.bytes_decoded / count,
            compute=1e-9 * compute_ns,
            write=1e-9 * self.storage.write_ns * sum(self.output_itemsizes) * voxels / count,
        )

    def blocks_seconds(self, grid: BlockGrid, reading: Reading, workers: int, threads: int) -> float:
        """Return what all blocks take, with the idle slots at the end."""
        block, slots = self.block(grid, reading), workers * threads
        lanes = min(slots, len(grid))
        rounds = -(-len(grid) // slots)
        hindered = max(1.0, lanes * _SHARE_OF_PROCESSORS)
        tasks = self.start_seconds + self.task_seconds * len(grid) / workers
        if not self.own_device:
            return tasks + rounds * block.total * hindered
        in_turn = -(-len(grid) // workers) * block.compute
        return tasks + max(in_turn, rounds * (block.compute + hindered * (block.read + block.write)))

    def pyramid_seconds(self, level_voxels: tuple[tuple[int, ...], ...], slots: int) -> float:
        """Return what the lower levels of all outputs take, given the voxels of their levels."""
        taken_ns = 0.0
        for voxels, itemsize in zip(level_voxels, self.output_itemsizes, strict=True):
            above, here = sum(voxels[:-1]), sum(voxels[1:])
            taken_ns += above * (_MEAN_NS + itemsize * self.storage.read_ns) + here * itemsize * self.storage.write_ns
        return 1e-9 * taken_ns * max(1.0, slots * _SHARE_OF_PROCESSORS) / slots

    def _compute_ns(self, grid: BlockGrid) -> float:
        """Return what a block in the middle takes on the device, in nanoseconds; what outputs share counts once."""
        region = grid.region(tuple(count // 2 for count in grid.counts))
        wanted = tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True))
        stages = Stages.of(self.operations)
        needs = stages.needs(wanted, grid.shape)
        total = 0.0
        for number, stage in enumerate(stages.stages):
            if isinstance(stage, Stage):
                total += self._ns(stage.operation, needs[number], grid.shape)
            else:
                total += _JOIN_NS * _voxels(needs[number])
        return total * (_DOUBLE if self.is_double else 1.0)

    def _ns(self, operation: Operation, wanted: tuple[Runs, ...], shape: tuple[int, ...]) -> float:
        """Return what an operation takes to give its result on `wanted`; steps before the last give more than that."""
        if isinstance(operation, Correlate):
            return step_ns(operation, _voxels(wanted), self.speeds, prepares=self.prepares)
        if isinstance(operation, Combine):
            join_ns = _JOIN_NS * len(operation.operations) * _voxels(wanted)
            return join_ns + sum(self._ns(branch, wanted, shape) for branch in operation.operations)
        if (walked := walk_ns(operation, _voxels(wanted), self.speeds)) is not None and self.prepares:
            return walked
        return self._ns_of_steps(operation, wanted, shape)

    def _ns_of_steps(self, operation: Sequence, wanted: tuple[Runs, ...], shape: tuple[int, ...]) -> float:
        total = 0.0
        for step in reversed(operation.operations):
            total += self._ns(step, wanted, shape)
            wanted = reach_of(step, wanted, shape)
        return total


def _voxels(runs: tuple[Runs, ...]) -> int:
    return prod(map(runs_length, runs))
