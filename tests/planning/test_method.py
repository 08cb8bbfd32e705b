"""The choice of methods: by speeds, once for an image, with reasons; what is asked for holds or is refused."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np
import pytest

import convolume
from convolume.boundary import BoundaryMode
from convolume.devices import Device, _method_speeds
from convolume.devices._selection import open_device
from convolume.devices.numpy import NumpyDevice
from convolume.errors import InputError
from convolume.numerics import Precision
from convolume.operations import Combine, Correlate, Method, Operation, Sequence, correlations
from convolume.planning.memory import BlockMemory, TargetMemory
from convolume.planning.method import MethodChoice, settled
from convolume.records import MethodSpeeds
from convolume.regions import BlockGrid
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

SPEEDS = MethodSpeeds(
    call_ns=1e6,
    transform_call_ns=4e6,
    pass_ns=1.0,
    tap_ns=0.05,
    special_tap_ns=0.02,
    walk_ns=1.5,
    line_point_ns=1.0,
    plane_point_ns=0.8,
    point_ns=0.5,
)
SHAPE = (256, 256, 256)


class Prepared(NumpyDevice):
    """A device of known speed, which makes a program for kernels when there is much to do."""

    speeds = SPEEDS

    def prepares(self, stencils: Items[Stencil], voxels: int) -> bool:
        """Say so of a large image."""
        del stencils
        return voxels >= 256**3


@pytest.fixture
def device() -> Device:
    """Return a device whose speeds are known."""
    return Prepared(convolume.choose_device("numpy").info)


def dense(*extents: int, method: Method = "auto", product: bool = False, cval: float = 0.0) -> Correlate:
    """Return a correlation with a random kernel."""
    kernel = np.random.default_rng(0).random(extents)
    if product:
        kernel = np.multiply.outer(np.multiply.outer(kernel[:, 0, 0], kernel[0, :, 0]), kernel[0, 0])
    return Correlate(Stencil.correlate(kernel), (BoundaryMode.CONSTANT,) * 3, cval, method)


def chosen(step: Correlate, device: Device, shape: tuple[int, ...] = SHAPE) -> MethodChoice:
    """Return the one choice for a correlation."""
    (choice,) = settled(step, shape, device, Precision.SINGLE)[1]
    return choice


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (dense(3, 3, 3), "direct"),
        (dense(5, 5, 5), "direct"),
        (dense(33, 33, 33), "fft"),
        (dense(1, 31, 31), "fft"),
        (dense(1, 5, 5), "direct"),
        (dense(7, 7, 7, product=True), "separable"),
        (dense(33, 33, 33, product=True), "separable"),
    ],
)
def test_the_quickest_is_taken_and_says_why(step: Correlate, name: str, device: Device) -> None:
    """What is expected of each method goes with the choice; the operation does what was chosen."""
    choice = chosen(step, device)
    forecast = dict(choice.forecast_ns)
    assert choice.name == name == min(forecast, key=forecast.__getitem__)
    assert choice.reason == f"about {forecast[name]:.3g} ns a voxel, by what was measured on the device"
    assert {other for other, _ in choice.rejected} == {"direct", "separable", "fft"} - {name}
    done, _ = settled(step, SHAPE, device, Precision.SINGLE)
    is_product = name == "separable"
    assert {one.method for one in correlations(done)} == {"direct" if is_product else name}
    assert isinstance(done, Sequence) == is_product


def test_what_is_expected_follows_the_speeds(device: Device) -> None:
    """A pass and its taps; a program made for the kernel only where there is much to do."""
    large, small = (dict(chosen(dense(9, 9, 9), device, shape).forecast_ns) for shape in (SHAPE, (100, 100, 100)))
    # A call costs 1 ms: 1 ns for each of a million voxels.
    assert large["direct"] == pytest.approx(1e6 / 256**3 + 1 + 729 * 0.02)
    assert small["direct"] == pytest.approx(1 + 1 + 729 * 0.05)
    product = dense(9, 9, 9, product=True)
    large_product, small_product = (dict(chosen(product, device, s).forecast_ns) for s in (SHAPE, (100, 100, 100)))
    assert large_product["separable"] == pytest.approx(1e6 / 256**3 + 1.5 + 27 * 0.02)
    # A call for each axis: those for its faces cost next to nothing.
    assert small_product["separable"] == pytest.approx(3 * 1 + 3 * 1 + 27 * 0.05)
    # Boxes of 15 voxels: sums of 2, 3, 5, 10 and 15, and the weight.
    box = Correlate(Stencil.correlate(np.ones((15, 15, 15))), (BoundaryMode.REFLECT,) * 3, method="auto")
    large_box, small_box = (dict(chosen(box, device, s).forecast_ns) for s in (SHAPE, (100, 100, 100)))
    assert large_box["separable"] == pytest.approx(1e6 / 256**3 + 1.5 + 3 * 6 * 0.02)
    assert small_box["separable"] == pytest.approx(3 * 1 + 3 * 1 + 45 * 0.05)
    assert large["fft"] == pytest.approx(0.5 * (264 * 264 * 264 * 3 * np.log2(264)) / 256**3, rel=0.05)
    flat, line = (dict(chosen(dense(*extents), device).forecast_ns)["fft"] for extents in ((1, 9, 9), (9, 1, 1)))
    assert flat == pytest.approx(0.8 * (264 * 264 * 2 * np.log2(264)) / 256**2, rel=0.1)
    assert line == pytest.approx(1.0 * 264 * np.log2(264) / 256, rel=0.1)


def test_a_choice_depends_on_the_image_and_not_on_blocks(device: Device) -> None:
    """Images larger than what is transformed at a time are alike."""
    large, larger = (chosen(dense(9, 9, 9), device, shape) for shape in ((512, 300, 4000), (900, 700, 5000)))
    assert large.name == larger.name
    # But for the price of a call, which so many voxels share.
    assert dict(large.forecast_ns) == pytest.approx(dict(larger.forecast_ns), abs=0.01)


def test_little_work_is_done_directly_and_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small calls stay cheap."""
    device = open_device(convolume.choose_device("numpy").info)
    monkeypatch.setattr(Device, "speeds", property(lambda _: pytest.fail("something was measured")))
    assert chosen(dense(5, 5, 5), device, (32, 32, 32)).reason == "there is too little to do for a choice to matter"


def test_every_correlation_of_a_tree_is_settled(device: Device) -> None:
    """Those that are direct are no question."""
    tree: Operation = Sequence((dense(3, 3, 3, method="direct"), Combine("add", (dense(33, 33, 33), dense(5, 5, 5)))))
    done, choices = settled(tree, SHAPE, device, Precision.SINGLE)
    assert [choice.name for choice in choices] == ["fft", "direct"]
    assert [one.method for one in correlations(done)] == ["direct", "fft", "direct"]


def test_integers_are_direct(device: Device) -> None:
    """Whatever would be quicker; what is asked for in spite of it is refused."""
    done, (choice,) = settled(dense(33, 33, 33), SHAPE, device, Precision.SCIPY)
    assert done == dense(33, 33, 33, method="direct")
    assert choice.reason == "integer results are exact"
    for method in ("fft", "separable"):
        with pytest.raises(InputError, match=f"`method: {method}` rounds, and integer results are exact: leave"):
            settled(dense(3, 3, 3, method=method), SHAPE, device, Precision.SCIPY)


def test_a_method_may_be_named(device: Device) -> None:
    """Against what is expected to be the quickest."""
    assert chosen(dense(3, 3, 3, method="fft"), device) == MethodChoice((3, 3, 3), "fft", "the workflow names it")
    assert chosen(dense(3, 3, 3, method="separable", product=True), device).name == "separable"


def test_separable_is_refused_where_it_is_not(device: Device) -> None:
    """With the reason, and what to name instead."""
    wrong = dense(3, 3, 3, method="separable")
    message = (
        r"`method: separable` does not fit: the kernel is no outer product of one-axis weights, by 0\.\d+ of "
        "its largest weight; name `auto`, `direct` or `fft`"
    )
    with pytest.raises(InputError, match=message):
        chosen(wrong, device)
    with pytest.raises(InputError, match=r"does not fit: its constant inf is not finite; name"):
        chosen(dense(3, 3, 3, method="separable", product=True, cval=np.inf), device)


@pytest.mark.parametrize("name", ["numpy", "opencl"])
def test_speeds_are_measured_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And kept on disk under the device's name; a figure that is missing there is measured again."""
    if not any(info.backend == name for info in convolume.list_devices()):
        pytest.skip(f"there is no {name} device here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    info = convolume.choose_device(name).info
    device = open_device(info)
    monkeypatch.delitem(device.__dict__, "_own_speeds", raising=False)
    monkeypatch.setattr(_method_speeds, "is_quiet", lambda _: True)
    speeds = device.speeds
    assert speeds.is_measured
    assert speeds.call_ns > 0
    assert speeds.point_ns > 0
    del device.__dict__["_own_speeds"]
    monkeypatch.setattr(type(device), "correlate", lambda *_: pytest.fail("measured twice"))
    assert astuple(device.speeds) == pytest.approx(astuple(speeds), rel=1e-3)
    del device.__dict__["_own_speeds"]


def test_what_is_measured_beside_others_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves the process that measured, and the next one measures again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_method_speeds, "_measured", lambda _: SPEEDS)
    device = NumpyDevice(convolume.choose_device("numpy").info)
    monkeypatch.setattr(_method_speeds, "is_quiet", lambda _: False)
    assert _method_speeds.method_speeds(device) == SPEEDS
    assert not list(tmp_path.rglob("*.json"))
    monkeypatch.setattr(_method_speeds, "is_quiet", lambda _: True)
    assert _method_speeds.method_speeds(device) == SPEEDS
    assert list(tmp_path.rglob("methods.json"))


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_thread_that_waits_for_its_processor_is_not_alone(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time that it had of the processor."""
    wall, used = iter((1.0, 2.0)), iter((0.0, share))
    monkeypatch.setattr(_method_speeds, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(_method_speeds, "thread_time", lambda: next(used))
    monkeypatch.setattr(_method_speeds, "_PROBED_BYTES", 1)
    assert _method_speeds.is_quiet(1) == (share > 0.9)


def test_while_programs_are_tried_nobody_waits(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that are like those of many processors serve, the choice says so, and nothing is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(NumpyDevice, "is_tried", False)
    monkeypatch.setattr(_method_speeds, "_measured", lambda _: pytest.fail("something was measured"))
    fresh = NumpyDevice(device.info)
    choice = chosen(dense(33, 33, 33), fresh)
    assert choice.name == "fft"
    assert choice.reason.endswith("ns a voxel, as on most processors")
    assert not list(tmp_path.rglob("*.json"))


def test_memory_of_transforms_is_planned() -> None:
    """A tile's and its kernel's: complex numbers on half of the points each, twice that in double precision."""
    for itemsize in (4, 8):
        memory = BlockMemory((999,) * 3, 4, itemsize, (TargetMemory(dense(9, 9, 9, method="fft"), 4),))
        patch, spectrum = 128**3, 128 * 128 * 65 * 2 * itemsize
        assert memory.host_bytes((120,) * 3) == patch * 4 + patch * 2 * itemsize + spectrum
        assert memory.kernel_bytes(BlockGrid((999,) * 3, (120,) * 3)) == min(8 * spectrum, 2**28)
        assert memory.kernel_bytes(BlockGrid((120,) * 3, (120,) * 3)) == spectrum


def test_the_road_of_a_workflow() -> None:
    """The workflow's method holds for its steps, a step's own counts first; the plan carries choice and note."""
    image = np.random.default_rng(0).random((20, 21, 22), dtype=np.float32)
    kernel = np.random.default_rng(1).random((3, 4, 5))
    volume = convolume.Volume.from_array(image, method="fft")
    by_fft, direct = volume.convolve(kernel), volume.convolve(kernel, method="direct")
    (choice,) = by_fft.plan().outputs[0].methods
    assert (choice.name, choice.reason) == ("fft", "the workflow names it")
    assert any("the last bits of a result depend on the blocks" in note for note in by_fft.plan().notes)
    assert direct.plan().outputs[0].methods == ()
    assert not any("transform" in note for note in direct.plan().notes)
    assert "method: fft" in by_fft.workflow()
    np.testing.assert_allclose(by_fft.compute(), direct.compute(), rtol=1e-5)
    assert (by_fft.compute() != direct.compute()).any()
    with pytest.raises(InputError, match=r"outputs.result.steps\[0\].convolve: `method: separable` does not fit"):
        volume.convolve(kernel, method="separable").plan()
