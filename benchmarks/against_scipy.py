"""Filters of NumPy arrays against scipy.ndimage: whole calls in one run, their ratio, and their share of the floor.

    python benchmarks/against_scipy.py [--device NAME] [--extent 256] [--repeats 7] [--only NAME] [--json FILE]

Medians in milliseconds: "new" is a call that makes its output, "given" one with an aligned `output=` that is used
again, "program" what the programs of such a call took on the device, by OpenCL's own clock. The floor is the larger of
the multiply-adds over the device's peak, and one read and one write of every voxel at its copy speed, both measured
in this run; "%" is its share of a call, or of the programs. "differs": the largest difference from scipy's result,
over its largest value.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage
from side_by_side import Bench, aligned_empty, share, timed

import convolume

if TYPE_CHECKING:
    from hardware_floor import Floor

# Grouped sums of a box need about so many additions a voxel and axis, whatever its size.
ADDITIONS_OF_A_BOX = 4
LARGE_KERNEL, MOST_SECONDS = 33, 3.0
MOST_EXTENT_UINT16 = 200


@dataclass(frozen=True)
class Case:
    """A call of one of scipy's functions, and the multiply-adds a voxel that cannot be left out."""

    name: str
    function: str
    multiply_adds: int
    arguments: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"

    @property
    def sums(self) -> str:
        """OpenCL's name of the numbers that are added: whole numbers are summed in float64, as scipy does."""
        return "float" if self.dtype == "float32" else "double"


def _kernel(extent: int, seed: int = 1) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(extent,) * 3)


CASES = (
    Case("convolve 7x7x7", "convolve", 7**3, {"weights": _kernel(7)}),
    Case("convolve 5x5x5", "convolve", 5**3, {"weights": _kernel(5)}),
    Case("convolve 3x3x3", "convolve", 3**3, {"weights": _kernel(3)}),
    Case("gaussian sigma 2", "gaussian_filter", 3 * 17, {"sigma": 2}),
    Case("uniform 15", "uniform_filter", 3 * ADDITIONS_OF_A_BOX, {"size": 15}),
    Case("sobel", "sobel", 2 + 3 + 3),
    Case("laplace", "laplace", 7),
    # What no filter can do without: every voxel read and written, and a new output's pages.
    Case("one weight", "correlate", 1, {"weights": np.ones((1, 1, 1))}),
    Case("uint16 uniform 5", "uniform_filter", 3 * ADDITIONS_OF_A_BOX, {"size": 5}, "uint16"),
    Case("uint16 mean 5x5x5", "convolve", 5**3, {"weights": np.full((5, 5, 5), 1 / 125)}, "uint16"),
)
LARGE = "convolve 33x33x33"


def main() -> None:
    """Measure the floor, then every filter."""
    bench = Bench(__doc__)
    cases = [case for case in CASES if bench.is_wanted(case.name)]
    if cases:
        floor = bench.measure_floor(*sorted({case.sums for case in cases}, reverse=True))
        columns = ("scipy", "new", "given", "program", "floor", "x new", "x given", "% new", "% program", "differs")
        table = bench.table("filter", *columns)
        for case in cases:
            table.add(case.name, *_compared(bench, case, floor))
    if bench.is_wanted(LARGE):
        _compare_with_fft(bench)
    bench.close()


def _compared(bench: Bench, case: Case, floor: Floor) -> tuple[float | str, ...]:
    image = bench.volume(case.dtype, bench.extent if case.dtype == "float32" else min(bench.extent, MOST_EXTENT_UINT16))
    ours = partial(getattr(convolume.ndimage, case.function), image, **case.arguments)
    theirs = partial(getattr(scipy.ndimage, case.function), image, **case.arguments)
    out = aligned_empty(image.shape, image.dtype)
    new, given = bench.time(ours, partial(ours, output=out))
    scipy_seconds, expected = bench.time_peer(theirs)
    least = floor.seconds(case.multiply_adds * image.size, 2 * image.nbytes, case.sums)
    difference = np.abs(out - expected.astype(np.float64)).max() / np.abs(expected).max()
    return (
        *(1e3 * seconds for seconds in (scipy_seconds, new.seconds, given.seconds, given.program_seconds, least)),
        scipy_seconds / new.seconds,
        scipy_seconds / given.seconds,
        share(least, new.seconds),
        share(least, given.program_seconds),
        float(difference),
    )


def _compare_with_fft(bench: Bench) -> None:
    """Time a kernel that scipy.ndimage takes minutes for against the two transforms that no FFT can do without."""
    threads = os.cpu_count() or 1
    image = bench.volume()
    padded = np.zeros([scipy.fft.next_fast_len(n + LARGE_KERNEL - 1, real=True) for n in image.shape], np.float32)
    bare, _ = bench.time_peer(lambda: _there_and_back(padded, threads))
    first: list[float] = []
    second: list[float] = []
    for seed in range(1 + min(bench.repeats, 3)):
        call = partial(convolume.ndimage.convolve, image, _kernel(LARGE_KERNEL, seed))
        first.append(timed(call)[0])
        if first[-1] > MOST_SECONDS:
            break
        second.append(timed(call)[0])
    print(f"\nbare: scipy.fft.rfftn and irfftn of {padded.shape}, {threads} threads; each first call has a new kernel")
    table = bench.table("large kernel", "bare", "first", "second", "first / bare", "second / bare")
    # The first kernel made programs ready.
    calls = first[1:] or first, second[1:] or second
    medians = [median(seconds) if seconds else None for seconds in calls]
    milliseconds = [None if seconds is None else 1e3 * seconds for seconds in (bare, *medians)]
    table.add(LARGE, *milliseconds, *(None if seconds is None else seconds / bare for seconds in medians))


def _there_and_back(padded: npt.NDArray[np.float32], threads: int) -> npt.NDArray[np.float32]:
    transform = scipy.fft.rfftn(padded, workers=threads)
    result: npt.NDArray[np.float32] = scipy.fft.irfftn(transform, padded.shape, workers=threads)
    return result


if __name__ == "__main__":
    main()
