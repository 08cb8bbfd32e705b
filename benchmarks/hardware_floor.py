"""The two floors under every filter: a device's multiply-add peak and its copy speed, measured by small programs."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from convolume.records import DeviceInfo

_REPEATS = 5
_COPY_FLOATS = 2**24
_CHAINS, _STEPS, _WIDTH, _WORK_ITEMS = 12, 4096, 8, 4096

_SOURCE = f"""
typedef float8 vector;
__kernel void peak(__global float *out) {{
    vector a = 1.0f - get_global_id(0) * 1e-9f, b = 1e-7f;
    {" ".join(f"vector c{i} = {i};" for i in range(_CHAINS))}
    for (int step = 0; step < {_STEPS}; step++) {{
        {" ".join(f"c{i} = c{i} * a + b;" for i in range(_CHAINS))}
    }}
    vector sum = {" + ".join(f"c{i}" for i in range(_CHAINS))};
    out[get_global_id(0)] = sum.s0 + sum.s1 + sum.s2 + sum.s3 + sum.s4 + sum.s5 + sum.s6 + sum.s7;
}}
__kernel void copy(__global const vector *restrict from, __global vector *restrict to) {{
    const size_t first = get_global_id(0) * 1024;
    for (size_t i = first; i < first + 1024; i++) to[i] = from[i];
}}
"""


@dataclass(frozen=True)
class Floor:
    """What the hardware can do at best."""

    gflops: float
    copy_gb_per_s: float

    def seconds(self, operations: int, moved_bytes: int) -> float:
        """Return the time under which no filter with so many operations and bytes can stay."""
        return max(operations / self.gflops, moved_bytes / self.copy_gb_per_s) * 1e-9


def measure_floor(info: DeviceInfo) -> Floor:
    """Measure both floors of an OpenCL device; other devices have none to measure."""
    import pyopencl as cl

    devices = [device for platform in cl.get_platforms() for device in platform.get_devices()]
    device = next(device for device in devices if device.name.strip() == info.name)
    queue = cl.CommandQueue(cl.Context([device]))
    program = cl.Program(queue.context, _SOURCE).build(options=["-cl-mad-enable"])
    source = cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, 4 * _COPY_FLOATS)
    target = cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, 4 * _COPY_FLOATS)
    cl.enqueue_fill_buffer(queue, source, np.float32(1), 0, 4 * _COPY_FLOATS)
    cl.enqueue_fill_buffer(queue, target, np.float32(0), 0, 4 * _COPY_FLOATS)
    peak = _fastest(queue, program.peak, (_WORK_ITEMS,), target)
    copy = _fastest(queue, program.copy, (_COPY_FLOATS // _WIDTH // 1024,), source, target)
    operations = 2 * _WORK_ITEMS * _STEPS * _CHAINS * _WIDTH
    return Floor(operations / peak * 1e-9, 8 * _COPY_FLOATS / copy * 1e-9)


def _fastest(queue: object, kernel: object, work_items: tuple[int, ...], *arguments: object) -> float:
    seconds = []
    for _ in range(_REPEATS):
        began = perf_counter()
        kernel(queue, work_items, None, *arguments)  # type: ignore[operator]  # pyopencl has no types
        queue.finish()  # type: ignore[attr-defined]
        seconds.append(perf_counter() - began)
    return min(seconds)
