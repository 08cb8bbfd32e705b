"""What direct sums and transforms take on a device: measured once, in a quiet moment, and kept on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from time import perf_counter, thread_time
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

__all__ = ["USUAL_SPEEDS", "is_quiet", "method_speeds", "remembered_speeds"]

Array = npt.NDArray[Any]

# All of it takes half a second where programs are compiled already. On fewer voxels the way to a device tells, or a
# processor's cache; on fewer still, what a call costs is all that there is.
_EXTENT, _FEW = 144, 16
# So few that a device does not make a program for the kernel while it is timed without one.
_SMALL_EXTENT = 96
_REPEATS = 3
_DENSE, _LINE, _TRANSFORMED = 5, 9, 17
# A thread that had less of its processor than this had to share it with others.
_QUIET_SHARE, _PROBED_BYTES = 0.9, 2**24
_FIGURES = tuple(name for name in MethodSpeeds.__slots__ if name != "is_measured")

# Measured on two cores of an EPYC 9R14 with PoCL 3.0, and rounded: what counts is how they stand to each other.
USUAL_SPEEDS = MethodSpeeds(
    call_ns=1e6,
    transform_call_ns=3e6,
    pass_ns=0.6,
    tap_ns=0.03,
    special_tap_ns=0.016,
    walk_ns=0.5,
    line_point_ns=1.0,
    plane_point_ns=1.0,
    point_ns=0.5,
    is_measured=False,
)


def method_speeds(device: Device) -> MethodSpeeds:
    """Return what the methods take on a device, from disk where it was measured before.

    Nothing is measured while programs are still being tried: who would have to wait for that gets the figures of a
    processor that is like many. What is measured while others use the processor is not kept.

    Raises
    ------
    DeviceError
        The device cannot run what is measured.
    """
    known = remembered_speeds(device)
    if known is not None:
        return known
    if not device.is_tried:
        return USUAL_SPEEDS
    was_quiet = is_quiet(device.transform_threads)
    speeds = _measured(device)
    if was_quiet and is_quiet(device.transform_threads):
        remember("methods", *_where(device), {name: float(f"{getattr(speeds, name):.4g}") for name in _FIGURES})
    return speeds


def remembered_speeds(device: Device) -> MethodSpeeds | None:
    """Return what was measured before; None where nothing was."""
    known = recall("methods", *_where(device))
    if isinstance(known, dict) and known.keys() == set(_FIGURES):
        return MethodSpeeds(*(float(known[name]) for name in _FIGURES))
    return None


def _where(device: Device) -> tuple[str, str]:
    return f"{device.info.name}, {device.transform_threads} threads", device.info.driver


def is_quiet(threads: int) -> bool:
    """Say whether threads of this process have their processors to themselves: each hashes for some milliseconds."""
    content = bytes(_PROBED_BYTES)

    def share(_: int) -> float:
        # New threads begin on the processor of the one that began them.
        sha256(content)
        began, used = perf_counter(), thread_time()
        sha256(content)
        return (thread_time() - used) / (perf_counter() - began)

    with ThreadPoolExecutor(threads) as pool:
        return min(pool.map(share, range(threads))) >= _QUIET_SHARE


def _measured(device: Device) -> MethodSpeeds:
    prepared = device.prepared()
    # Weights that differ, for equal ones on a line are a box.
    lines = [Stencil.correlate(np.arange(1.0, 1 + _LINE)).on_axes((axis,), 3) for axis in range(3)]
    one, dense = (Stencil.correlate(np.ones((extent,) * 3)) for extent in (1, _DENSE))
    boxes = [Stencil.correlate(np.ones((1,) * (3 - axes) + (_TRANSFORMED,) * axes)) for axes in (1, 2, 3)]
    call, few, first, taps, special, walk, *transforms = _least_ns(
        partial(_pass_by_pass, device, [one], *_arrays(_FEW)),
        partial(_transformed, device, boxes[-1], *_arrays(_FEW)),
        partial(_pass_by_pass, device, [one], *_arrays(_SMALL_EXTENT)),
        partial(_pass_by_pass, device, [dense], *_arrays(_SMALL_EXTENT)),
        partial(_pass_by_pass, prepared, [dense], *_arrays(_EXTENT)),
        partial(_pass_by_pass, prepared, lines, *_arrays(_EXTENT)),
        *(partial(_transformed, device, box, *_arrays(_EXTENT)) for box in boxes),
    )
    small, large = _SMALL_EXTENT**3, _EXTENT**3
    pass_ns = max(0.0, first - call) / small
    tap_ns = max(0.0, taps - first) / small / (_DENSE**3 - 1)
    special_tap_ns = max(0.0, (special - call) / large - pass_ns) / (_DENSE**3 - 1)
    walk_ns = max(0.0, (walk - call) / large - 3 * _LINE * special_tap_ns)
    line_ns, plane_ns, cube_ns = (
        max(0.0, took - few) / Transform((_EXTENT,) * 3, box.shape).work
        for took, box in zip(transforms, boxes, strict=True)
    )
    return MethodSpeeds(call, few, pass_ns, tap_ns, special_tap_ns, walk_ns, line_ns, plane_ns, cube_ns)


def _pass_by_pass(device: Device, stencils: list[Stencil], voxels: Array, out: Array) -> None:
    """Do what an evaluator does: all in one where the device knows how, else each on a filled copy."""
    places = [_places(stencil, out.shape) for stencil in stencils]
    passes = [Pass(stencil, place, 0.0) for stencil, place in zip(stencils, places, strict=True)]
    if device.correlate_passes(voxels, passes, out, Precision.SINGLE):
        return
    for stencil in stencils:
        halo = zip(stencil.halo.before, stencil.halo.after, strict=True)
        device.correlate(np.pad(voxels, list(halo)), stencil, out, Precision.SINGLE)


def _transformed(device: Device, stencil: Stencil, voxels: Array, out: Array) -> None:
    """Weigh by the Fourier transform; what is read is filled part by part, as an evaluator does."""
    places = _places(stencil, out.shape)

    def read(part: tuple[slice, ...]) -> Array:
        return voxels[np.ix_(*(of_axis[where] for of_axis, where in zip(places, part, strict=True)))]

    device.correlate_by_transform(read, stencil, out, Precision.SINGLE)


def _places(stencil: Stencil, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], ...]:
    """Return where what a stencil reads stands, where voxels at the faces go on beyond them."""
    extents = zip(shape, stencil.shape, strict=True)
    return tuple(np.clip(np.arange(n + k - 1) - k // 2, 0, n - 1) for n, k in extents)


def _arrays(extent: int) -> tuple[Array, Array]:
    """Return voxels that are not all alike, and what takes a result."""
    voxels = np.random.default_rng(0).random((extent,) * 3, dtype=np.float32)
    return voxels, new_array(voxels.shape, voxels.dtype)


def _least_ns(*works: Callable[[], None]) -> list[float]:
    """Return the least time of each; they take turns, so that what happens beside them meets all."""
    took = [[_timed_ns(work) for work in works] for _ in range(_REPEATS + 1)]
    # The first ones compile, and transform kernels.
    return [min(times) for times in zip(*took[1:], strict=True)]


def _timed_ns(work: Callable[[], None]) -> float:
    began = perf_counter()
    work()
    return 1e9 * (perf_counter() - began)
