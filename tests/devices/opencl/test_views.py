"""Voxels seen along other axes: the bits of rows as they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convolume.devices.opencl import available
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._views import _ROW_VOXELS, along_rows
from convolume.numerics import Precision
from convolume.stencil import Stencil

Array = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(
    not available() or available()[0].kind != "cpu", reason="this machine has no OpenCL on a processor"
)
SETTINGS = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
WIDE = 40


@pytest.fixture(scope="module", params=[0, 2**62], ids=["own programs", "generic program"])
def device(request: pytest.FixtureRequest) -> OpenCLDevice:
    """Return the device with programs of both kinds."""
    return OpenCLDevice(available()[0], specialise_from=request.param)


def _correlated(device: OpenCLDevice, padded: Array, stencil: Stencil) -> Array:
    out = np.empty(stencil.halo.inner(padded.shape), padded.dtype)
    device.correlate(padded, stencil, out, Precision.SINGLE)
    return out


@SETTINGS
@given(
    kernel=st.sampled_from([(3, 3), (2, 3, 3), (3, 1, 2), (1, 2, 3), (2, 1, 2, 3)]),
    width=st.sampled_from([1, 1, 1, 2, 5]),
    lengths=st.lists(st.integers(1, 30), min_size=3, max_size=3),
    columns=st.booleans(),
)
def test_thin_rows_have_the_bits_of_wide_ones(
    device: OpenCLDevice, kernel: tuple[int, ...], width: int, lengths: list[int], *, columns: bool
) -> None:
    """What stands beside the voxels that are weighed tells nothing."""
    generator = np.random.default_rng(sum(lengths))
    stencil = Stencil.correlate(generator.normal(size=kernel))
    shape = stencil.halo.outer((*lengths[: len(kernel) - 1], WIDE))
    wide = generator.normal(size=shape).astype(np.float32)
    expected = _correlated(device, wide, stencil)[..., :width]
    thin = wide[..., : width + kernel[-1] - 1]
    actual = _correlated(device, np.asfortranarray(thin) if columns else thin, stencil)
    np.testing.assert_array_equal(actual.view(np.uint32), expected.copy().view(np.uint32))


@pytest.mark.parametrize("shape", [(3 * _ROW_VOXELS + 77,), (2 * _ROW_VOXELS,), (2, 2 * _ROW_VOXELS + 1), (1, 9000)])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_long_rows_have_the_bits_of_short_ones(device: OpenCLDevice, shape: tuple[int, ...], width: int) -> None:
    """Few long rows are cut into many, their ends included."""
    generator = np.random.default_rng(width)
    stencil = Stencil.correlate(generator.normal(size=(*(1,) * (len(shape) - 1), width)))
    padded = generator.normal(size=stencil.halo.outer(shape)).astype(np.float32)
    length = shape[-1]
    pieces = [
        _correlated(device, padded[..., first : min(first + 1000, length) + width - 1], stencil)
        for first in range(0, length, 1000)
    ]
    actual = _correlated(device, padded, stencil)
    np.testing.assert_array_equal(actual.view(np.uint32), np.concatenate(pieces, axis=-1).view(np.uint32))


def test_nothing_is_copied_to_be_seen_otherwise() -> None:
    """Sources and targets of all correlations are views."""
    source, target = np.zeros((12, 6, 40), np.float32), np.zeros((10, 4, 38), np.float32)
    stencil = Stencil.correlate(np.ones((3, 3, 3)))
    (view, seen, out) = next(along_rows(source, stencil, target, 1))
    assert (view.shape, seen.shape, out.shape) == ((12, 3, 6, 38), (3, 3, 3, 1), (10, 1, 4, 38))
    assert np.shares_memory(view, source)
    assert np.shares_memory(out, target)
