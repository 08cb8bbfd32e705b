"""A call like one before is not made ready again, and has the same bits, however its arrays lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.devices.opencl.comparison import Serving, Stepwise, check_bits

from convolume.arrays import new_array
from convolume.devices.opencl import _box, _strip, _walk, available
from convolume.execution.in_memory import filter_array
from convolume.filters import make_filter
from convolume.numerics import Precision
from convolume.testing.filters import context_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from convolume.operations import Operation

    Array = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(
    not available() or available()[0].kind != "cpu", reason="this machine has no OpenCL on a processor"
)

SHAPE = (9, 10, 40)


def _operation(name: str, **parameters: Any) -> Operation:
    return make_filter(name, **parameters).operation(context_of(len(SHAPE)))


LAPLACE, GAUSSIAN, BOX = _operation("laplace"), _operation("gaussian", sigma=1), _operation("box", size=(1, 1, 15))


def _image() -> Array:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def arranged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what lists every arrangement of arguments."""
    names: list[str] = []

    def listing(name: str, arrange: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *positional, **named: (names.append(name), arrange(*positional, **named))[1]

    monkeypatch.setattr("convolume.devices.opencl._device.strip_arguments", listing("strip", _strip.strip_arguments))
    monkeypatch.setattr(_walk.Walk, "arguments", listing("walk", _walk.Walk.arguments))
    monkeypatch.setattr(_box.BoxWalk, "arguments", listing("box", _box.BoxWalk.arguments))
    return names


@pytest.mark.parametrize(("operation", "name"), [(LAPLACE, "strip"), (GAUSSIAN, "walk"), (BOX, "box")])
def test_a_call_is_made_ready_once(arranged: list[str], operation: Operation, name: str) -> None:
    """Other arrays may come, where they lie alike; others are made ready anew."""
    serving, image = Serving(available()[0], specialise_from=0), new_array(SHAPE, np.dtype(np.float32))
    outputs = []
    for i in (0, 0, 1):
        image[...] = _image() + i
        outputs.append(filter_array(image, operation, serving, Precision.SINGLE, np.float32))
    assert arranged == [name]
    assert outputs[0].tobytes() == outputs[1].tobytes() != outputs[2].tobytes()
    turned = np.ascontiguousarray(_image().T).T
    filter_array(turned[:, ::1], operation, serving, Precision.SINGLE, np.float32)
    filter_array(_image().astype(np.uint8), operation, serving, Precision.SINGLE, np.float32)
    assert set(arranged) == {name}
    assert len(arranged) > 1


def test_what_goes_through_memory_of_the_device_is_made_ready_each_time(arranged: list[str]) -> None:
    """Long boxes along several axes hand over what lies between in memory of the thread."""
    serving = Serving(available()[0], specialise_from=0)
    boxes = _operation("box", size=15)
    first, second = (filter_array(_image(), boxes, serving, Precision.SINGLE, np.float32) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert arranged == ["box"] * 4


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data(), operation=st.sampled_from([LAPLACE, GAUSSIAN, BOX]))
def test_bits_do_not_depend_on_earlier_calls(
    stepwise: Stepwise, serving: Serving, data: st.DataObject, operation: Operation
) -> None:
    """The same passes again and again, on voxels that lie anyhow."""
    for _ in range(3):
        check_bits(data, operation, _image() * data.draw(st.integers(1, 5)), stepwise, serving)
