"""Odd shapes, kernels, dtypes and layouts beside their neighbours at 256^3 float32: none may fall off a cliff.

    python benchmarks/odd_shapes.py [--device NAME] [--extent 256] [--repeats 7] [--only NAME] [--json FILE]

Speed is voxels times taps (a multiply-add is two operations) over the median of whole calls with `output=` given. The
neighbour is a call that is ordinary in all respects but the one that a row is about. A cliff is less than half of it;
sums in float64, which whole numbers and float64 need, may take twice as long and count double. Other extents than 256
scale all shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from side_by_side import Bench, aligned_empty, noise

import convolume

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

CUBE = (256, 256, 256)
CLIFF = 0.5


def _by(extents: tuple[int, ...]) -> str:
    return "x".join(map(str, extents))


@dataclass(frozen=True)
class Case:
    """A dense kernel on an image; `neighbour` is the extents of the kernel that it is measured against."""

    name: str
    kernel: tuple[int, ...]
    neighbour: tuple[int, ...]
    shape: tuple[int, ...] = CUBE
    dtype: str = "float32"
    layout: str = "rows"


def _contiguous(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return image


def _every_second(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.repeat(image, 2, axis=0)[::2]


def _every_second_column(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.repeat(image, 2, axis=2)[:, :, ::2]


LAYOUTS: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "rows": _contiguous,
    "Fortran": np.asfortranarray,
    "[::2]": _every_second,
    "[:, :, ::2]": _every_second_column,
}
ODD_SHAPES = ((300, 311, 287), (255, 255, 255), (257, 257, 257))
# Each beside a cube, or a line along x, of about as many taps.
ODD_KERNELS = (
    ((5, 9, 13), (7, 7, 7)),
    ((1, 1, 31), (3, 3, 3)),
    ((1, 31, 1), (3, 3, 3)),
    ((31, 1, 1), (3, 3, 3)),
    ((2, 2, 2), (3, 3, 3)),
    ((4, 4, 4), (3, 3, 3)),
    ((6, 6, 6), (7, 7, 7)),
)
CASES = (
    *(Case(f"{_by(shape)}, {k}^3", (k,) * 3, (k,) * 3, shape) for shape in ODD_SHAPES for k in (3, 5)),
    *(Case(f"kernel {_by(kernel)}", kernel, neighbour) for kernel, neighbour in ODD_KERNELS),
    *(Case(f"{dtype}, 5^3", (5,) * 3, (5,) * 3, dtype=dtype) for dtype in ("uint8", "uint16", "int16", "float64")),
    *(Case(f"{layout}, 5^3", (5,) * 3, (5,) * 3, layout=layout) for layout in LAYOUTS if layout != "rows"),
)


def main() -> None:
    """Measure every case and its neighbour, one after the other."""
    bench = Bench(__doc__)
    table = bench.table("case", "ms", "GFLOP/s", "neighbour", "GFLOP/s there", "of it", "verdict")
    for case in CASES:
        if not bench.is_wanted(case.name):
            continue
        milliseconds, here = _speed(bench, case)
        _, there = _speed(bench, Case("", case.neighbour, case.neighbour))
        weight = 1 if case.dtype == "float32" else 2
        ratio = weight * here / there
        verdict = "a cliff" if ratio < CLIFF else ""
        table.add(case.name, milliseconds, here, f"{_by(case.neighbour)}", there, f"{here / there:.0%}", verdict)
    bench.close()


def _speed(bench: Bench, case: Case) -> tuple[float, float]:
    """Return milliseconds, and GFLOP/s."""
    shape = tuple(extent * bench.extent // CUBE[0] for extent in case.shape)
    image = LAYOUTS[case.layout](noise(shape, case.dtype))
    weights = np.random.default_rng(1).normal(size=case.kernel)
    call = partial(convolume.ndimage.convolve, image, weights, output=aligned_empty(shape, case.dtype))
    seconds = bench.time(call).seconds
    return 1e3 * seconds, 2e-9 * image.size * weights.size / seconds


if __name__ == "__main__":
    main()
