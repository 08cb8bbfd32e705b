"""What is opened for an OpenCL device in one process: its context, programs, queues and memory; how programs run."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyopencl as cl

from convolume.arrays import new_array
from convolume.devices.opencl import _memory
from convolume.devices.opencl._discovery import find, shares_memory, takes_system_pointers, traits_of
from convolume.devices.opencl._guard import Guard
from convolume.devices.opencl._programs import Programs, own_errors
from convolume.devices.opencl._resident import Residence
from convolume.devices.opencl._tile_job import Limits
from convolume.devices.opencl._variants import Variants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from convolume.devices.opencl._arrangement import Arguments
    from convolume.devices.opencl._fourier import Fourier
    from convolume.devices.opencl._jobs import Job, Traits
    from convolume.records import DeviceInfo

__all__ = ["Launch", "State"]

Array = npt.NDArray[Any]

# Room between two passes that a thread keeps for the next call.
MOST_KEPT_BYTES = 72 * 1024 * 1024


@dataclass(frozen=True)
class Launch:
    """A program that is to run: its job, what it reads and writes, and what it is called with."""

    job: Job
    source: Array
    target: Array
    arrange: Callable[[Array, Array], Arguments]


class State:
    """What is opened for a device in one process."""

    def __init__(
        self, info: DeviceInfo, variants: Variants | None, guard: Callable[[DeviceInfo, Traits], Guard]
    ) -> None:
        device = find(info.identifier)
        self.process = os.getpid()
        self.info, self.traits = info, traits_of(device)
        # GPUs have programs of their own, without vectors.
        self.guard = guard(info, self.traits) if self.traits.on_cpu else Guard(info, self.traits)
        self.variants = variants or Variants.recalled(info, self.traits)
        self.memory = _memory_of(device)
        # What PoCL allows changes from process to process.
        self.max_allocation_bytes = min(info.max_allocation_bytes, int(device.max_mem_alloc_size))
        self.local_bytes = int(device.local_mem_size)
        with own_errors(info, "be opened", "is another process using it alone?"):
            self._context = cl.Context([device])
        self.programs = Programs(self._context, info)
        self._of_thread = threading.local()
        self.limits = _limits_of(device)
        self._work: Counter[Job] = Counter()

    @property
    def residence(self) -> Residence:
        """Side of this thread, on a device with memory of its own."""
        if not hasattr(self._of_thread, "residence"):
            self._of_thread.residence = Residence(self._queue(), self.programs, self.info, self.limits)
        residence: Residence = self._of_thread.residence
        return residence

    @property
    def fourier(self) -> Fourier:
        """Transforms of this thread, on a device with memory of its own."""
        if not hasattr(self._of_thread, "fourier"):
            # scipy.fft and pyopencl.array take long to load: not before something is transformed.
            from convolume.devices.opencl._fourier import Fourier  # noqa: PLC0415

            self._of_thread.fourier = Fourier(self._queue())
        return cast("Fourier", self._of_thread.fourier)

    def room(self, number: int, voxels: int, dtype: np.dtype[Any]) -> Array:
        """Return an array of this thread for what lies between two passes, the same one for a number where it fits."""
        if voxels * dtype.itemsize > MOST_KEPT_BYTES:
            return new_array((voxels,), dtype)
        rooms: dict[int, Array] = self._of_thread.__dict__.setdefault("rooms", {})
        if number not in rooms or rooms[number].nbytes < voxels * dtype.itemsize:
            rooms[number] = new_array((voxels * dtype.itemsize,), np.dtype(np.uint8))
        return rooms[number][: voxels * dtype.itemsize].view(dtype)

    def pays(self, job: Job, sums: int, threshold: int) -> bool:
        """Say whether enough is, or was, asked of a job for a program of its own."""
        self._work[job] += sums
        return self._work[job] >= threshold

    def run(self, launches: Sequence[Launch]) -> None:
        """Run programs one after the other; the results are in the targets when it returns."""
        queue = self._queue()
        try:
            for launch in launches:
                self._begin(queue, launch)
        finally:
            # What runs uses the host's arrays, also where one of them could not be begun.
            with own_errors(self.info, "correlate", "take smaller blocks or another device"):
                queue.finish()

    def _begin(self, queue: cl.CommandQueue, launch: Launch) -> None:
        """Begin a job's program; on a device with memory of its own, wait for the result."""
        job, source, target = launch.job, launch.source, launch.target
        sizes = f"{source.shape} {source.dtype} voxels to {target.shape} {target.dtype}"
        advice = "take smaller blocks or another device"
        kernel = self.programs.kernel(job)
        with own_errors(self.info, f"correlate {sizes}", advice):
            dense_source, source_buffer = self.memory.source(queue, source)
            dense_target, target_buffer = self.memory.target(queue, target)
            call = launch.arrange(dense_source, dense_target)
            buffers = [self._constant(values) for values in call.tables]
            kernel(
                queue,
                call.global_size,
                (1,) * len(call.global_size) if job.on_cpu else None,
                source_buffer,
                target_buffer,
                *buffers,
                *call.numbers,
            )
            self.memory.collect(queue, dense_target, target_buffer)
        _memory.deliver(dense_target, target)

    def _constant(self, values: Array) -> cl.Buffer:
        filled = values if values.size else np.zeros(1, dtype=values.dtype)
        return cl.Buffer(
            self._context, cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR, hostbuf=np.ascontiguousarray(filled)
        )

    def _queue(self) -> cl.CommandQueue:
        if not hasattr(self._of_thread, "queue"):
            self._of_thread.queue = cl.CommandQueue(self._context)
        queue: cl.CommandQueue = self._of_thread.queue
        return queue


def _memory_of(device: cl.Device) -> _memory.Memory:
    if not shares_memory(device):
        return _memory.Uploads()
    return _memory.SystemPointers() if takes_system_pointers(device) else _memory.HostPointers()


def _limits_of(device: cl.Device) -> Limits:
    parts = device.local_mem_size, device.max_work_group_size, device.max_compute_units, device.max_parameter_size
    return Limits(*map(int, parts))
