"""Every program gives a voxel the same bits: generic or specialised, whatever the block, its place and its memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convolume.devices.opencl import _programs, available, rendered_source
from convolume.devices.opencl._device import OpenCLDevice
from convolume.numerics import Precision
from convolume.stencil import Stencil
from convolume.testing.devices import correlated, layouts, reference

Array = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(not available(), reason="this machine has no OpenCL")

SETTINGS = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def _ball(radius: int) -> Array:
    axis = np.arange(-radius, radius + 1) ** 2
    return (axis[:, None, None] + axis[:, None] + axis <= radius**2).astype(float)


def _without_its_middle() -> Array:
    kernel = np.ones((3, 4, 2))
    kernel[1], kernel[2, 1] = 0, 0
    return kernel


# Which weights are zero is what a program is made for: one plane, several alike, several that differ, gaps, 4-D, 2-D.
PATTERNS = {
    "cube": np.ones((3, 3, 3)),
    "ball": _ball(2),
    "gaps": _without_its_middle(),
    "along z": np.ones((6, 1, 1)),
    "along y": np.ones((1, 5, 1)),
    "plane": np.ones((2, 3)),
    "four axes": np.ones((2, 1, 2, 3)),
}


@pytest.fixture(scope="module")
def generic() -> OpenCLDevice:
    """Return a device that always runs the generic program."""
    return OpenCLDevice(available()[0], specialise_from=1 << 62)


@pytest.fixture(scope="module")
def special() -> OpenCLDevice:
    """Return a device that gives every stencil a program of its own."""
    return OpenCLDevice(available()[0], specialise_from=0)


def _stencil(pattern: str, seed: int) -> Stencil:
    filled = PATTERNS[pattern]
    return Stencil.correlate(filled * np.random.default_rng(seed).normal(size=filled.shape))


def _reals(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("pattern", PATTERNS)
@SETTINGS
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_specialised_equals_generic_to_the_bit(
    generic: OpenCLDevice, special: OpenCLDevice, pattern: str, data: st.DataObject, seed: int
) -> None:
    """Rows that do not divide, ragged ends, views of any kind."""
    stencil = _stencil(pattern, seed)
    leading = [data.draw(st.integers(1, 6)) for _ in stencil.shape[1:]]
    shape = (*leading, data.draw(st.sampled_from([15, 16, 17, 32, 33, 70])))
    padded = _reals(stencil.halo.outer(shape), seed)
    expected = correlated(generic, padded, stencil, Precision.SINGLE)
    _, out = data.draw(layouts(stencil.ndim)).empty(shape, np.float32)
    special.correlate(data.draw(layouts(stencil.ndim)).holding(padded), stencil, out, Precision.SINGLE)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])
def test_specialised_reads_every_dtype(special: OpenCLDevice, dtype: str, precision: Precision) -> None:
    """Whole numbers are exact in every precision."""
    stencil = Stencil.correlate(np.arange(-3.0, 3.0).reshape(2, 3))
    padded = np.random.default_rng(1).integers(0, 100, (7, 52)).astype(dtype)
    actual = correlated(special, padded, stencil, precision, np.float64)
    np.testing.assert_array_equal(actual, reference(padded, stencil))


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_reals_have_the_same_bits_in_every_precision(
    generic: OpenCLDevice, special: OpenCLDevice, dtype: str, precision: Precision
) -> None:
    """Contracted or not, both programs do the same."""
    stencil = _stencil("plane", 8)
    padded = np.random.default_rng(9).uniform(0, 99, (9, 60)).astype(dtype)
    results = [correlated(device, padded, stencil, precision, np.float64) for device in (generic, special)]
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "float32"])
def test_specialised_is_scipy_to_the_bit(special: OpenCLDevice, dtype: str) -> None:
    """Sums of reals are cut off as scipy does."""
    stencil = Stencil.correlate(np.random.default_rng(2).normal(size=(3, 3)))
    padded = np.random.default_rng(3).uniform(0, 20, (9, 60))
    actual = correlated(special, padded, stencil, Precision.SCIPY, dtype)
    np.testing.assert_array_equal(actual, reference(padded, stencil, dtype))


def test_threads_share_a_device(special: OpenCLDevice) -> None:
    """Blocks of one array, computed by several threads at once, are the whole."""
    stencil = _stencil("cube", 4)
    padded = _reals((42, 12, 50), 5)
    whole = correlated(special, padded, stencil, Precision.SINGLE)
    out = np.empty_like(whole)

    def block(first: int) -> None:
        special.correlate(padded[first : first + 7], stencil, out[first : first + 5], Precision.SINGLE)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(block, range(0, 40, 5)))
    assert out.tobytes() == whole.tobytes()


def test_a_stencil_earns_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small calls run the generic program until together they were enough work; bits do not tell."""
    device = OpenCLDevice(available()[0], specialise_from=4_000)
    stencil = _stencil("cube", 6)
    padded = _reals((12, 12, 50), 7)
    sources: list[str] = []
    rendered = _programs.render
    monkeypatch.setattr(_programs, "render", lambda job: sources.append(job.template) or rendered(job))
    results = [correlated(device, padded, stencil, Precision.SINGLE).tobytes() for _ in range(4)]
    assert len(set(results)) == 1
    assert sources == ["generic.cl", "strip.cl"]


def test_rendered_source_is_what_is_compiled() -> None:
    """The specialised program names each weight that is not zero, the generic one none."""
    info = available()[0]
    stencil = Stencil.correlate([[1.0, 0.0], [2.0, 3.0]])
    special = rendered_source(info, stencil, (20, 64), ("uint16", "float32"), Precision.SINGLE)
    generic = rendered_source(info, stencil, (20, 1), ("uint16", "float32"), Precision.SINGLE)
    if "cpu" in info.kind:
        assert "typedef ushort source_t" in special
        assert "weight[3]" in special
        assert "weight[1]" not in special
    assert "weight[3]" not in generic
    assert "{{" not in special + generic
