"""Filters that go axis by axis, and the Laplacian: whole calls against scipy.ndimage, in one run.

    python benchmarks/axis_by_axis.py [--extent 256] [--repeats 7]

They are bound by memory: the floor is one read and one write of every voxel at the device's copy speed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import scipy.ndimage
from side_by_side import Bench

import convolume

# Name, parameters, and the taps of all passes.
FILTERS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("gaussian_filter", {"sigma": 2}, 3 * 17),
    ("uniform_filter", {"size": 15}, 3 * 15),
    ("sobel", {}, 2 + 3 + 3),
    ("prewitt", {}, 2 + 3 + 3),
    ("laplace", {}, 7),
)


def main() -> None:
    """Measure the floor, then every filter."""
    bench = Bench(__doc__)
    for name, parameters, taps in FILTERS:
        theirs = partial(getattr(scipy.ndimage, name), bench.image, **parameters)
        ours = partial(getattr(convolume.ndimage, name), bench.image, **parameters)
        bench.compare(name, theirs, ours, taps)


if __name__ == "__main__":
    main()
