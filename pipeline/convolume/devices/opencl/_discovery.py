"""Which OpenCL devices there are, and how one is found again in another process."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Literal

import pyopencl as cl

from convolume.devices._cache import recall
from convolume.devices.opencl._environment import POCL_PLATFORM, threads_on_processors
from convolume.devices.opencl._jobs import Traits
from convolume.devices.opencl._vectors import compiled_vector_bytes
from convolume.errors import DeviceError
from convolume.records import DeviceInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["devices", "find", "remembered_speed_gflops", "traits_of"]

FLOAT_BYTES = 4

# The process in which drivers were loaded: a fork inherits this, and nothing of the drivers that works.
_loaded_in: list[int] = []


def devices() -> tuple[DeviceInfo, ...]:
    """Return what every device says of itself."""
    return tuple(_info(device, identifier) for identifier, device in _named_devices())


def find(identifier: str) -> cl.Device:
    """Return the device with this identifier.

    Raises
    ------
    DeviceError
        There is none; the message lists those there are. Or this process is a fork of one that had loaded
        the drivers, in which a launch would never end.
    """
    if _loaded_in and _loaded_in[0] != os.getpid():
        message = (
            f"OpenCL cannot be used in this process ({os.getpid()}): it was forked from one ({_loaded_in[0]}) that had "
            "loaded the drivers already, and they do not survive it. Start processes with 'spawn' or 'forkserver'"
        )
        raise DeviceError(message)
    known = dict(_named_devices())
    if identifier not in known:
        there_are = ", ".join(known) or "none"
        message = (
            f"this process has no OpenCL device {identifier!r} (there are: {there_are}): were drivers or OpenCL's "
            "environment variables changed since it was chosen?"
        )
        raise DeviceError(message)
    return known[identifier]


def traits_of(device: cl.Device) -> Traits:
    """Return what decides the form of this device's programs."""
    on_cpu = bool(device.type & cl.device_type.CPU)
    loose_pointers = shares_memory(device)
    vector_bytes = max(device.native_vector_width_float, 4) * FLOAT_BYTES
    if is_pocl_processor(device):
        vector_bytes = min(vector_bytes, compiled_vector_bytes(device) or vector_bytes)
    return Traits(on_cpu, vector_bytes, loose_pointers)


def remembered_speed_gflops(name: str, driver: str) -> float:
    """Return what was measured for a device once, 0 where nothing was."""
    speed = recall("speeds", name, driver)
    return float(speed) if isinstance(speed, (int, float)) and speed > 0 else 0.0


def shares_memory(device: cl.Device) -> bool:
    """Say whether arrays of the host can be used where they are, and vectors at any element of them."""
    return is_pocl_processor(device) or takes_system_pointers(device)


def is_pocl_processor(device: cl.Device) -> bool:
    """Say whether buffers over the host's memory cost nothing."""
    return bool(device.type & cl.device_type.CPU) and device.platform.name == POCL_PLATFORM


def takes_system_pointers(device: cl.Device) -> bool:
    """Say whether a processor's programs take any address of the host: Intel's runtime does."""
    system = cl.device_svm_capabilities.FINE_GRAIN_SYSTEM
    return bool(device.type & cl.device_type.CPU) and bool(device.svm_capabilities & system)


def _named_devices() -> Iterator[tuple[str, cl.Device]]:
    # Identical devices are told apart by their order, which a platform keeps from process to process.
    seen: Counter[str] = Counter()
    for platform in _platforms():
        for device in _devices_of(platform):
            label = f"{platform.name.strip()}/{device.name.strip()}"
            yield f"{label}/{seen[label]}", device
            seen[label] += 1


def _platforms() -> list[cl.Platform]:
    if not _loaded_in:
        _loaded_in.append(os.getpid())
    try:
        return list(cl.get_platforms())
    except cl.Error:  # the loader found no driver
        return []


def _devices_of(platform: cl.Platform) -> list[cl.Device]:
    try:
        with threads_on_processors():
            return list(platform.get_devices())
    except cl.Error:  # a driver without its hardware
        return []


def _info(device: cl.Device, identifier: str) -> DeviceInfo:
    name, driver = device.name.strip(), device.driver_version.strip()
    return DeviceInfo(
        name=name,
        backend="opencl",
        identifier=identifier,
        kind=_kind(device),
        platform=device.platform.name.strip(),
        driver=driver,
        memory_bytes=int(device.global_mem_size),
        max_allocation_bytes=int(device.max_mem_alloc_size),
        compute_units=int(device.max_compute_units),
        has_float64=bool(device.double_fp_config),
        speed_gflops=remembered_speed_gflops(name, driver),
    )


def _kind(device: cl.Device) -> Literal["cpu", "gpu", "other"]:
    if device.type & cl.device_type.GPU:
        return "gpu"
    return "cpu" if device.type & cl.device_type.CPU else "other"
