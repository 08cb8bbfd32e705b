"""Results are stored past the cache by whole lines of it: the bits are the same wherever rows begin and end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from tests.devices.opencl.comparison import MARK, Serving, Stepwise

from convolume.boundary import BoundaryMode
from convolume.devices.opencl import available
from convolume.devices.opencl._arrangement import are_whole
from convolume.execution.in_memory import filter_array
from convolume.filters import make_filter
from convolume.numerics import Precision
from convolume.operations import Correlate, Operation
from convolume.stencil import Stencil
from convolume.testing.filters import context_of

pytestmark = pytest.mark.skipif(
    not available() or available()[0].kind != "cpu", reason="this machine has no OpenCL on a processor"
)

LINE_BYTES = 64
HEIGHT, DEPTH = 9, 21


def operations() -> dict[str, Operation]:
    """Return one operation for each program that stores so, and each way that it does."""
    context = context_of(3)
    weights = np.random.default_rng(0).normal(size=(3, 3, 3))
    return {
        "stencil": Correlate(Stencil.correlate(weights), (BoundaryMode.REFLECT,) * 3),
        "stencil of one line a plane": Correlate(Stencil.correlate(weights[:1]), (BoundaryMode.WRAP,) * 3),
        "walk": make_filter("gaussian", sigma=2).operation(context),
        "walk without x": make_filter("gaussian", sigma=(2, 2, 0)).operation(context),
        "box": make_filter("box", size=13).operation(context),
        "box along x": make_filter("box", size=(1, 1, 13)).operation(context),
        "box without x": make_filter("box", size=(1, 13, 1)).operation(context),
    }


@dataclass(frozen=True)
class Rows:
    """Rows of so many voxels, so many past a line of the cache, with gaps of so many between them."""

    width: int
    begin: int = 0
    gap: int = 0
    are_whole: bool = False

    def marked(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """Return marked memory, and the rows in it."""
        item, pitch = 4, self.width + self.gap
        memory = np.full(2 * LINE_BYTES + (self.begin + DEPTH * HEIGHT * pitch) * item, MARK, np.uint8)
        first = -memory.ctypes.data % LINE_BYTES + self.begin * item
        rows = memory[first : first + DEPTH * HEIGHT * pitch * item].view(np.float32).reshape(DEPTH, HEIGHT, pitch)
        return memory, rows[..., : self.width]


@pytest.mark.parametrize("name", operations())
@pytest.mark.parametrize(
    "rows",
    [
        Rows(64, are_whole=True),
        Rows(64, gap=16, are_whole=True),
        Rows(64, begin=4),
        Rows(64, gap=3),
        Rows(50),
        Rows(50, gap=14),
        Rows(50, begin=1, gap=5),
        Rows(33, begin=15),
    ],
    ids=str,
)
def test_bits_do_not_depend_on_where_rows_begin(serving: Serving, stepwise: Stepwise, name: str, rows: Rows) -> None:
    """Whole rows go at once, others are gathered; nothing beside them is written."""
    image = np.random.default_rng(1).normal(size=(DEPTH, HEIGHT, rows.width)).astype(np.float32)
    operation = operations()[name]
    expected = filter_array(image, operation, stepwise, Precision.SINGLE, np.float32)
    memory, out = rows.marked()
    assert are_whole(out) == rows.are_whole
    before = serving.served
    filter_array(image, operation, serving, Precision.SINGLE, np.float32, out)
    assert serving.served == before + 1
    assert out.tobytes() == expected.tobytes()
    out[...] = np.full(4, MARK, np.uint8).view(np.float32)
    assert (memory == MARK).all()
