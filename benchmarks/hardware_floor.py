"""The two floors under every filter: a device's multiply-add peak and its copy speed, measured by small programs.

Several forms of each program are timed, for none is the best on every device: the fastest is the floor.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl

if TYPE_CHECKING:
    from convolume.records import DeviceInfo

REPEATS, STEPS = 15, 4096
# Long enough that beginning and ending do not count.
LEAST_SECONDS = 0.005
STORES = ("to[i] = from[i]", "__builtin_nontemporal_store(from[i], to + i)")


@dataclass(frozen=True)
class Forms:
    """Which programs are tried on a kind of device.

    Parameters
    ----------
    widths : tuple of int
        Numbers in a vector.
    chains : tuple of int
        Sums that do not wait for each other.
    vectors_an_item : int
        Vectors that a work item copies one after the other: a processor's thread many, a GPU's one.
    copied_floats : int
        More than the caches hold.
    """

    widths: tuple[int, ...]
    chains: tuple[int, ...]
    vectors_an_item: int
    copied_floats: int


# Caches of 100 MB and more are shared by many processors of a chip: copies of 64 MB took 37 to 89 GB/s, of 256 MB 52.
ON_PROCESSORS = Forms((8, 16), (8, 12, 16), 1024, 2**26)
ON_GPUS = Forms((1, 4), (4, 8, 16), 1, 2**27)


@dataclass(frozen=True)
class Floor:
    """What the hardware can do at best; multiply-adds by OpenCL's name of their numbers, ``float`` or ``double``."""

    gflops: dict[str, float]
    copy_gb_per_s: float

    def seconds(self, multiply_adds: int, moved_bytes: int, number: str = "float") -> float:
        """Return the time under which no filter with so many multiply-adds and bytes can stay."""
        return max(2 * multiply_adds / self.gflops[number], moved_bytes / self.copy_gb_per_s) * 1e-9

    def __str__(self) -> str:
        """Return it as a line of a report."""
        peaks = ", ".join(f"{peak:.0f} GFLOP/s in {number}" for number, peak in self.gflops.items())
        return f"multiply-add {peaks}; copy {self.copy_gb_per_s:.1f} GB/s"


def measure_floor(info: DeviceInfo, *numbers: str) -> Floor:
    """Measure both floors of an OpenCL device, the peak in each of the numbers that are named."""
    device = _Device(info)
    return Floor({number: device.peak_gflops(number) for number in numbers}, device.copy_gb_per_s())


class _Device:
    def __init__(self, info: DeviceInfo) -> None:
        device = next(
            device
            for platform in cl.get_platforms()
            for device in platform.get_devices()
            if (platform.name.strip(), device.name.strip()) == (info.platform, info.name)
        )
        self._context = cl.Context([device])
        self._queue = cl.CommandQueue(self._context, properties=cl.command_queue_properties.PROFILING_ENABLE)
        self._compute_units = info.compute_units
        self._forms = ON_GPUS if info.kind == "gpu" else ON_PROCESSORS

    def peak_gflops(self, number: str) -> float:
        forms = product(self._forms.widths, self._forms.chains)
        return max(self._peak_gflops(number, width, chains) for width, chains in forms)

    def _peak_gflops(self, number: str, width: int, chains: int) -> float:
        kernel = self._kernel(f"""
            typedef {_vector(number, width)} vector;
            __kernel void measured(__global vector *out) {{
                vector a = ({number})1 - get_global_id(0) * ({number})1e-9, b = ({number})1e-7;
                {" ".join(f"vector c{i} = {i};" for i in range(chains))}
                for (int step = 0; step < {STEPS}; step++) {{
                    {" ".join(f"c{i} = c{i} * a + b;" for i in range(chains))}
                }}
                out[get_global_id(0)] = {" + ".join(f"c{i}" for i in range(chains))};
            }}""")
        work_items, seconds = 128 * self._compute_units, 0.0
        while seconds < LEAST_SECONDS:
            work_items *= 2
            out = self._buffer(work_items * width * np.dtype(number).itemsize)
            seconds = self._seconds(kernel, work_items, out)
        seconds = min(self._seconds(kernel, work_items, out) for _ in range(REPEATS))
        return 2 * work_items * STEPS * chains * width / seconds * 1e-9

    def copy_gb_per_s(self) -> float:
        floats = self._forms.copied_floats
        source, target = self._buffer(4 * floats), self._buffer(4 * floats)
        forms = product(STORES, (4, *self._forms.widths))
        return max(self._copy_gb_per_s(store, width, source, target) for store, width in forms)

    def _copy_gb_per_s(self, store: str, width: int, source: cl.Buffer, target: cl.Buffer) -> float:
        vectors = self._forms.vectors_an_item
        try:
            kernel = self._kernel(f"""
                typedef {_vector("float", width)} vector;
                __kernel void measured(__global const vector *restrict from, __global vector *restrict to) {{
                    const size_t first = get_global_id(0) * {vectors};
                    for (size_t i = first; i < first + {vectors}; i++) {store};
                }}""")
        except cl.Error:  # not every compiler knows stores past the cache
            return 0.0
        work_items = self._forms.copied_floats // width // vectors
        return 2 * source.size / min(self._seconds(kernel, work_items, source, target) for _ in range(REPEATS)) * 1e-9

    def _kernel(self, source: str) -> cl.Kernel:
        with warnings.catch_warnings():
            # Several runtimes fill the log at every compile; pyopencl makes a warning of it.
            warnings.simplefilter("ignore", cl.CompilerWarning)
            program = cl.Program(self._context, source).build(options=["-cl-mad-enable"])
        return cl.Kernel(program, "measured")

    def _buffer(self, size_bytes: int) -> cl.Buffer:
        buffer = cl.Buffer(self._context, cl.mem_flags.READ_WRITE, size_bytes)
        cl.enqueue_fill_buffer(self._queue, buffer, np.zeros(1, np.uint8), 0, size_bytes)
        return buffer

    def _seconds(self, kernel: cl.Kernel, work_items: int, *arguments: Any) -> float:
        event = kernel(self._queue, (work_items,), None, *arguments)
        event.wait()
        return float(event.profile.end - event.profile.start) * 1e-9


def _vector(number: str, width: int) -> str:
    return number if width == 1 else f"{number}{width}"
