"""The choice of methods: by speeds, once for an image, with reasons; what is asked for holds or is refused."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np
import pytest

import convolume
from convolume.boundary import BoundaryMode
from convolume.devices import Device
from convolume.devices._selection import open_device
from convolume.devices.numpy import NumpyDevice
from convolume.errors import InputError
from convolume.numerics import Precision
from convolume.operations import Combine, Correlate, Method, Operation, Sequence, correlations
from convolume.planning.memory import BlockMemory
from convolume.planning.method import MethodChoice, settled
from convolume.records import MethodSpeeds
from convolume.regions import BlockGrid
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

SPEEDS = MethodSpeeds(pass_ns=1.0, tap_ns=0.05, special_tap_ns=0.02, walk_ns=1.5, point_ns=0.5)
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
    assert large["direct"] == pytest.approx(1 + 729 * 0.02)
    assert small["direct"] == pytest.approx(1 + 729 * 0.05)
    product = dense(9, 9, 9, product=True)
    large_product, small_product = (dict(chosen(product, device, s).forecast_ns) for s in (SHAPE, (100, 100, 100)))
    assert large_product["separable"] == pytest.approx(1.5 + 27 * 0.02)
    assert small_product["separable"] == pytest.approx(3 * 1 + 27 * 0.05)
    assert large["fft"] == pytest.approx(0.5 * (264 * 264 * 264 * 3 * np.log2(264)) / 256**3, rel=0.05)


def test_a_choice_depends_on_the_image_and_not_on_blocks(device: Device) -> None:
    """Images larger than what is transformed at a time are alike."""
    assert chosen(dense(9, 9, 9), device, (512, 300, 4000)).forecast_ns == chosen(dense(9, 9, 9), device).forecast_ns


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
def test_speeds_are_measured_once(name: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """And kept on disk under the device's name; a figure that is missing there is measured again."""
    if not any(info.backend == name for info in convolume.list_devices()):
        pytest.skip(f"there is no {name} device here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    info = convolume.choose_device(name).info
    device = open_device(info)
    monkeypatch.delitem(device.__dict__, "speeds", raising=False)
    speeds = device.speeds
    assert speeds.pass_ns > 0
    assert speeds.point_ns > 0
    assert speeds.tap_ns >= 0
    del device.__dict__["speeds"]
    monkeypatch.setattr(type(device), "correlate", lambda *_: pytest.fail("measured twice"))
    assert astuple(device.speeds) == pytest.approx(astuple(speeds), rel=1e-3)
    del device.__dict__["speeds"]


def test_memory_of_transforms_is_planned() -> None:
    """A tile's and its kernel's: complex numbers on half of the points each, twice that in double precision."""
    for itemsize in (4, 8):
        memory = BlockMemory((999,) * 3, 4, itemsize, ((dense(9, 9, 9, method="fft"), 4),))
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
