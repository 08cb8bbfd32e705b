"""How fast a device is: one correlation, from the host's memory to the host's memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from convolume.devices._cache import remember
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._discovery import remembered_speed_gflops
from convolume.devices.opencl._guard import guard_of
from convolume.errors import DeviceError
from convolume.numerics import Precision
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from convolume.records import DeviceInfo

__all__ = ["speed_gflops"]

KERNEL_EXTENT, EXTENT, REPEATS = 5, 96, 3


def speed_gflops(info: DeviceInfo) -> float:
    """Return a device's speed, from disk where it was measured before."""
    known = remembered_speed_gflops(info.name, info.driver)
    if known:
        return known
    try:
        device = OpenCLDevice(info, guard=guard_of)
        is_tried, speed = device.is_tried, _measure(device)
    except DeviceError:
        return 0.0
    if is_tried:
        remember("speeds", info.name, info.driver, round(speed, 3))
    return speed


def _measure(device: OpenCLDevice) -> float:
    stencil = Stencil.correlate(np.ones((KERNEL_EXTENT,) * 3))
    padded = np.ones((EXTENT + KERNEL_EXTENT - 1,) * 3, dtype=np.float32)
    out = np.empty((EXTENT,) * 3, dtype=np.float32)
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        device.correlate(padded, stencil, out, Precision.SINGLE)
        seconds.append(time.perf_counter() - start)
    # The first one compiled the program.
    return 2e-9 * out.size * stencil.size / min(seconds[1:])
