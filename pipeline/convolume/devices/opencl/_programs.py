"""Programs compiled once in a process, kernels once in a thread, and OpenCL's errors turned into ours."""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyopencl as cl

from convolume.devices.opencl._jobs import Job, render
from convolume.errors import DeviceError, DeviceLostError, DeviceMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.records import DeviceInfo

__all__ = ["Programs", "has_compiled", "own_errors"]

# What drivers answer where memory is short: NVIDIA's say "out of resources" when a launch finds none.
_MEMORY_CODES = {
    cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE,
    cl.status_code.OUT_OF_RESOURCES,
    cl.status_code.OUT_OF_HOST_MEMORY,
    cl.status_code.INVALID_BUFFER_SIZE,
}
# And where the device, or the context that the driver gave up, is gone; -9999 is NVIDIA's for an illegal access.
_LOST_CODES = {
    cl.status_code.DEVICE_NOT_AVAILABLE,
    cl.status_code.INVALID_DEVICE,
    cl.status_code.INVALID_CONTEXT,
    cl.status_code.INVALID_COMMAND_QUEUE,
    -9999,
}
# Filters of warnings belong to the whole process, so one program is built at a time.
_BUILDING = threading.Lock()
# Processes in which something was built: a fork is another.
_compiled_in: set[int] = set()


def has_compiled() -> bool:
    """Return whether a program was compiled in this process: the compiler is in its memory since then."""
    return os.getpid() in _compiled_in


@contextmanager
def own_errors(info: DeviceInfo, doing: str, advice: str) -> Iterator[None]:
    """Turn OpenCL's errors into `DeviceError`: they do not pickle and name neither device nor sizes."""
    try:
        yield
    except (cl.Error, MemoryError) as error:
        message = f"{info.name} ({info.platform}) could not {doing}: {_first_lines(error)}; {advice}"
        raise _kind_of(error)(message) from None


def _kind_of(error: BaseException) -> type[DeviceError]:
    if isinstance(error, MemoryError) or error.code in _MEMORY_CODES:  # type: ignore[attr-defined]  # cl.Error's
        return DeviceMemoryError
    return DeviceLostError if error.code in _LOST_CODES else DeviceError  # type: ignore[attr-defined]  # cl.Error's


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines[1:] if "error" in line.lower()]
    return " | ".join([*lines[:1], *telling[:3]]) or type(error).__name__


class Programs:
    """The programs of one context, by their source."""

    def __init__(self, context: cl.Context, info: DeviceInfo) -> None:
        self._context, self._info = context, info
        self._built: dict[tuple[str, str], cl.Program] = {}
        self._of_thread = threading.local()

    def kernel(self, job: Job) -> cl.Kernel:
        """Return this thread's kernel of the program for a job.

        Raises
        ------
        DeviceError
            The program does not compile.
        """
        kernels: dict[Job, cl.Kernel] | None = getattr(self._of_thread, "kernels", None)
        if kernels is None:
            kernels = self._of_thread.kernels = {}
        if job not in kernels:
            kernels[job] = cl.Kernel(self._program(job), "correlate")
        return kernels[job]

    def _program(self, job: Job) -> cl.Program:
        key = source, options = render(job), job.build_options
        with _BUILDING:
            if key not in self._built:
                self._built[key] = self._build(source, options)
            return self._built[key]

    def _build(self, source: str, options: str) -> cl.Program:
        advice = "take another device (`device: numpy` always works) and report the program, which is a defect"
        with warnings.catch_warnings(), own_errors(self._info, "compile a program", advice):
            # Several runtimes fill the log at every compile; pyopencl makes a warning of it.
            warnings.simplefilter("ignore", cl.CompilerWarning)
            program: cl.Program = cl.Program(self._context, source).build(options)
        _compiled_in.add(os.getpid())
        return program
