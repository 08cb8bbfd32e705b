"""Convolume: filter images that are larger than memory, with OpenCL, under Dask.

Examples
--------
>>> import convolume
>>> import numpy as np
>>> convolume.ndimage.convolve(np.array([0, 0, 1, 0, 0]), [1, 2, 3]).tolist()
[0, 1, 2, 3, 0]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convolume import ndimage
    from convolume.arrays import OutputPool
    from convolume.devices._selection import choose_device, list_devices, select_device
    from convolume.errors import ConvolumeError, DeviceError, InputError, RunError
    from convolume.inspection import inspect
    from convolume.runner import plan, run
    from convolume.volume import Volume, save

__all__ = [
    "ConvolumeError",
    "DeviceError",
    "InputError",
    "OutputPool",
    "RunError",
    "Volume",
    "choose_device",
    "inspect",
    "list_devices",
    "ndimage",
    "plan",
    "run",
    "save",
    "select_device",
]

# Where each name lives; a module is imported when one of its names is first used.
_HOMES = {
    "ConvolumeError": "errors",
    "DeviceError": "errors",
    "InputError": "errors",
    "OutputPool": "arrays",
    "RunError": "errors",
    "Volume": "volume",
    "choose_device": "devices._selection",
    "inspect": "inspection",
    "list_devices": "devices._selection",
    "plan": "runner",
    "run": "runner",
    "save": "volume",
    "select_device": "devices._selection",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name == "ndimage":
        return import_module("convolume.ndimage")
    if name not in _HOMES:
        message = f"module 'convolume' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"convolume.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Name what there is, imported or not."""
    return sorted(__all__)
