"""How often `method: auto` is near the best: every method that fits, timed on a grid of kernels and images.

    python benchmarks/method_choice.py [--device NAME] [--extent 256] [--repeats 7] [--only NAME] [--json FILE]

Images are cubes of float32 of 64, 128 and 256 voxels an axis, up to `--extent`; dense cubes, flat kernels, lines, outer
products and means of 3 to 33 voxels. A choice counts as good where it takes at most 15 % longer than the best method.
Every row opens the device anew: a program that another row has earned would not be there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from side_by_side import Bench, aligned_empty, share, timed

from convolume.boundary import BoundaryMode
from convolume.devices.opencl import open_device
from convolume.execution.in_memory import filter_array
from convolume.numerics import Precision
from convolume.operations import Correlate, Method
from convolume.planning.method import settled
from convolume.planning.separable import axis_by_axis
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from convolume.devices import Device

EXTENTS = (64, 128, 256)
METHODS: tuple[Method, ...] = ("direct", "separable", "fft")
NEAR = 1.15
# What takes this long is not called again.
SLOW_SECONDS = 1.0


def _dense(*extents: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(1).normal(size=extents)


def _outer(extent: int) -> npt.NDArray[np.float64]:
    return reduce(np.multiply.outer, [_dense(extent)] * 3)


KERNELS = {
    **{f"cube {n}": _dense(n, n, n) for n in (3, 5, 7, 9, 11, 13, 15, 17, 21, 25, 33)},
    **{f"flat {n}": _dense(1, n, n) for n in (3, 9, 17, 33)},
    **{f"line z {n}": _dense(n, 1, 1) for n in (9, 33)},
    **{f"line x {n}": _dense(1, 1, n) for n in (9, 33)},
    **{f"outer {n}": _outer(n) for n in (3, 5, 9, 17, 33)},
    **{f"mean {n}": np.full((n, n, n), n**-3.0) for n in (3, 5, 15, 33)},
}


def main() -> None:
    """Time every method on the grid, and count the good choices."""
    bench = Bench(__doc__)
    extents = [extent for extent in EXTENTS if extent < bench.extent] + [bench.extent]
    table = bench.table("kernel", "image", *METHODS, "chosen", "of the best")
    ratios = []
    for extent in extents:
        for name in filter(bench.is_wanted, KERNELS):
            step = Correlate(Stencil.convolve(KERNELS[name]), (BoundaryMode.REFLECT,) * 3)
            device = open_device(bench.info)
            seconds = _seconds(bench, device, step, extent)
            _, (choice,) = settled(replace(step, method="auto"), (extent,) * 3, device, Precision.SINGLE)
            ratios.append(seconds[choice.name] / min(seconds.values()))
            milliseconds = [1e3 * seconds[method] if method in seconds else None for method in METHODS]
            table.add(name, f"{extent}^3", *milliseconds, choice.name, ratios[-1])
    good = sum(ratio <= NEAR for ratio in ratios)
    print(f"\nwithin {NEAR - 1:.0%} of the best: {good} of {len(ratios)} ({share(good, len(ratios))})")
    bench.close()


def _seconds(bench: Bench, device: Device, step: Correlate, extent: int) -> dict[Method, float]:
    """Return what each method that fits takes; those that are not slow take turns."""
    calls = {
        method: _call(device, replace(step, method=method), bench.volume(extent=extent))
        for method in METHODS
        if method != "separable" or axis_by_axis(step)
    }
    seconds = {method: timed(call)[0] for method, call in calls.items()}
    quick = [method for method in calls if seconds[method] < SLOW_SECONDS]
    medians = bench.time(*(calls[method] for method in quick))
    return seconds | {method: median.seconds for method, median in zip(quick, medians, strict=True)}


def _call(device: Device, step: Correlate, image: npt.NDArray[np.float32]) -> Callable[[], Any]:
    operation, _ = settled(step, image.shape, device, Precision.SINGLE)
    return partial(filter_array, image, operation, device, Precision.SINGLE, np.float32, aligned_empty(image.shape))


if __name__ == "__main__":
    main()
