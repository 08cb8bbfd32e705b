"""Voxels that stay on a device with memory of its own, and the programs that run on them there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyopencl as cl
import pyopencl.tools

from convolume.arrays import new_array
from convolume.devices import HeldVoxels
from convolume.devices.opencl import _memory
from convolume.devices.opencl._anywhere import anywhere_arguments, anywhere_job
from convolume.devices.opencl._join import join_axes, join_job
from convolume.devices.opencl._programs import own_errors
from convolume.devices.opencl._tile import tile_of
from convolume.devices.opencl._transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from convolume.devices import Pass
    from convolume.devices.opencl._jobs import Job, Numbers
    from convolume.devices.opencl._programs import Programs
    from convolume.devices.opencl._tile_job import Limits, TileJob
    from convolume.operations import Arithmetic
    from convolume.records import DeviceInfo

__all__ = ["Residence", "Resident"]

Array = npt.NDArray[Any]
# Work items, and those of a group.
Size = tuple[tuple[int, ...], tuple[int, ...] | None]

ADVICE = "take smaller blocks or another device"
# Lists of weights and places that stay on the device; a chain on blocks of one shape uses the same again.
MOST_CONSTANTS = 64


@dataclass(frozen=True, eq=False)
class Resident(HeldVoxels):
    """Voxels in a buffer of the device: as many bytes from its beginning, and as far from each other, as in NumPy."""

    home: Residence
    buffer: cl.Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    start_bytes: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes of a voxel."""
        return self.dtype.itemsize

    def __getitem__(self, box: tuple[slice, ...]) -> Self:
        """Return a view of a box."""
        ranges = [part.indices(extent) for part, extent in zip(box, self.shape, strict=True)]
        start = sum(first * stride for (first, _, _), stride in zip(ranges, self.strides, strict=True))
        shape = tuple(stop - first for first, stop, _ in ranges)
        return replace(self, shape=shape, start_bytes=self.start_bytes + start)

    def __setitem__(self, box: tuple[slice, ...], voxels: Any) -> None:
        """Copy voxels to a box."""
        self.home.join("add", [voxels], self[box])

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self:
        """Return new voxels on the same device."""
        return type(self)(self.home, *self.home.empty(shape, dtype))

    def joined(self, arithmetic: Arithmetic, others: Sequence[Any], dtype: np.dtype[Any]) -> Self:
        """Return the arithmetic of these and others."""
        result = self.room(self.shape, dtype)
        self.home.join(arithmetic, [self, *others], result)
        return result

    def fetch(self, out: Array | None = None) -> Array:
        """Return the voxels in the host's memory."""
        return self.home.fetch(self, new_array(self.shape, self.dtype) if out is None else out)


@dataclass(frozen=True)
class Terms:
    """On what terms passes are done: the dtypes of one that reads a dtype, and whether a job is worth its program."""

    numbers: Callable[[np.dtype[Any]], Numbers]
    pays: Callable[[TileJob, int], bool]


class Residence:
    """One thread's side of a device: a queue of its own, memory that is used again, and what it does there.

    Two threads overlap: while one's voxels are on their way, the other's are worked on.
    """

    def __init__(self, queue: cl.CommandQueue, programs: Programs, info: DeviceInfo, limits: Limits) -> None:
        self.limits = limits
        self.transfers = Transfers(queue)
        self.queue, self._programs, self._info = queue, programs, info
        self._pool = cl.tools.MemoryPool(cl.tools.ImmediateAllocator(queue))
        self._constants: dict[tuple[str, bytes], cl.Buffer] = {}

    def hold(self, voxels: Array) -> Resident:
        """Upload voxels."""
        dtype = _memory.readable_dtype(voxels.dtype)
        held = Resident(self, *self.empty(voxels.shape, dtype))
        with own_errors(self._info, f"upload {voxels.shape} {voxels.dtype} voxels", ADVICE):
            self.transfers.upload(voxels, dtype, held.buffer)
        return held

    def fetch(self, voxels: Resident, out: Array) -> Array:
        """Download voxels to `out`."""
        dense = voxels
        if voxels.start_bytes or voxels.strides != _dense(voxels.shape, voxels.itemsize):
            dense = voxels.joined("add", [], voxels.dtype)
        with own_errors(self._info, f"compute or download {voxels.shape} {voxels.dtype} voxels", ADVICE):
            self.transfers.download(dense.buffer, dense.dtype, out)
        return out

    def empty(
        self, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[cl.Buffer, tuple[int, ...], tuple[int, ...], np.dtype[Any]]:
        """Return a buffer for a dense array, its shape, strides and dtype."""
        size_bytes = prod(shape) * dtype.itemsize
        with own_errors(self._info, f"hold {shape} {dtype} voxels", ADVICE):
            buffer: Any = self._pool.allocate(max(size_bytes, 1))
        return buffer, shape, _dense(shape, dtype.itemsize), dtype

    def weigh(self, voxels: Resident, passes: Sequence[Pass], out: Resident, terms: Terms) -> None:
        """Do passes one after the other, several at a time where a program does."""
        numbers = terms.numbers(voxels.dtype)
        # What passes between two steps is read by the next as if it were an image.
        is_alike = len(passes) == 1 or terms.numbers(out.dtype).sum == numbers.sum
        tile = tile_of(voxels, passes, out, numbers, self.limits) if is_alike else None
        if tile is not None and terms.pays(tile.job, tile.job.taps_a_voxel * prod(out.shape)):
            self._run(tile.job, tile.size, [voxels, out], tile.arguments)
        elif len(passes) == 1:
            arguments = anywhere_arguments(voxels, out, passes[0], numbers)
            self._run(anywhere_job(passes[0], numbers), _voxel_by_voxel(out), [voxels, out], arguments)
        else:
            between = voxels.room(passes[0].out_shape, out.dtype)
            self.weigh(voxels, passes[:1], between, terms)
            self.weigh(between, passes[1:], out, terms)

    def join(self, arithmetic: Arithmetic, parts: Sequence[Resident], out: Resident) -> None:
        """Write the arithmetic of parts, voxel by voxel."""
        job, axes = join_job(arithmetic, [part.dtype.name for part in parts], out.dtype.name), join_axes(out, parts)
        self._run(job, _voxel_by_voxel(out), [out, *parts], [axes.ravel(), np.int32(len(axes))])

    def _run(self, job: Job, size: Size, held: Sequence[Resident], arguments: Sequence[Any]) -> None:
        """Begin a program: it is told buffers, tables and numbers, and where the voxels in the buffers begin."""
        kernel = self._programs.kernel(job)
        with own_errors(self._info, f"run {job.template} over {size[0]} work items", ADVICE):
            told = [self._constant(each) if isinstance(each, np.ndarray) else each for each in arguments]
            starts = [np.int64(voxels.start_bytes // voxels.itemsize) for voxels in held]
            kernel(self.queue, *size, *(voxels.buffer for voxels in held), *told, *starts)

    def _constant(self, values: Array) -> cl.Buffer:
        """Return a list of numbers on the device, the same for the same numbers."""
        key = (values.dtype.name, values.tobytes())
        if key not in self._constants:
            if len(self._constants) >= MOST_CONSTANTS:
                self._constants.clear()
            flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
            filled = values if values.size else np.zeros(1, values.dtype)
            self._constants[key] = cl.Buffer(self.queue.context, flags, hostbuf=np.ascontiguousarray(filled))
        return self._constants[key]


def _dense(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the strides of a dense array."""
    return tuple(itemsize * prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _voxel_by_voxel(out: Resident) -> Size:
    """Return as many work items as there are voxels, in groups of any size."""
    return (prod(out.shape),), None
