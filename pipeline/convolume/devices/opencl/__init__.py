"""OpenCL on any processor: one generic program, and one made for each stencil where that pays.

pyopencl is imported when a device is first asked for; where it is missing, or finds no platform, there is
simply no device.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from convolume.devices.opencl._environment import worker_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from convolume.devices import Device
    from convolume.numerics import Precision
    from convolume.records import DeviceInfo, VariantRecord
    from convolume.stencil import Stencil

__all__ = ["available", "measured_speed_gflops", "open_device", "rendered_source", "tune", "worker_environment"]


def available() -> tuple[DeviceInfo, ...]:
    """Return the OpenCL devices of this machine; none where pyopencl or a driver is missing.

    ``speed_gflops`` is what an earlier `measured_speed_gflops` left on disk, else 0.
    """
    if find_spec("pyopencl") is None:
        return ()
    try:
        infos: tuple[DeviceInfo, ...] = _part("_discovery").devices()
    except ImportError:  # pyopencl is there, the loader that it needs is not
        return ()
    return infos


def open_device(info: DeviceInfo) -> Device:
    """Return the device that `info` describes, found again by its identifier.

    Raises
    ------
    DeviceError
        This process has no such device.
    """
    device: Device = _part("_device").OpenCLDevice(info, guard=_part("_guard").guard_of)
    return device


def measured_speed_gflops(info: DeviceInfo) -> float:
    """Return a device's speed in GFLOP/s, measured once and kept in the user's cache folder.

    The measurement is a 5³ correlation from the host's memory to the host's memory, which takes a fraction of a
    second; 0 is returned for a device that cannot run it.
    """
    speed: float = _part("_speed").speed_gflops(info)
    return speed


def tune(info: DeviceInfo, tell: Callable[[str], None]) -> tuple[VariantRecord, ...]:
    """Time the variants of dense programs and keep the fastest in the user's cache folder; some minutes.

    Parameters
    ----------
    info : DeviceInfo
        The device.
    tell : callable
        Is told, in a line, what was found of each variant.

    Returns
    -------
    tuple of VariantRecord
        Every variant, case by case; none for devices whose programs have one shape.

    Raises
    ------
    DeviceError
        This process has no such device, or no process can be started to try variants in.
    """
    records: tuple[VariantRecord, ...] = _part("_tuning").tune(info, tell)
    return records


def rendered_source(
    info: DeviceInfo,
    stencil: Stencil,
    shape: Sequence[int],
    dtypes: tuple[npt.DTypeLike, npt.DTypeLike],
    precision: Precision,
) -> str:
    """Return the OpenCL source that a device runs for a stencil, as it is compiled.

    Parameters
    ----------
    info : DeviceInfo
        The device.
    stencil : Stencil
        As many axes as `shape`.
    shape : sequence of int
        Extents of the output in voxels.
    dtypes : tuple of dtype
        Of the input and of the output.
    precision : Precision
        How sums are kept.

    Returns
    -------
    str
        The specialised program where there is one for this shape, else the generic one.
    """
    device = _part("_device").OpenCLDevice(info, guard=_part("_guard").guard_of)
    source: str = device.source_for(stencil, tuple(shape), dtypes, precision)
    return source


def _part(name: str) -> Any:
    return import_module(f"convolume.devices.opencl.{name}")
