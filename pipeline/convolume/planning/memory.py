"""How many bytes one block takes at its peak, on the host and on the device: counted, not measured."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from convolume.devices._transform import KEPT_BYTES, Transform, transform_tile
from convolume.operations import Combine, Correlate, Operation, Sequence, correlations
from convolume.regions import Halo
from convolume.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.planning.reading import Reading
    from convolume.regions import BlockGrid

__all__ = ["BlockMemory", "TargetMemory", "WorkerMemory", "total_halo"]


# Allocators keep gaps between what is in use, and runs begin threads and pools of their own: with these, none of the
# drawn plans of docs/reliability.md was beyond its promise.
_WITH_GAPS, _RUN_BYTES = 1.07, 96 * 2**20
# A program, and what its compiler leaves: more than was measured in the drawn plans of the tests, with PoCL.
_PROGRAM_BYTES = 16 * 2**20


class TargetMemory(NamedTuple):
    """What is done for an output, bytes of one of its voxels, and whether sums are rounded to its dtype at once."""

    operation: Operation
    itemsize: int
    is_rounded: bool = False


@dataclass(frozen=True, slots=True)
class BlockMemory:
    """Sizes from which the peak of a block follows.

    Parameters
    ----------
    image_shape : tuple of int
        What no patch can exceed.
    source_itemsize, working_itemsize : int
        Bytes of a voxel as it is read, and between two steps.
    targets : tuple of TargetMemory
        Of each output.
    """

    image_shape: tuple[int, ...]
    source_itemsize: int
    working_itemsize: int
    targets: tuple[TargetMemory, ...]

    def host_bytes(self, block_shape: tuple[int, ...]) -> int:
        """Return the peak bytes of one block in a worker, from reading to writing; shared values are held all along."""
        patch = max(self._patch_voxels(target.operation, block_shape) for target in self.targets)
        voxels, finished, peak = prod(block_shape), 0, 0
        for operation, itemsize, is_rounded in self.targets:
            filtering = self._filter_bytes(operation, block_shape)
            if is_rounded:
                peak = max(peak, finished + filtering - voxels * (self.working_itemsize - itemsize))
                finished += voxels * itemsize
                continue
            casting = voxels * (self.working_itemsize + itemsize)
            peak = max(peak, finished + max(filtering, casting))
            # The result before the cast is let go when the next one is there.
            finished += voxels * itemsize
            peak = max(peak, finished + voxels * self.working_itemsize) if len(self.targets) > 1 else peak
        # Chunks are copied before they are encoded, and what is encoded is no larger.
        writing = finished + 2 * voxels * max(target.itemsize for target in self.targets)
        shared = len(Stages.of(target.operation for target in self.targets).shared)
        return patch * (self.source_itemsize + shared * self.working_itemsize) + max(peak, writing)

    @property
    def program_bytes(self) -> int:
        """Bytes of the programs that are compiled for the operations, one for passes along the axes together."""
        return _PROGRAM_BYTES * len({unit for target in self.targets for unit in _units(target.operation)})

    def kernel_bytes(self, grid: BlockGrid) -> int:
        """Return the bytes of the kernels' Fourier transforms, which a process keeps for more blocks, up to a limit."""
        steps = {step for target in self.targets for step in correlations(target.operation)}
        sizes = [self._transform_bytes(step, grid.block_shape) for step in steps]
        # The last blocks along an axis have others.
        shapes: int = 2 ** sum(n > b and n % b > 0 for n, b in zip(grid.shape, grid.block_shape, strict=True))
        return max(min(shapes * sum(sizes), KEPT_BYTES), max(sizes, default=0))

    def hungriest(self, block_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return which step of which target holds most while it is done, and how many bytes: (target, step, bytes)."""
        found = [(0, 0, 0)]
        for target, (operation, *_) in enumerate(self.targets):
            steps = operation.operations if isinstance(operation, Sequence) else (operation,)
            for number, step in enumerate(steps):
                after = total_halo(Sequence(steps[number + 1 :]), len(block_shape)).outer(block_shape)
                given = tuple(min(n, extent) for n, extent in zip(after, self.image_shape, strict=True))
                found.append((target, number, self._filter_bytes(step, given)))
        return max(found, key=itemgetter(2))

    def device_bytes(self, block_shape: tuple[int, ...]) -> int:
        """Return the peak bytes of one block on a device with memory of its own, where its chain stays."""
        return max(
            self._patch_voxels(operation, block_shape) * self.source_itemsize
            + self._filter_bytes(operation, block_shape)
            for operation, *_ in self.targets
        )

    def _patch_voxels(self, operation: Operation, block_shape: tuple[int, ...]) -> int:
        outer = total_halo(operation, len(block_shape)).outer(block_shape)
        return prod(min(n, extent) for n, extent in zip(outer, self.image_shape, strict=True))

    def _filter_bytes(self, operation: Operation, block_shape: tuple[int, ...]) -> int:
        """Return the bytes of intermediate results: a step's input and output, and its filled faces."""
        voxels = self._patch_voxels(operation, block_shape)
        if isinstance(operation, Combine):
            parts = [self._filter_bytes(branch, block_shape) for branch in operation.operations]
            return max(parts) + len(parts) * prod(block_shape) * self.working_itemsize
        steps = len(operation.operations) if isinstance(operation, Sequence) else 1
        transforming = max(self._transform_bytes(step, block_shape) for step in (*correlations(operation), None))
        return voxels * self.working_itemsize * (3 if steps > 1 else 2) + transforming

    def _transform_bytes(self, step: Correlate | None, block_shape: tuple[int, ...]) -> int:
        """Return the bytes of a tile's Fourier transform, which are as many as its kernel's."""
        if step is None or step.method != "fft":
            return 0
        kernel = step.stencil.shape
        single_bytes = Transform(transform_tile(block_shape, kernel), kernel).scratch_bytes
        return single_bytes // 2 * self.working_itemsize // np.dtype(np.float32).itemsize


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """What a worker process holds at its peak: itself, the chunks that it keeps, and the blocks that it works on.

    Parameters
    ----------
    base_bytes : int
        The process before its first block, its device ready.
    block : BlockMemory
        Of one block.
    pyramid_bytes : int
        Of one block of the lower levels, which come when the others are done.
    threads : int
        Blocks that are worked on at a time, where there are so many.
    """

    base_bytes: int
    block: BlockMemory
    pyramid_bytes: int
    threads: int

    def peak_bytes(self, grid: BlockGrid, reading: Reading) -> int:
        """Return the promise."""
        at_a_time = min(self.threads, len(grid))
        # Chunks in use stay, however few are to be kept.
        chunks = max(reading.cache_bytes, at_a_time * reading.chunk_bytes)
        blocks = at_a_time * self.block.host_bytes(grid.block_shape)
        kept = self.block.program_bytes + self.block.kernel_bytes(grid)
        moving = max(chunks + blocks, reading.cache_bytes + self.threads * self.pyramid_bytes)
        return int(self.base_bytes + _RUN_BYTES + kept + _WITH_GAPS * moving)


def total_halo(operation: Operation, ndim: int) -> Halo:
    """Return what an operation reads around a block far from all faces: the sum of its steps' halos."""
    if isinstance(operation, Combine):
        halos = [total_halo(branch, ndim) for branch in operation.operations]
        return Halo(
            tuple(np.max([halo.before for halo in halos], axis=0).tolist()),
            tuple(np.max([halo.after for halo in halos], axis=0).tolist()),
        )
    if isinstance(operation, Correlate):
        return operation.stencil.halo
    halos = [total_halo(step, ndim) for step in operation.operations]
    return Halo(
        tuple(sum(halo.before[axis] for halo in halos) for axis in range(ndim)),
        tuple(sum(halo.after[axis] for halo in halos) for axis in range(ndim)),
    )


def _units(operation: Operation) -> Iterator[Operation]:
    """Yield what is weighed by one program each."""
    parts = () if isinstance(operation, Correlate) else operation.operations
    if isinstance(operation, Combine) or not all(isinstance(part, Correlate) for part in parts):
        for part in parts:
            yield from _units(part)
    elif parts or isinstance(operation, Correlate):
        yield operation
