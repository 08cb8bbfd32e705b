"""Passes done in one walk give the bits of one pass after the other, whatever the shape, the faces and the block."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.devices.opencl.comparison import Serving, Stepwise, check_bits, check_block, drawn_image

from convolume.boundary import BoundaryMode
from convolume.devices.opencl import _state, _walk, available
from convolume.devices.opencl._jobs import Traits
from convolume.execution.in_memory import filter_array
from convolume.filters import make_filter
from convolume.numerics import Precision
from convolume.operations import Correlate, Sequence
from convolume.stencil import Stencil
from convolume.testing.filters import context_of

Array = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(
    not available() or available()[0].kind != "cpu", reason="this machine has no OpenCL on a processor"
)

SETTINGS = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@st.composite
def weights(draw: st.DrawFn) -> list[float]:
    """Draw weights: a few that differ from zero, or many; gaps are compiled, so there are not too many kinds."""
    whole = st.lists(st.sampled_from([0.1, -0.3, 0.7, 1.5]), min_size=8, max_size=24)
    few = st.sampled_from([[0.5, 0.25], [-1, 0, 1], [1.0, 2.0, 1.0], [0.2] * 5, [0, 0, 3.0, 0.1, 0]])
    return list(draw(st.one_of(whole, few)))


@st.composite
def chains(draw: st.DrawFn, ndim: int) -> Sequence:
    """Draw passes over one axis to three, first to last or not, each with faces of its own."""
    axes = draw(st.permutations(range(max(ndim - 3, 0), ndim)))
    axes = axes[: draw(st.sampled_from([1, 2, 2, 3, 3]))]
    if draw(st.integers(0, 3)):
        axes = sorted(axes)
    steps = []
    for axis in axes:
        taps = draw(weights())
        origin = draw(st.integers(-(len(taps) // 2), (len(taps) - 1) // 2))
        cval = draw(st.sampled_from([0.0, 2.5, -7.0, np.nan, np.inf]))
        modes = (draw(st.sampled_from(list(BoundaryMode))),) * ndim
        steps.append(Correlate(Stencil.correlate(taps, origin).on_axes((axis,), ndim), modes, cval))
    return Sequence(tuple(steps))


def _drawn(data: st.DataObject) -> tuple[Sequence, Array]:
    image = drawn_image(data, 21, [3, 16, 23, 40, 65])
    return data.draw(chains(image.ndim)), image


@SETTINGS
@given(data=st.data())
def test_bits_are_those_of_pass_by_pass(stepwise: Stepwise, serving: Serving, data: st.DataObject) -> None:
    """Any faces, voxels that lie anyhow."""
    chain, image = _drawn(data)
    check_bits(data, chain, image, stepwise, serving)


@SETTINGS
@given(data=st.data())
def test_bits_do_not_depend_on_the_block(stepwise: Stepwise, serving: Serving, data: st.DataObject) -> None:
    """A box of the image has the bits of the whole."""
    chain, image = _drawn(data)
    check_block(data, chain, image, stepwise, serving)


@SETTINGS
@given(
    data=st.data(),
    source=st.sampled_from(["uint8", "int16", "uint16", "float16", "int32", "float64"]),
    kind=st.sampled_from(
        [
            (Precision.SINGLE, None),
            (Precision.DOUBLE, "float32"),
            (Precision.DOUBLE, "float64"),
            (Precision.SCIPY, None),
            (Precision.SCIPY, "float32"),
            (Precision.SCIPY, "uint8"),
        ]
    ),
)
def test_every_dtype_and_precision(
    stepwise: Stepwise, serving: Serving, data: st.DataObject, source: str, kind: tuple[Precision, str | None]
) -> None:
    """Casts between passes included: scipy's integers are cut off after each."""
    chain, image = _drawn(data)
    precision, dtype = kind
    voxels = np.nan_to_num(image, nan=3, posinf=77).clip(0, 250).astype(source)
    dtype = dtype or ("float32" if precision is Precision.SINGLE else source)
    results = [filter_array(voxels, chain, device, precision, dtype) for device in (serving, stepwise)]
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("mode", BoundaryMode)
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("gaussian", {"sigma": 2}), ("box", {"size": 15}), ("sobel", {"axis": 0}), ("gaussian", {"sigma": 8})],
)
@pytest.mark.parametrize("shape", [(20, 19, 48), (3, 5, 17), (60, 900), (2, 9, 8, 40)])
def test_the_usual_filters_are_served(
    serving: Serving,
    stepwise: Stepwise,
    shape: tuple[int, ...],
    name: str,
    parameters: dict[str, Any],
    mode: BoundaryMode,
) -> None:
    """Whole images in every mode, few rows and many columns, without a pass of their own for any axis."""
    operation = make_filter(name, **parameters).operation(context_of(len(shape), mode=mode))
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = serving.served
    actual = filter_array(image, operation, serving, Precision.SINGLE, np.float32)
    assert serving.served == before + 1
    assert actual.tobytes() == filter_array(image, operation, stepwise, Precision.SINGLE, np.float32).tobytes()


@pytest.mark.parametrize(("ring_bytes", "is_served"), [(130_000, True), (20_000, False)])
@pytest.mark.parametrize("sigma", [1.5, (1.5, 1.5, 0)])
def test_long_rows_are_cut_into_tiles(
    stepwise: Stepwise,
    monkeypatch: pytest.MonkeyPatch,
    sigma: Any,
    ring_bytes: int,
    is_served: bool,  # noqa: FBT001 (a case)
) -> None:
    """So that the ring of each fits local memory; where none does, the passes go one by one."""
    monkeypatch.setattr(_walk, "RING_BYTES", ring_bytes)
    operation = make_filter("gaussian", sigma=sigma).operation(context_of(3))
    assert isinstance(operation, Sequence)
    image = np.random.default_rng(1).normal(size=(9, 10, 333)).astype(np.float32)
    serving = Serving(available()[0], specialise_from=0)
    actual = filter_array(image, operation, serving, Precision.SINGLE, np.float32)
    assert serving.served == (1 if is_served else len(operation.operations))
    assert actual.tobytes() == filter_array(image, operation, stepwise, Precision.SINGLE, np.float32).tobytes()


def test_an_image_too_large_for_one_allocation_goes_pass_by_pass(stepwise: Stepwise) -> None:
    """The passes are split; the walk is not."""
    small = Serving(dataclasses.replace(available()[0], max_allocation_bytes=4_000), specialise_from=0)
    operation = make_filter("box", size=3).operation(context_of(3))
    image = np.random.default_rng(2).normal(size=(9, 10, 40)).astype(np.float32)
    actual = filter_array(image, operation, small, Precision.SINGLE, np.float32)
    assert small.served == 0
    assert actual.tobytes() == filter_array(image, operation, stepwise, Precision.SINGLE, np.float32).tobytes()


@pytest.mark.parametrize(
    "traits",
    [
        Traits(on_cpu=True, vector_bytes=32, loose_pointers=False),
        Traits(on_cpu=False, vector_bytes=16, loose_pointers=False),
    ],
)
def test_other_devices_give_the_same_bits(stepwise: Stepwise, monkeypatch: pytest.MonkeyPatch, traits: Traits) -> None:
    """A processor whose compiler wants vloadn, with memory of its own, walks; a GPU does all passes tile by tile."""
    monkeypatch.setattr(_state, "traits_of", lambda _: traits)
    monkeypatch.setattr(_state, "shares_memory", lambda _: False)
    played = Serving(available()[0], specialise_from=0)
    operation = make_filter("gaussian", sigma=2).operation(context_of(3))
    image = np.random.default_rng(3).normal(size=(12, 13, 50)).astype(np.float32)
    actual = filter_array(image[1:, :, 2:], operation, played, Precision.SINGLE, np.float32)
    assert played.served == 1
    expected = filter_array(image[1:, :, 2:], operation, stepwise, Precision.SINGLE, np.float32)
    assert actual.tobytes() == expected.tobytes()


@pytest.mark.parametrize("registers_from", [1, 4096])
def test_bits_do_not_depend_on_the_registers(
    stepwise: Stepwise, serving: Serving, monkeypatch: pytest.MonkeyPatch, registers_from: int
) -> None:
    """Sums of eight rows or steps at a time where there are 32, and of four and two vectors where there are 16."""
    monkeypatch.setattr(_walk, "BYTES_WITH_32_REGISTERS", registers_from)
    operation = make_filter("gaussian", sigma=2).operation(context_of(3))
    image = np.random.default_rng(4).normal(size=(21, 30, 50)).astype(np.float32)
    before = serving.served
    actual = filter_array(image, operation, serving, Precision.SINGLE, np.float32)
    assert serving.served == before + 1
    assert actual.tobytes() == filter_array(image, operation, stepwise, Precision.SINGLE, np.float32).tobytes()


@SETTINGS
@given(
    data=st.data(),
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "int32", "uint32"]),
    sizes=st.lists(st.sampled_from([2, 3, 5, 9, 15]), min_size=2, max_size=3),
    mode=st.sampled_from(list(BoundaryMode)),
)
def test_means_of_whole_numbers_are_walked(
    stepwise: Stepwise, serving: Serving, data: st.DataObject, dtype: str, sizes: list[int], mode: BoundaryMode
) -> None:
    """At the limits of their dtype, and at multiples of the size, where a sum that rounds would cut one off."""
    shape = (*(data.draw(st.integers(1, 12)) for _ in sizes[1:]), data.draw(st.sampled_from([16, 23, 48])))
    limits, generator = np.iinfo(dtype), np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    image = generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    image[generator.random(shape) < data.draw(st.sampled_from([0, 0.7]))] = data.draw(
        st.sampled_from([limits.min, limits.max, 3])
    )
    cval = data.draw(st.sampled_from([0, 7, limits.max]))
    chain = Sequence(
        tuple(
            Correlate(
                Stencil.line(np.ones(size), divisor=size).on_axes((axis,), len(shape)), (mode,) * len(shape), cval
            )
            for axis, size in enumerate(sizes)
        )
    )
    before = serving.served
    actual = filter_array(image, chain, serving, Precision.SCIPY, dtype)
    assert serving.served == before + 1
    np.testing.assert_array_equal(actual, filter_array(image, chain, stepwise, Precision.SCIPY, dtype))


@pytest.mark.parametrize(("dtype", "cval"), [("int64", 0), ("uint16", 0.5), ("uint16", -1)])
def test_means_whose_sums_could_round_go_pass_by_pass(
    stepwise: Stepwise, serving: Serving, dtype: str, cval: float
) -> None:
    """Numbers too large, and constants that are no voxels."""
    line = Stencil.line(np.ones(3), divisor=3)
    modes = (BoundaryMode.CONSTANT,) * 2
    chain = Sequence(tuple(Correlate(line.on_axes((axis,), 2), modes, cval) for axis in range(2)))
    image = np.random.default_rng(0).integers(0, 60_000, (9, 40)).astype(dtype)
    before = serving.served
    actual = filter_array(image, chain, serving, Precision.SCIPY, dtype)
    assert serving.served == before
    np.testing.assert_array_equal(actual, filter_array(image, chain, stepwise, Precision.SCIPY, dtype))
