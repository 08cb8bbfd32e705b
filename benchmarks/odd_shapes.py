"""Odd shapes, kernels, dtypes and layouts beside their neighbours at 256^3 float32: none may fall off a cliff.

    python benchmarks/odd_shapes.py [--device NAME] [--extent 256] [--repeats 7] [--only NAME] [--json FILE]

Speed is voxels times taps (a multiply-add is two operations) over the median of whole calls with `output=` given. The
neighbour has about as many taps, in odd extents that differ little, and calls of both take turns. "expected" is 50 %
for sums in float64, of which a vector holds half, and 25 % for whole numbers, where multiplication and addition stay
apart, too, so that the digits are scipy's. A cliff is less than half of what is expected. Other extents than 256 scale
all shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from side_by_side import Bench, aligned_empty, noise, share

import convolume

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Image = npt.NDArray[Any]
    Weights = npt.NDArray[np.float64]

CUBE = (256, 256, 256)
CLIFF = 0.5


def _by(extents: tuple[int, ...]) -> str:
    return "x".join(map(str, extents))


def _dense(*extents: int) -> Weights:
    return np.random.default_rng(1).normal(size=extents)


def _ball(radius: int) -> Weights:
    squares = np.square(np.indices((2 * radius + 1,) * 3) - radius).sum(axis=0)
    return np.where(squares <= radius**2, _dense(*squares.shape), 0.0)


@dataclass(frozen=True)
class Case:
    """Weights on an image, from one dtype to another; `neighbour` is what they are measured against."""

    name: str
    weights: Weights
    neighbour: Weights
    shape: tuple[int, ...] = CUBE
    dtypes: tuple[str, str] = ("float32", "float32")
    layout: str = "rows"


LAYOUTS: dict[str, Callable[[Image], Image]] = {
    "rows": lambda image: image,
    "Fortran": np.asfortranarray,
    "[::-1]": lambda image: image[::-1],
    "[::2]": lambda image: np.repeat(image, 2, axis=0)[::2],
    "[:, :, ::2]": lambda image: np.repeat(image, 2, axis=2)[:, :, ::2],
}
ODD_SHAPES = ((300, 311, 287), (255, 255, 255), (257, 257, 257), (4, 2048, 2048), (2048, 2048, 4))
# Each beside one of about as many taps.
ODD_KERNELS = (
    ((5, 9, 13), (7, 9, 9)),
    ((1, 1, 31), (3, 3, 3)),
    ((1, 31, 1), (3, 3, 3)),
    ((31, 1, 1), (3, 3, 3)),
    ((1, 1, 101), (5, 5, 5)),
    ((2, 2, 2), (1, 3, 3)),
    ((4, 4, 4), (3, 5, 5)),
    ((6, 6, 6), (5, 7, 7)),
    ((1, 21, 21), (7, 7, 9)),
)
ODD_DTYPES = (
    ("uint8", "float32"),
    ("uint16", "float32"),
    ("uint8", "uint8"),
    ("uint16", "uint16"),
    ("int16", "int16"),
    ("float64", "float64"),
)
# By the dtype of the result.
EXPECTED = {"float32": 1.0, "float64": 0.5}
EXPECTED_WHOLE = 0.25
THREE, FIVE = _dense(3, 3, 3), _dense(5, 5, 5)
CASES = (
    *(Case(f"{_by(shape)} 3^3", THREE, THREE, shape) for shape in ODD_SHAPES),
    *(Case(f"{_by(shape)} 5^3", FIVE, FIVE, shape) for shape in ODD_SHAPES),
    *(Case(f"kernel {_by(kernel)}", _dense(*kernel), _dense(*neighbour)) for kernel, neighbour in ODD_KERNELS),
    Case("4096x4096 7x7", _dense(7, 7), _dense(3, 3, 5), (4096, 4096)),
    Case("16777216 line of 7", _dense(7), _dense(1, 3, 3), (2**24,)),
    Case("4096x4096x1 3^3", THREE, THREE, (4096, 4096, 1)),
    Case("ball of radius 5", _ball(5), _dense(7, 9, 9)),
    *(Case(f"{a} to {b}", FIVE, FIVE, dtypes=(a, b)) for a, b in ODD_DTYPES),
    *(Case(f"layout {layout}", FIVE, FIVE, layout=layout) for layout in LAYOUTS if layout != "rows"),
)


def main() -> None:
    """Measure every case and its neighbour."""
    bench = Bench(__doc__)
    table = bench.table("case", "ms", "GFLOP/s", "neighbour", "its GFLOP/s", "of it", "expected", "verdict")
    for case in CASES:
        if bench.is_wanted(case.name):
            table.add(case.name, *_compared(bench, case))
    bench.close()


def _compared(bench: Bench, case: Case) -> tuple[float | str, ...]:
    neighbour = Case("", case.neighbour, case.neighbour)
    ours, theirs = bench.time(_call(bench, case), _call(bench, neighbour))
    here, there = _operations(bench, case) / ours.seconds, _operations(bench, neighbour) / theirs.seconds
    expected = EXPECTED.get(case.dtypes[1], EXPECTED_WHOLE)
    verdict = "a cliff" if here < CLIFF * expected * there else ""
    figures = (1e3 * ours.seconds, 1e-9 * here, _by(case.neighbour.shape), 1e-9 * there)
    return *figures, share(here, there), f"{expected:.0%}", verdict


def _shape(bench: Bench, case: Case) -> tuple[int, ...]:
    return tuple(max(1, extent * bench.extent // CUBE[0]) for extent in case.shape)


def _call(bench: Bench, case: Case) -> Callable[[], Any]:
    shape, (source, target) = _shape(bench, case), case.dtypes
    image = LAYOUTS[case.layout](noise(shape, source))
    return partial(convolume.ndimage.convolve, image, case.weights, output=aligned_empty(shape, target))


def _operations(bench: Bench, case: Case) -> int:
    return 2 * prod(_shape(bench, case)) * int(np.count_nonzero(case.weights))


if __name__ == "__main__":
    main()
