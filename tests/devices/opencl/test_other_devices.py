"""Devices that are not here: a GPU, and a processor whose compiler wants vloadn, played by the device that is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from convolume.devices.opencl import _state, available
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._jobs import Traits
from convolume.errors import DeviceError
from convolume.numerics import Precision
from convolume.stencil import Stencil
from convolume.testing import devices as suite
from convolume.testing.devices import correlated, reference

pytestmark = pytest.mark.skipif(not available(), reason="this machine has no OpenCL")

PLAYED = {
    "gpu": Traits(on_cpu=False, vector_bytes=16, loose_pointers=False),
    "other processor": Traits(on_cpu=True, vector_bytes=32, loose_pointers=False),
}
MEAN = Stencil.correlate(np.full((3, 3), 0.5))


@pytest.fixture(scope="module", params=PLAYED)
def played(request: pytest.FixtureRequest) -> OpenCLDevice:
    """Return the device that is here, with the programs and the memory of another."""
    device = OpenCLDevice(available()[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_state, "traits_of", lambda _: PLAYED[request.param])
        patch.setattr(_state, "shares_memory", lambda _: False)
        # The first call opens it.
        correlated(device, np.ones((3, 3), np.float32), MEAN, Precision.SINGLE)
    return device


class TestPlayedDevice(suite.TestEveryDevice):
    """Other devices keep the same promises."""

    @pytest.fixture
    def device(self, played: OpenCLDevice) -> OpenCLDevice:
        """Return the device as the suite wants it."""
        return played


def test_bits_are_those_of_the_real_device(played: OpenCLDevice) -> None:
    """One voxel a work item, or vectors of another width: the same bits."""
    padded = np.random.default_rng(0).normal(size=(9, 70)).astype(np.float32)
    stencil = Stencil.correlate(np.random.default_rng(1).normal(size=(3, 5)))
    here = correlated(OpenCLDevice(available()[0], specialise_from=0), padded, stencil, Precision.SINGLE)
    assert correlated(played, padded, stencil, Precision.SINGLE).tobytes() == here.tobytes()


def _with(**changes: Any) -> OpenCLDevice:
    return OpenCLDevice(dataclasses.replace(available()[0], **changes))


@pytest.mark.parametrize("precision", [Precision.DOUBLE, Precision.SCIPY])
def test_a_device_without_float64_says_so(precision: Precision) -> None:
    """It computes nothing in less than what was asked for."""
    message = f"has no float64, which float32 voxels with precision '{precision.value}' need: take another device"
    with pytest.raises(DeviceError, match=message):
        correlated(_with(has_float64=False), np.ones((4, 4), np.float32), MEAN, precision)


def test_a_device_without_float64_serves_float32() -> None:
    """Single precision needs no doubles."""
    actual = correlated(_with(has_float64=False), np.ones((4, 40), np.uint16), MEAN, Precision.SINGLE)
    np.testing.assert_array_equal(actual, 4.5)


def test_what_is_too_large_for_one_allocation_is_split() -> None:
    """The parts have the bits of the whole."""
    padded = np.random.default_rng(2).normal(size=(3, 20, 90)).astype(np.float32)
    stencil = MEAN.on_axes((1, 2), 3)
    parted = correlated(_with(max_allocation_bytes=2000), padded, stencil, Precision.SINGLE)
    assert parted.tobytes() == correlated(_with(), padded, stencil, Precision.SINGLE).tobytes()


def test_what_cannot_be_split_is_refused_with_its_sizes() -> None:
    """One row of output is the smallest part."""
    with pytest.raises(DeviceError, match=r"gives at most 16 bytes at once, .* of \(3, 3\) float32 voxels takes 36"):
        correlated(_with(max_allocation_bytes=16), np.ones((3, 3), np.float32), MEAN, Precision.SINGLE)


def test_a_wrong_shape_reads_no_foreign_memory() -> None:
    """Extents are checked before a program runs."""
    with pytest.raises(DeviceError, match=r"does not give float32 voxels of \(9, 9\), but real ones of \(4, 4\)"):
        _with().correlate(np.ones((6, 6), np.float32), MEAN, np.empty((9, 9), np.float32), Precision.SINGLE)


def test_complex_voxels_are_refused() -> None:
    """They are no real numbers."""
    with pytest.raises(DeviceError, match="complex64 voxels"):
        correlated(_with(), np.ones((4, 4), np.complex64), MEAN, Precision.SINGLE)


def test_a_device_that_is_gone_is_named() -> None:
    """The identifier that another process chose is not here."""
    with pytest.raises(DeviceError, match=r"no OpenCL device 'elsewhere/0' \(there are: "):
        correlated(_with(identifier="elsewhere/0"), np.ones((4, 4), np.float32), MEAN, Precision.SINGLE)


def test_a_program_that_does_not_compile_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device, the compiler's line and the way out are named."""
    monkeypatch.setattr("convolume.devices.opencl._programs.render", lambda _: "__kernel void correlate() { nonsense }")
    with pytest.raises(DeviceError, match=r"could not compile a program: .*nonsense.*; take another device"):
        correlated(_with(), np.ones((4, 4), np.float32), MEAN, Precision.SINGLE)


def test_sums_equal_scipy_through_copies(played: OpenCLDevice) -> None:
    """Views that a copy goes through, both ways."""
    padded = np.arange(600.0).reshape(20, 30)[::2, 1:]
    out = np.zeros((30, 30))[:8, :27]
    played.correlate(padded, MEAN, out, Precision.SCIPY)
    np.testing.assert_array_equal(out, reference(padded, MEAN))
