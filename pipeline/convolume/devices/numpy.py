"""The NumPy device: serves where there is no OpenCL, and stands between scipy and the OpenCL devices in the proofs."""

from __future__ import annotations

import os
import platform
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.addition_chain import additions
from convolume.devices import Device
from convolume.numerics import Precision, truncate_like_scipy
from convolume.records import DeviceInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.stencil import Stencil

__all__ = ["NumpyDevice", "available", "open_device", "worker_environment"]

Array = npt.NDArray[Any]

# Voxels summed at a time: three such float32 arrays stay in a core's second-level cache.
_TILE_VOXELS = 32_768


class NumpyDevice(Device):
    """Sums one tap after the other over tiles that fit into the cache."""

    def __init__(self, info: DeviceInfo) -> None:
        self.info = info

    def correlate(self, padded: Array, stencil: Stencil, out: Array, precision: Precision) -> None:
        """Write the valid correlation of `padded` to `out`; see `Device.correlate`."""
        dtype = np.float32 if precision is Precision.SINGLE else np.float64
        with np.errstate(all="ignore"):
            is_exact = precision is Precision.SCIPY
            as_box = stencil.adds_as_box(exact=is_exact)
            # Neighbours along a box share their sums.
            for tile in _tiles(out.shape, int(np.argmax(stencil.shape)) if as_box else out.ndim - 1):
                sums = (_box_sum if as_box else _weighted_sum)(padded, tile, stencil, dtype)
                out[tile] = truncate_like_scipy(sums, out.dtype, by_lines=stencil.by_lines) if is_exact else sums


def available() -> tuple[DeviceInfo, ...]:
    """Return the one device that is always there."""
    return (
        DeviceInfo(
            name=f"NumPy {np.__version__}",
            backend="numpy",
            identifier="numpy",
            kind="cpu",
            platform="NumPy on " + (platform.processor() or platform.machine()),
            driver=np.__version__,
            compute_units=os.cpu_count() or 1,
        ),
    )


def open_device(info: DeviceInfo) -> NumpyDevice:
    """Return the device."""
    return NumpyDevice(info)


def worker_environment(info: DeviceInfo, threads: int) -> dict[str, str]:
    """Return no variables: NumPy sums in the calling thread."""
    del info, threads
    return {}


def _weighted_sum(padded: Array, tile: tuple[slice, ...], stencil: Stencil, dtype: npt.DTypeLike) -> Array:
    shape = tuple(part.stop - part.start for part in tile)
    sums, product_of_tap = np.zeros(shape, dtype), np.empty(shape, dtype)
    for offset, weight in stencil.taps():
        window = _window(padded, tile, offset)
        np.multiply(window, np.asarray(weight, dtype), out=product_of_tap, dtype=dtype, casting="unsafe")
        sums += product_of_tap
    for offset, other, sign, weight in stencil.pairs():
        join = np.add if sign > 0 else np.subtract
        windows = _window(padded, tile, offset), _window(padded, tile, other)
        join(*windows, out=product_of_tap, dtype=dtype, casting="unsafe")
        product_of_tap *= np.asarray(weight, dtype)
        sums += product_of_tap
    if stencil.divisor != 1:
        sums /= stencil.divisor
    return sums


def _box_sum(padded: Array, tile: tuple[slice, ...], stencil: Stencil, dtype: npt.DTypeLike) -> Array:
    """Return sums in the order of `Stencil.adds_as_box`."""
    axis, size = int(np.argmax(stencil.shape)), stencil.size
    reach = tuple(slice(s.start, s.stop + n - 1) for s, n in zip(tile, stencil.shape, strict=True))
    sums_of = {1: np.moveaxis(padded[reach].astype(dtype), axis, 0)}
    for first, second in additions(size):
        earlier, later = sums_of[first], sums_of[second][first:]
        count = min(len(earlier), len(later))
        sums_of[first + second] = earlier[:count] + later[:count]
    return np.moveaxis((sums_of[size] + np.asarray(0, dtype)) * np.asarray(stencil.box_weight, dtype), 0, axis)


def _window(padded: Array, tile: tuple[slice, ...], offset: tuple[int, ...]) -> Array:
    return padded[tuple(slice(s.start + o, s.stop + o) for s, o in zip(tile, offset, strict=True))]


def _tiles(shape: tuple[int, ...], longest: int) -> Iterator[tuple[slice, ...]]:
    """Yield tiles that are as long as they can be along an axis, then along the last ones."""
    extents, voxels_left = [1] * len(shape), _TILE_VOXELS
    for axis in sorted(range(len(shape)), key=lambda axis: (axis == longest, axis), reverse=True):
        extents[axis] = max(1, min(shape[axis], voxels_left))
        voxels_left //= extents[axis]
    starts = (range(0, n, t) for n, t in zip(shape, extents, strict=True))
    for place in product(*starts):
        ends = (min(a + t, n) for a, t, n in zip(place, extents, shape, strict=True))
        yield tuple(slice(a, b) for a, b in zip(place, ends, strict=True))
