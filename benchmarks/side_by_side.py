"""One line of a benchmark: scipy.ndimage and Convolume in one run, their ratio, and the share of the floor."""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from hardware_floor import Floor, measure_floor

import convolume

if TYPE_CHECKING:
    from collections.abc import Callable

# Programs are compiled for a filter when it has been called a few times.
_WARM_UP_CALLS = 3


class Bench:
    """A volume, the floor of the device, and how often calls are repeated; from the command line."""

    def __init__(self, description: str | None) -> None:
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--extent", type=int, default=256, help="voxels along each axis")
        parser.add_argument("--repeats", type=int, default=7, help="calls of which the median is taken")
        options = parser.parse_args()
        self.repeats: int = options.repeats
        self.image = np.random.default_rng(0).random((options.extent,) * 3, dtype=np.float32)
        info = convolume.choose_device().info
        self.floor: Floor = measure_floor(info)
        print(f"{info.name} ({info.platform} {info.driver}), {options.extent}^3 float32, reflect")
        print(f"floor: {self.floor.gflops:.0f} GFLOP/s multiply-add, {self.floor.copy_gb_per_s:.1f} GB/s copy")

    def compare(self, name: str, theirs: Callable[[], Any], ours: Callable[[], Any], taps: int) -> None:
        """Print one line: scipy's time, our median, their ratio, and how near the floor ours is."""
        for _ in range(_WARM_UP_CALLS):
            result = ours()
        our_seconds = median(_timed(ours)[0] for _ in range(self.repeats))
        their_seconds, expected = _timed(theirs)
        error = float(np.abs(result - expected).max())
        least = self.floor.seconds(2 * taps * self.image.size, 2 * self.image.nbytes)
        print(
            f"{name:>18}  scipy {their_seconds:7.3f} s  convolume {our_seconds:7.3f} s  "
            f"{their_seconds / our_seconds:5.1f} times faster  floor {least:6.3f} s ({least / our_seconds:4.0%})  "
            f"largest difference {error:.1e}"
        )


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = perf_counter()
    result = call()
    return perf_counter() - began, result
