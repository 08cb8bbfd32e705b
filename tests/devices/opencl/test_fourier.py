"""Transforms on a GPU: the installed pyvkfft, or a stand-in that has its interface and transforms by NumPy."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.fft

from convolume.devices.opencl import available
from convolume.devices.opencl._device import OpenCLDevice
from convolume.numerics import Precision
from convolume.stencil import Stencil
from convolume.testing.devices import reference

if TYPE_CHECKING:
    from convolume.devices import Device

SHAPES = [((40,), (6,)), ((9, 30), (4, 5)), ((6, 9, 11), (3, 4, 5)), ((6, 9, 11), (3, 1, 5)), ((7, 8, 11), (1, 1, 3))]


class _StandIn:
    """`pyvkfft.opencl.VkFFTApp` by NumPy, for real transforms that are not in place."""

    def __init__(self, shape: tuple[int, ...], *_: object, axes: tuple[int, ...], inplace: bool, r2c: bool) -> None:
        assert r2c
        assert not inplace
        self._axes, self._lengths = axes, [shape[axis] for axis in axes]

    def fft(self, source: Any, target: Any) -> None:
        target.set(scipy.fft.rfftn(source.get(), axes=self._axes).astype(target.dtype, order="C"))

    def ifft(self, source: Any, target: Any) -> None:
        target.set(scipy.fft.irfftn(source.get(), self._lengths, self._axes).astype(target.dtype, order="C"))


@pytest.fixture
def transforms(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Make sure that there is a package; return the shapes of what is transformed on the device from here on."""
    if find_spec("pyvkfft") is None:
        for name in ("pyvkfft", "pyvkfft.opencl"):
            module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(sys.modules["pyvkfft.opencl"], "VkFFTApp", _StandIn, raising=False)
    app: Any = import_module("pyvkfft.opencl").VkFFTApp
    done: list[tuple[int, ...]] = []
    fft = app.fft

    def counted(self: Any, source: Any, target: Any) -> None:
        done.append(source.shape)
        fft(self, source, target)

    monkeypatch.setattr(app, "fft", counted)
    return done


def _correlated(device: Device, padded: Any, stencil: Stencil, precision: Precision) -> Any:
    out = np.empty(stencil.halo.inner(padded.shape), np.float64)
    device.correlate_by_transform(lambda part: padded[part], stencil, out, precision)
    return out


@pytest.mark.parametrize(("shape", "kernel"), SHAPES)
@pytest.mark.parametrize("precision", [Precision.SINGLE, Precision.DOUBLE])
def test_equals_sums_and_transforms_a_kernel_once(
    plain_gpu: OpenCLDevice,
    transforms: list[tuple[int, ...]],
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    precision: Precision,
) -> None:
    """Even extents and axes that are not transformed included."""
    generator = np.random.default_rng(0)
    stencil, tolerance = (
        Stencil.correlate(generator.normal(size=kernel)),
        1e-5 if precision is Precision.SINGLE else 1e-13,
    )
    for done in (2, 3):
        padded = generator.normal(size=stencil.halo.outer(shape))
        actual = _correlated(plain_gpu, padded, stencil, precision)
        np.testing.assert_allclose(actual, reference(padded, stencil), atol=tolerance * np.abs(padded).sum() ** 0.5)
        assert len(transforms) == done


def test_what_is_not_finite_stays_where_sums_have_it(
    plain_gpu: OpenCLDevice, transforms: list[tuple[int, ...]]
) -> None:
    """The host does it again."""
    stencil, padded = Stencil.correlate(np.ones((3, 3, 3))), np.ones((8, 9, 20), np.float32)
    padded[4, 4, 4], padded[7, 8, 19] = np.nan, np.inf
    actual = _correlated(plain_gpu, padded, stencil, Precision.SINGLE)
    np.testing.assert_allclose(actual, reference(padded.astype(np.float64), stencil), rtol=1e-5)
    assert len(transforms) == 2


@pytest.mark.parametrize("reason", ["the last axis", "the package", "memory", "a processor"])
def test_the_host_does_what_the_device_does_not(
    plain_gpu: OpenCLDevice,
    transforms: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
) -> None:
    """Real transforms begin along the last axis; a package may be missing; a spectrum may be too large."""
    if reason == "a processor" and available()[0].kind != "cpu":
        pytest.skip("the device is no processor")
    if reason == "the package":
        monkeypatch.setattr("convolume.devices.opencl._device.find_spec", lambda _: None)
    if reason == "memory":
        monkeypatch.setattr("convolume.devices.opencl._device.prod", lambda _: 1 << 60)
    device = OpenCLDevice(available()[0]) if reason == "a processor" else plain_gpu
    stencil = Stencil.correlate(np.ones((3, 3, 1) if reason == "the last axis" else (3, 3, 3)))
    padded = np.random.default_rng(0).random((8, 9, 20))
    actual = _correlated(device, padded, stencil, Precision.SINGLE)
    np.testing.assert_allclose(actual, reference(padded, stencil), rtol=1e-5)
    assert not transforms
