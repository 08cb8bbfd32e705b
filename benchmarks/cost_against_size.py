"""What a voxel costs, in cubes of 64 to 768 voxels an axis: flat where cost is linear; a table, and a plot if asked.

    python benchmarks/cost_against_size.py [--device NAME] [--extent 768] [--repeats 7] [--only NAME] [--plot FILE]

Whole calls on NumPy arrays with an aligned `output=` that is used again, once the filter has a program of its own;
`--extent` is the largest cube.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from side_by_side import Bench, aligned_empty

import convolume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

# After which every filter has a program of its own: else a cube would be timed while one is made.
WARM_UP_VOXELS = 60_000_000
TICKS_NS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
EXTENTS = (64, 96, 128, 192, 256, 384, 512, 768)
KERNEL = np.random.default_rng(1).normal(size=(5, 5, 5))
FILTERS: dict[str, Callable[..., Any]] = {
    "convolve 5x5x5": partial(convolume.ndimage.convolve, weights=KERNEL),
    "gaussian sigma 2": partial(convolume.ndimage.gaussian_filter, sigma=2),
    "laplace": convolume.ndimage.laplace,
}


def main() -> None:
    """Measure every filter on every cube."""
    bench = Bench(__doc__, EXTENTS[-1], plot="where a plot is written")
    extents = [extent for extent in EXTENTS if extent < bench.extent] + [bench.extent]
    table = bench.table("ns a voxel", *(f"{extent}^3" for extent in extents))
    costs = {name: _costs(bench, call, extents) for name, call in FILTERS.items() if bench.is_wanted(name)}
    for name, cost in costs.items():
        table.add(name, *cost)
    if bench.plot:
        draw(bench.plot, extents, costs)
    bench.close()


def _costs(bench: Bench, call: Callable[..., Any], extents: Sequence[int]) -> list[float]:
    return [1e9 * _seconds(bench, call, bench.volume(extent=extent)) / extent**3 for extent in extents]


def _seconds(bench: Bench, call: Callable[..., Any], image: npt.NDArray[Any]) -> float:
    filtered = partial(call, image, output=aligned_empty(image.shape))
    for _ in range(WARM_UP_VOXELS // image.size):
        filtered()
    (timing,) = bench.time(filtered)
    return timing.seconds


def draw(path: Path, extents: Sequence[int], costs: dict[str, list[float]]) -> None:
    """Draw a line a filter."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, cost in costs.items():
        axes.plot(extents, cost, marker="o", markersize=3.5, linewidth=1.4, label=name)
    axes.set_xscale("log")
    axes.set_xticks(extents, [f"{extent}³" for extent in extents])
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [tick for tick in TICKS_NS if low <= tick <= high]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("voxels")
    axes.set_ylabel("nanoseconds a voxel")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
