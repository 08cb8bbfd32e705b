"""Dense kernels in memory: whole calls against scipy.ndimage, in one run, as ratios and shares of the floor.

    python benchmarks/dense_convolution.py [--extent 256] [--repeats 7]

The floor is the larger of multiply-adds over the device's peak and one read and one write of every voxel over its copy
speed, both measured in the same run.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage
from hardware_floor import Floor, measure_floor

import convolume

if TYPE_CHECKING:
    from collections.abc import Callable

KERNELS = ((3, 3, 3), (5, 5, 5), (7, 7, 7), (5, 9, 13))


def seconds_of(call: Callable[[], Any], repeats: int) -> float:
    """Return the median time of a call; the first one, which compiles, is not counted."""
    call()
    return median(_timed(call) for _ in range(repeats))


def _timed(call: Callable[[], Any]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def compare(image: np.ndarray, kernel_shape: tuple[int, ...], repeats: int, floor: Floor) -> None:
    """Print one line: both times, their ratio, and how near the floor ours is."""
    kernel = np.random.default_rng(1).normal(size=kernel_shape)
    began = perf_counter()
    expected = scipy.ndimage.convolve(image, kernel)
    scipy_seconds = perf_counter() - began
    ours = seconds_of(lambda: convolume.ndimage.convolve(image, kernel), repeats)
    error = float(np.abs(convolume.ndimage.convolve(image, kernel) - expected).max())
    least = floor.seconds(2 * kernel.size * image.size, 2 * image.nbytes)
    name = "x".join(map(str, kernel_shape))
    print(
        f"{name:>8}  scipy {scipy_seconds:7.3f} s  convolume {ours:7.3f} s  {scipy_seconds / ours:5.1f} times faster"
        f"  floor {least:6.3f} s ({least / ours:4.0%})  largest difference {error:.1e}"
    )


def main() -> None:
    """Measure the floor, then every kernel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extent", type=int, default=256, help="voxels along each axis")
    parser.add_argument("--repeats", type=int, default=7, help="calls of which the median is taken")
    options = parser.parse_args()
    image = np.random.default_rng(0).random((options.extent,) * 3, dtype=np.float32)
    choice = convolume.choose_device()
    floor = measure_floor(choice.info)
    print(f"{choice.info.name} ({choice.info.platform} {choice.info.driver}), {options.extent}^3 float32, reflect")
    print(f"floor: {floor.gflops:.0f} GFLOP/s multiply-add, {floor.copy_gb_per_s:.1f} GB/s copy")
    for kernel_shape in KERNELS:
        compare(image, kernel_shape, options.repeats, floor)


if __name__ == "__main__":
    main()
