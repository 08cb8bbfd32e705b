"""How many bytes one block takes at its peak, on the host and on the device: counted, not measured."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from convolume.devices._transform import Transform, transform_tile
from convolume.operations import Combine, Correlate, Operation, Sequence, correlations
from convolume.regions import Halo
from convolume.stages import Stages

__all__ = ["WORKER_BASE_BYTES", "BlockMemory", "total_halo"]

# An interpreter with dask, NumPy, an OpenCL runtime and the cache of decoded chunks.
WORKER_BASE_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class BlockMemory:
    """Sizes from which the peak of a block follows.

    Parameters
    ----------
    image_shape : tuple of int
        What no patch can exceed.
    source_itemsize, working_itemsize : int
        Bytes of a voxel as it is read, and between two steps.
    targets : tuple of (Operation, itemsize)
        What is done for each output, and the bytes of one of its voxels.
    """

    image_shape: tuple[int, ...]
    source_itemsize: int
    working_itemsize: int
    targets: tuple[tuple[Operation, int], ...]

    def host_bytes(self, block_shape: tuple[int, ...]) -> int:
        """Return the peak bytes of one block in a worker, from reading to writing; shared values are held all along."""
        patch = max(self._patch_voxels(operation, block_shape) for operation, _ in self.targets)
        voxels, finished, peak = prod(block_shape), 0, 0
        for operation, itemsize in self.targets:
            filtering = self._filter_bytes(operation, block_shape)
            # While a result is cast, its rounded copy and three masks stand beside it.
            casting = voxels * (2 * self.working_itemsize + 3 + itemsize)
            peak = max(peak, finished + max(filtering, casting))
            finished += voxels * max(itemsize, 1)
        writing = finished + voxels * max(itemsize for _, itemsize in self.targets)
        shared = len(Stages.of(operation for operation, _ in self.targets).shared)
        return patch * (self.source_itemsize + shared * self.working_itemsize) + max(peak, writing)

    def device_bytes(self, block_shape: tuple[int, ...]) -> int:
        """Return the peak bytes of one block on a device with memory of its own, where its chain stays."""
        return max(
            self._patch_voxels(operation, block_shape) * self.source_itemsize
            + self._filter_bytes(operation, block_shape)
            for operation, _ in self.targets
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
        """Return the bytes of a tile's and its kernel's Fourier transform."""
        if step is None or step.method != "fft":
            return 0
        kernel = step.stencil.shape
        single_bytes = Transform(transform_tile(block_shape, kernel), kernel).scratch_bytes
        return single_bytes * self.working_itemsize // np.dtype(np.float32).itemsize


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


def multiply_adds_per_voxel(operation: Operation) -> int:
    """Return the taps that one output voxel costs."""
    return sum(step.stencil.tap_count for step in correlations(operation))
