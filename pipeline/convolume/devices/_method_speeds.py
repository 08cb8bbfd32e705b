"""What direct sums and transforms take on a device: measured once, and kept on disk."""

from __future__ import annotations

from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.arrays import new_array
from convolume.devices._cache import recall, remember
from convolume.devices._pass import Pass
from convolume.devices._transform import Transform
from convolume.numerics import Precision
from convolume.records import MethodSpeeds
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Callable

    from convolume.devices import Device

__all__ = ["method_speeds", "remembered_speeds"]

Array = npt.NDArray[Any]

# About half a second on a processor, and as much to compile three programs. On fewer voxels the way to a device tells.
_EXTENT, _REPEATS = 144, 3
# So few that a device does not make a program for the kernel while it is timed without one.
_SMALL_EXTENT = 96
_DENSE, _LINE, _TRANSFORMED = 5, 9, 33


def method_speeds(device: Device) -> MethodSpeeds:
    """Return what the methods take on a device, from disk where it was measured before.

    Raises
    ------
    DeviceError
        The device cannot run what is measured.
    """
    known = remembered_speeds(device)
    if known is not None:
        return known
    speeds = _measured(device)
    remember("methods", *_where(device), {name: float(f"{figure:.4g}") for name, figure in asdict(speeds).items()})
    return speeds


def remembered_speeds(device: Device) -> MethodSpeeds | None:
    """Return what was measured before; None where nothing was."""
    known = recall("methods", *_where(device))
    if isinstance(known, dict) and known.keys() == set(MethodSpeeds.__slots__):
        return MethodSpeeds(**{name: float(figure) for name, figure in known.items()})
    return None


def _where(device: Device) -> tuple[str, str]:
    return f"{device.info.name}, {device.transform_threads} threads", device.info.driver


def _measured(device: Device) -> MethodSpeeds:
    prepared = device.prepared()
    pass_ns, special_ns = _dense_ns(prepared, 1), _dense_ns(prepared, _DENSE)
    small_pass_ns, small_ns = (_dense_ns(device, extent, _SMALL_EXTENT) for extent in (1, _DENSE))
    tap_ns, special_tap_ns = (
        max(0.0, taken) / (_DENSE**3 - 1) for taken in (small_ns - small_pass_ns, special_ns - pass_ns)
    )
    walk_ns = max(0.0, _lines_ns(prepared) - 3 * _LINE * special_tap_ns)
    return MethodSpeeds(pass_ns, tap_ns, special_tap_ns, walk_ns, _point_ns(device))


def _dense_ns(device: Device, extent: int, image_extent: int = _EXTENT) -> float:
    stencil = Stencil.correlate(np.ones((extent,) * 3))
    voxels, out = _arrays(image_extent)
    return _least_ns(lambda: _pass_by_pass(device, voxels, [stencil], out)) / out.size


def _lines_ns(device: Device) -> float:
    lines = [Stencil.correlate(np.ones(_LINE)).on_axes((axis,), 3) for axis in range(3)]
    voxels, out = _arrays()
    return _least_ns(lambda: _pass_by_pass(device, voxels, lines, out)) / out.size


def _pass_by_pass(device: Device, voxels: Array, stencils: list[Stencil], out: Array) -> None:
    """Do what an evaluator does: all in one where the device knows how, else each on a filled copy."""
    places = [
        tuple(np.clip(np.arange(n + k - 1) - k // 2, 0, n - 1) for n, k in zip(out.shape, stencil.shape, strict=True))
        for stencil in stencils
    ]
    passes = [Pass(stencil, place, 0.0) for stencil, place in zip(stencils, places, strict=True)]
    if device.correlate_passes(voxels, passes, out, Precision.SINGLE):
        return
    for stencil in stencils:
        halo = zip(stencil.halo.before, stencil.halo.after, strict=True)
        device.correlate(np.pad(voxels, list(halo)), stencil, out, Precision.SINGLE)


def _point_ns(device: Device) -> float:
    stencil = Stencil.correlate(np.ones((_TRANSFORMED,) * 3))
    out = _arrays()[1]
    padded = np.ones(stencil.halo.outer(out.shape), np.float32)
    took_ns = _least_ns(
        lambda: device.correlate_by_transform(lambda part: padded[part], stencil, out, Precision.SINGLE)
    )
    return took_ns / Transform(out.shape, stencil.shape).work


def _arrays(extent: int = _EXTENT) -> tuple[Array, Array]:
    """Return voxels that are not all alike, and what takes a result."""
    voxels = np.random.default_rng(0).random((extent,) * 3, dtype=np.float32)
    return voxels, new_array(voxels.shape, voxels.dtype)


def _least_ns(work: Callable[[], None]) -> float:
    # The first one compiles, and transforms the kernel.
    work()
    took = []
    for _ in range(_REPEATS):
        began = perf_counter()
        work()
        took.append(perf_counter() - began)
    return 1e9 * min(took)
