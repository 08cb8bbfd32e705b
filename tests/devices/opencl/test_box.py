"""Boxes summed by addition chains: the same bits by every program, device and block, and few additions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.devices.opencl.comparison import Serving, Stepwise, check_bits, check_block, drawn_image

from convolume.boundary import BoundaryMode
from convolume.devices import numpy as numpy_device
from convolume.devices.opencl import _box, _state, available
from convolume.devices.opencl._box_job import BoxJob
from convolume.devices.opencl._jobs import Numbers, render
from convolume.execution.in_memory import filter_array
from convolume.filters import make_filter
from convolume.numerics import Precision
from convolume.operations import Correlate, Sequence
from convolume.stencil import Stencil
from convolume.testing.evaluation import sum_as_box
from convolume.testing.filters import context_of

Array = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(
    not available() or available()[0].kind != "cpu", reason="this machine has no OpenCL on a processor"
)

SETTINGS = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
# What is compiled stays in bounds: few sizes.
SIZES = [2, 4, 7, 12, 21]


@st.composite
def boxes(draw: st.DrawFn, ndim: int) -> Sequence | Correlate:
    """Draw passes over one axis to three, in any order, each with a weight and faces of its own."""
    axes = draw(st.permutations(range(ndim)))[: draw(st.integers(1, 3))]
    steps = []
    for axis in axes if draw(st.booleans()) else sorted(axes):
        size = draw(st.sampled_from(SIZES))
        origin = draw(st.integers(-(size // 2), (size - 1) // 2))
        stencil = Stencil.correlate([draw(st.sampled_from([1 / size, -0.3, 2.0]))] * size, origin)
        cval = draw(st.sampled_from([0.0, 2.5, -7.0, np.nan, np.inf]))
        modes = (draw(st.sampled_from(list(BoundaryMode))),) * ndim
        steps.append(Correlate(stencil.on_axes((axis,), ndim), modes, cval))
    return steps[0] if len(steps) == 1 else Sequence(tuple(steps))


def _drawn(data: st.DataObject) -> tuple[Sequence | Correlate, Array]:
    image = drawn_image(data, 21, [3, 16, 23, 40, 65])
    return data.draw(boxes(image.ndim)), image


@SETTINGS
@given(data=st.data())
def test_bits_are_those_of_the_program_for_any_stencil(
    stepwise: Stepwise, serving: Serving, data: st.DataObject
) -> None:
    """Any faces, voxels that lie anyhow."""
    operation, image = _drawn(data)
    check_bits(data, operation, image, stepwise, serving)


@SETTINGS
@given(data=st.data())
def test_bits_do_not_depend_on_the_block(stepwise: Stepwise, serving: Serving, data: st.DataObject) -> None:
    """A box of the image has the bits of the whole."""
    operation, image = _drawn(data)
    check_block(data, operation, image, stepwise, serving)


@SETTINGS
@given(data=st.data(), size=st.integers(2, 70), precision=st.sampled_from([Precision.SINGLE, Precision.DOUBLE]))
def test_bits_are_those_of_the_definition(
    stepwise: Stepwise, data: st.DataObject, size: int, precision: Precision
) -> None:
    """On every device: by the formula of `Stencil.adds_as_box`."""
    dtype = np.dtype("float32" if precision is Precision.SINGLE else "float64")
    axis = data.draw(st.integers(0, 2))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = tuple(data.draw(st.integers(1, 30)) + (size - 1) * (each == axis) for each in range(3))
    image = generator.normal(size=shape).astype(dtype)
    stencil = Stencil.correlate([1 / size] * size)
    expected = sum_as_box(np.moveaxis(image, axis, 0), size) * dtype.type(1 / size)
    for device in (stepwise, numpy_device.open_device(numpy_device.available()[0])):
        out = np.empty(np.moveaxis(expected, 0, axis).shape, dtype)
        device.correlate(image, stencil.on_axes((axis,), 3), out, precision)
        np.testing.assert_array_equal(np.moveaxis(out, axis, 0), expected)


@SETTINGS
@given(
    data=st.data(),
    source=st.sampled_from(["uint8", "int16", "uint16", "float16", "int32", "float64"]),
    kind=st.sampled_from(
        [
            (Precision.SINGLE, "float32"),
            (Precision.DOUBLE, "float32"),
            (Precision.DOUBLE, "float64"),
            (Precision.SCIPY, "float32"),
            (Precision.SCIPY, "uint8"),
        ]
    ),
)
def test_every_dtype_and_precision(
    stepwise: Stepwise, serving: Serving, data: st.DataObject, source: str, kind: tuple[Precision, str]
) -> None:
    """Casts between passes included; scipy's order is that of the taps."""
    operation, image = _drawn(data)
    voxels = np.nan_to_num(image, nan=3, posinf=77).clip(0, 250).astype(source)
    results = [filter_array(voxels, operation, device, *kind) for device in (serving, stepwise)]
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("mode", BoundaryMode)
@pytest.mark.parametrize("shape", [(20, 19, 48), (3, 5, 17), (60, 900), (2, 9, 8, 40), (5000,)])
@pytest.mark.parametrize("parameters", [{"size": 15}, {"size": 3}, {"size": 21}, {"size": 6, "statistic": "sum"}])
def test_boxes_are_served_at_once(
    serving: Serving, stepwise: Stepwise, shape: tuple[int, ...], mode: BoundaryMode, parameters: dict[str, Any]
) -> None:
    """All axes, in every mode."""
    operation = make_filter("box", **parameters).operation(context_of(len(shape), mode=mode))
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = serving.served
    actual = filter_array(image, operation, serving, Precision.SINGLE, np.float32)
    assert serving.served == before + 1
    assert actual.tobytes() == filter_array(image, operation, stepwise, Precision.SINGLE, np.float32).tobytes()


@pytest.mark.parametrize("ring_bytes", [90_000, 25_000])
def test_bits_do_not_depend_on_slabs_and_tiles(
    serving: Serving, stepwise: Stepwise, monkeypatch: pytest.MonkeyPatch, ring_bytes: int
) -> None:
    """Slabs of planes between two passes, in room that is kept or not; tiles of columns whose rings fit."""
    monkeypatch.setattr(_state, "MOST_KEPT_BYTES", 50_000)
    monkeypatch.setattr(_box, "SLAB_BYTES", 1)
    monkeypatch.setattr(_box, "RING_BYTES", 1)
    monkeypatch.setattr(_box, "MOST_RING_BYTES", ring_bytes)
    operation = make_filter("box", size=17).operation(context_of(3))
    image = np.random.default_rng(1).normal(size=(33, 30, 333)).astype(np.float32)
    before = serving.served
    actual = filter_array(image, operation, serving, Precision.SINGLE, np.float32)
    assert serving.served == before + 1
    assert actual.tobytes() == filter_array(image, operation, stepwise, Precision.SINGLE, np.float32).tobytes()


@pytest.mark.parametrize(("size", "additions"), [(2, 1), (7, 4), (15, 5), (31, 7), (127, 10)])
def test_additions_are_as_few_as_can_be(size: int, additions: int) -> None:
    """So many does the shortest addition chain of such a number take."""
    numbers = Numbers("float32", "float32", "float32", exact=False)
    job = BoxJob(numbers, True, True, 8, 1, steps=4, b=size, x=1)  # noqa: FBT003 (as all jobs)
    sums = [line for line in render(job).splitlines() if "const sums_t sum" in line]
    assert len(sums) == 4 * (1 + additions)
