"""Transforms on the host: kernels' are kept, tiles are bounded, failures are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.devices import _sweeps
from convolume.devices import _transform as tiles
from convolume.devices._selection import choose_device, open_device
from convolume.devices._sweeps import Kept, Sweeps
from convolume.execution.in_memory import filter_array
from convolume.layouts import THREADS_VARIABLE
from convolume.numerics import Precision
from convolume.operations import Correlate
from convolume.stencil import Stencil
from convolume.testing.evaluation import evaluate_whole

DEVICE = open_device(choose_device("numpy").info)


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 60)), min_size=1, max_size=4),
    st.sampled_from([10, 5000, 2**20]),
)
def test_tiles_are_bounded_but_never_thinner_than_half_the_kernel(axes: list[tuple[int, int]], points: int) -> None:
    """What a tile reads beside its output grows without bound otherwise."""
    shape, kernel = (tuple(each) for each in zip(*axes, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_TILE_POINTS", points)
        patch.setattr(tiles, "_TILE_POINTS_OF_PLANES", points)
        tile = tiles.transform_tile(shape, kernel)
    assert all(2 * t >= min(n, k) for t, n, k in zip(tile, shape, kernel, strict=True))
    is_small = np.prod(tiles.Transform(tile, kernel).lengths) <= points
    assert is_small or all(t <= k for t, k in zip(tile, kernel, strict=True))


def test_a_worker_has_its_share_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a variable, as OpenCL's runtimes have theirs."""
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    assert DEVICE.transform_threads == DEVICE.info.compute_units
    monkeypatch.setenv(THREADS_VARIABLE, "1")
    assert DEVICE.transform_threads == 1


def test_a_kernel_is_transformed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all tiles and all calls; what is kept stays within its bytes, the last one in any case."""
    made: list[Stencil] = []
    transformed = Sweeps.transformed_kernel
    monkeypatch.setattr(
        Sweeps, "transformed_kernel", lambda self, stencil: made.append(stencil) or transformed(self, stencil)
    )
    monkeypatch.setattr(_sweeps, "kept_kernels", Kept(2000))
    monkeypatch.setattr(tiles, "_TILE_POINTS", 3000)
    image = np.random.default_rng(0).random((20, 20, 20), dtype=np.float32)

    def filtered(weight: float) -> None:
        kernel = Stencil.correlate(np.full((3, 3, 3), weight))
        step = Correlate(kernel, (BoundaryMode.NEAREST,) * 3, method="fft")
        np.testing.assert_allclose(
            filter_array(image, step, DEVICE, Precision.SINGLE, np.float32), evaluate_whole(step, image), rtol=1e-4
        )

    filtered(1.0)
    filtered(1.0)
    assert len(made) == 1
    filtered(2.0)
    filtered(1.0)
    assert len(made) == 3


@pytest.mark.parametrize("shape", [(300,), (40, 60), (12, 20, 24)])
@pytest.mark.parametrize("factor", [1.0, 1e-3, 1e3])
def test_what_overflows_on_the_way_is_right(shape: tuple[int, ...], factor: float) -> None:
    """A transform adds up what a sum never does: finite results stay finite, and others become infinite."""
    image = np.zeros(shape, np.float32)
    image[tuple(n // 2 for n in shape)] = 1e37
    stencil = Stencil.correlate(np.full((2,) * len(shape), factor))
    step = Correlate(stencil, (BoundaryMode.CONSTANT,) * len(shape), method="fft")
    actual = filter_array(image, step, DEVICE, Precision.SINGLE, np.float32)
    with np.errstate(over="ignore"):
        expected = evaluate_whole(step, image).astype(np.float32)
    np.testing.assert_array_equal(np.isinf(actual), np.isinf(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6 * 1e37 * factor)


def test_a_failure_in_a_thread_is_a_failure() -> None:
    """Nothing is left undone in silence."""

    def read(_: object) -> npt.NDArray[Any]:
        message = "no voxels"
        raise RuntimeError(message)

    stencil = Stencil.correlate(np.ones((3, 3)))
    with pytest.raises(RuntimeError, match="no voxels"):
        DEVICE.correlate_by_transform(read, stencil, np.empty((9, 9), np.float32), Precision.SINGLE)
