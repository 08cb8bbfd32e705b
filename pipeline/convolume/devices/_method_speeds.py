"""What direct sums and transforms take on a device: measured once, and kept on disk."""

from __future__ import annotations

from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from convolume.devices._speed_cache import remember_figures, remembered_figures
from convolume.devices._transform import Transform
from convolume.numerics import Precision
from convolume.records import MethodSpeeds
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Callable

    from convolume.devices import Device

__all__ = ["method_speeds"]

# A tenth of a second on a processor, and the compiling of two programs.
_EXTENT, _SMALL, _LARGE, _TRANSFORMED, _REPEATS = 64, 1, 5, 33, 3


def method_speeds(device: Device) -> MethodSpeeds:
    """Return what the methods take on a device, from disk where it was measured before.

    Raises
    ------
    DeviceError
        The device cannot run what is measured.
    """
    where = device.info.name, device.info.driver, f"methods, {device.transform_threads} threads"
    known = remembered_figures(*where)
    if known.keys() != set(MethodSpeeds.__slots__):
        known = asdict(_measured(device))
        remember_figures(*where, known)
    return MethodSpeeds(**known)


def _measured(device: Device) -> MethodSpeeds:
    prepared = device.prepared()
    taps = _LARGE**3 - _SMALL**3
    pass_ns, large_ns = _direct_ns(device, _SMALL), _direct_ns(device, _LARGE)
    special_ns = large_ns if prepared is device else _direct_ns(prepared, _LARGE)
    return MethodSpeeds(
        pass_ns, max(0.0, large_ns - pass_ns) / taps, max(0.0, special_ns - pass_ns) / taps, _point_ns(device)
    )


def _direct_ns(device: Device, extent: int) -> float:
    stencil, padded, out = _case(extent)
    return _least_ns(lambda: device.correlate(padded, stencil, out, Precision.SINGLE)) / out.size


def _point_ns(device: Device) -> float:
    stencil, padded, out = _case(_TRANSFORMED)
    took_ns = _least_ns(
        lambda: device.correlate_by_transform(lambda part: padded[part], stencil, out, Precision.SINGLE)
    )
    return took_ns / Transform(out.shape, stencil.shape).work


def _case(extent: int) -> tuple[Stencil, np.ndarray, np.ndarray]:
    stencil = Stencil.correlate(np.ones((extent,) * 3))
    padded = np.ones((_EXTENT + extent - 1,) * 3, np.float32)
    return stencil, padded, np.empty((_EXTENT,) * 3, np.float32)


def _least_ns(work: Callable[[], None]) -> float:
    # The first one compiles, and transforms the kernel.
    work()
    took = []
    for _ in range(_REPEATS):
        began = perf_counter()
        work()
        took.append(perf_counter() - began)
    return 1e9 * min(took)
