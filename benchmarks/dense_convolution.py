"""Dense kernels in memory: whole calls against scipy.ndimage, in one run, as ratios and shares of the floor.

    python benchmarks/dense_convolution.py [--extent 256] [--repeats 7]

The floor is the larger of multiply-adds over the device's peak and one read and one write of every voxel over its copy
speed, both measured in the same run.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import scipy.ndimage
from side_by_side import Bench

import convolume

KERNELS = ((3, 3, 3), (5, 5, 5), (7, 7, 7), (5, 9, 13))


def main() -> None:
    """Measure the floor, then every kernel."""
    bench = Bench(__doc__)
    for shape in KERNELS:
        kernel = np.random.default_rng(1).normal(size=shape)
        theirs = partial(scipy.ndimage.convolve, bench.image, kernel)
        ours = partial(convolume.ndimage.convolve, bench.image, kernel)
        bench.compare("x".join(map(str, shape)), theirs, ours, kernel.size)


if __name__ == "__main__":
    main()
