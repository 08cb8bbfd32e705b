"""A stencil's own program fills faces while it reads: the bits of filled copies, whatever the faces and the block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.devices.opencl.comparison import Serving, Stepwise, check_bits, check_block, drawn_image

from convolume.boundary import BoundaryMode
from convolume.devices.opencl import _strip, available
from convolume.execution.in_memory import filter_array
from convolume.numerics import Precision
from convolume.operations import Correlate
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from convolume.devices.opencl._arrangement import Arguments

Array = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(
    not available() or available()[0].kind != "cpu", reason="this machine has no OpenCL on a processor"
)

SETTINGS = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

_CROSS = np.zeros((3, 3, 3))
_CROSS[1, 1], _CROSS[1, :, 1], _CROSS[:, 1, 1] = 1, 1, 1
# Which weights are zero is what a program is made for; there are not too many kinds, for each is compiled.
PATTERNS = {
    1: (np.ones(5),),
    2: (np.ones((2, 3)), np.ones((1, 20)), np.eye(3)),
    3: (np.ones((3, 3, 3)), _CROSS, np.ones((4, 1, 1)), np.ones((2, 5, 1)), np.ones((1, 1, 33))),
    4: (np.ones((2, 1, 2, 3)),),
}


@st.composite
def correlations(draw: st.DrawFn, ndim: int) -> Correlate:
    """Draw a stencil of some pattern over the last axes, with any origin, faces and constant."""
    pattern = draw(st.sampled_from(PATTERNS[ndim]))
    weights = pattern * np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=pattern.shape)
    origin = [draw(st.integers(-(n // 2), (n - 1) // 2)) for n in pattern.shape]
    modes = tuple(draw(st.sampled_from(list(BoundaryMode))) for _ in range(ndim))
    cval = draw(st.sampled_from([0.0, 2.5, -7.0, np.nan, np.inf, 0.1]))
    return Correlate(Stencil.correlate(weights, origin), modes, cval)


def _drawn(data: st.DataObject) -> tuple[Correlate, Array]:
    image = drawn_image(data, 19, [3, 16, 23, 48, 80, 130])
    return data.draw(correlations(image.ndim)), image


@SETTINGS
@given(data=st.data())
def test_bits_are_those_of_filled_copies(stepwise: Stepwise, serving: Serving, data: st.DataObject) -> None:
    """Any faces, voxels that lie anyhow."""
    step, image = _drawn(data)
    check_bits(data, step, image, stepwise, serving)


@SETTINGS
@given(data=st.data())
def test_bits_do_not_depend_on_the_block(stepwise: Stepwise, serving: Serving, data: st.DataObject) -> None:
    """A box of the image has the bits of the whole."""
    step, image = _drawn(data)
    check_block(data, step, image, stepwise, serving)


@settings(SETTINGS, max_examples=60)
@given(
    data=st.data(),
    source=st.sampled_from(["uint8", "int16", "uint16", "float16", "float64"]),
    kind=st.sampled_from(
        [(Precision.SINGLE, "float32"), (Precision.DOUBLE, "float64"), (Precision.SCIPY, "uint8")],
    ),
)
def test_every_dtype_and_precision(
    stepwise: Stepwise, serving: Serving, data: st.DataObject, source: str, kind: tuple[Precision, str]
) -> None:
    """Constants that are no voxels included: scipy does not cast them."""
    step, image = _drawn(data)
    precision, dtype = kind
    voxels = np.nan_to_num(image, nan=3, posinf=77).clip(0, 250).astype(source)
    results = [filter_array(voxels, step, device, precision, dtype) for device in (serving, stepwise)]
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("mode", BoundaryMode)
@pytest.mark.parametrize("shape", [(20, 19, 48), (3, 5, 17), (60, 900), (2, 9, 8, 40), (1, 1, 16)])
def test_whole_images_are_served(
    serving: Serving, stepwise: Stepwise, shape: tuple[int, ...], mode: BoundaryMode
) -> None:
    """In one launch for all faces."""
    weights = np.random.default_rng(0).normal(size=(1,) * (len(shape) - 2) + (3, 5))
    step = Correlate(Stencil.correlate(weights), (mode,) * len(shape), 1.5)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = serving.served
    actual = filter_array(image, step, serving, Precision.SINGLE, np.float32)
    assert serving.served == before + 1
    assert actual.tobytes() == filter_array(image, step, stepwise, Precision.SINGLE, np.float32).tobytes()


@pytest.mark.parametrize("mode", BoundaryMode)
@pytest.mark.parametrize("width", [16, 96, 259, 900])
def test_long_rows_are_cut_into_tiles(
    serving: Serving, stepwise: Stepwise, monkeypatch: pytest.MonkeyPatch, width: int, mode: BoundaryMode
) -> None:
    """A ring holds as much of a row as it may; neighbours of tiles are read anew, wherever an output begins."""
    tiles: list[int] = []

    def noted(*given: Any, **named: Any) -> Arguments:
        arguments = _strip.strip_arguments(*given, **named)
        tiles.append(arguments.global_size[-1])
        return arguments

    monkeypatch.setattr(_strip, "RING_BYTES", 16 * 1024)
    monkeypatch.setattr("convolume.devices.opencl._device.strip_arguments", noted)
    step = Correlate(Stencil.correlate(np.random.default_rng(0).normal(size=(3, 3, 5))), (mode,) * 3, 1.5)
    image = np.random.default_rng(1).normal(size=(5, 7, width)).astype(np.float32)
    for begin in (0, 3):
        out = np.zeros((5, 7, width + 8), np.float32)[..., begin : begin + width]
        filter_array(image, step, serving, Precision.SINGLE, np.float32, out)
        assert out.tobytes() == filter_array(image, step, stepwise, Precision.SINGLE, np.float32).tobytes()
    assert tiles
    assert (min(tiles) > 1) == (width > 96)


@pytest.mark.parametrize("shape", [(9, 37, 48), (2, 9, 16, 50), (41, 80)])
@pytest.mark.parametrize("slab_rows", [4, 8, 16])
def test_bits_do_not_depend_on_slabs(
    stepwise: Stepwise, monkeypatch: pytest.MonkeyPatch, slab_rows: int, shape: tuple[int, ...]
) -> None:
    """A work item holds as many rows as there are; the last slab is shorter."""
    held: list[int] = []
    usual = _strip.StripJob.slab_rows

    def noted(job: _strip.StripJob, outputs: int, _most_rows: int, most_bytes: int) -> int:
        held.append(usual(job, outputs, slab_rows, most_bytes))
        return held[-1]

    monkeypatch.setattr(_strip.StripJob, "slab_rows", noted)
    weights = np.random.default_rng(0).normal(size=(1,) * (len(shape) - 3) + (3,) * min(len(shape), 3))
    step = Correlate(Stencil.correlate(weights), (BoundaryMode.REFLECT,) * len(shape))
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    serving = Serving(available()[0], specialise_from=0)
    actual = filter_array(image, step, serving, Precision.SINGLE, np.float32)
    assert actual.tobytes() == filter_array(image, step, stepwise, Precision.SINGLE, np.float32).tobytes()
    # Lines of a plane image are met once.
    assert set(held) == {slab_rows if len(shape) > 2 else 4}
