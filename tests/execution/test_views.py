"""Images seen along other axes: the bits of the image as it lies, in all modes and blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

import convolume
from convolume.boundary import BoundaryMode
from convolume.devices._selection import open_device
from convolume.execution import evaluate as module
from convolume.execution import views
from convolume.execution.evaluate import Patch, Work, evaluate
from convolume.execution.filling import gather
from convolume.execution.in_memory import filter_array
from convolume.numerics import Precision
from convolume.operations import Correlate, Sequence, reach_of
from convolume.stencil import Stencil
from convolume.testing.strategies import boundary_modes, images, operations, regions, shapes

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.devices import Device

    Array = npt.NDArray[Any]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_bits_are_those_of_the_image_as_it_lies(device: Device, data: st.DataObject) -> None:
    """Any tree on any block; lines of a few voxels are long enough to be cut, and axes may have one voxel."""
    thin = data.draw(st.integers(0, 2))
    shape = (*data.draw(shapes(max_dims=3 - thin, max_side=40)), *([1] * thin))
    operation, image = data.draw(operations(len(shape))), data.draw(images(shape, finite=False))
    region = data.draw(regions(shape))
    wanted = tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True))
    needs = reach_of(operation, wanted, shape)
    places = np.ix_(*(np.concatenate([np.arange(a, b) for a, b in runs]) if runs else np.arange(0) for runs in needs))
    work = Work(device, Precision.SINGLE, np.dtype(np.float32), shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "_ROW_VOXELS", data.draw(st.integers(2, 6)))
        patch.setattr(views, "_ROW_REACHES", 0)
        patch.setattr(views, "_FEW_ROWS", data.draw(st.sampled_from([0, 2, 100])))
        patch.setattr(views, "_LONG_ROW", 12)
        out = np.empty(region.shape, np.float32) if data.draw(st.booleans()) else None
        seen = evaluate(work, operation, Patch(image[places], needs), wanted, out)
        patch.setattr(module, "_seen_otherwise", lambda *_: None)
        expected = evaluate(work, operation, Patch(image[places], needs), wanted)
    np.testing.assert_array_equal(seen, expected)
    assert out is None or seen is out


def test_taps_never_change_places() -> None:
    """A kernel with weights along an axis of one voxel is left as it is where others would come before them."""
    modes = (BoundaryMode.WRAP,) * 3
    dense = Correlate(Stencil.correlate(np.ones((1, 3, 3))), modes)
    plane, line = (Correlate(Stencil.correlate(np.ones(shape)), modes) for shape in ((3, 3, 1), (1, 1, 3)))
    assert views.thin_axes_first((8, 9, 1), dense) is None
    assert views.thin_axes_first((8, 9, 1), Sequence((plane, line))) == (2, 0, 1)
    assert views.thin_axes_first((8, 1, 9), plane) is None


@settings(max_examples=12, deadline=None)
@given(
    mode=boundary_modes(),
    length=st.sampled_from([8192 + 20, 70_001]),
    rows=st.sampled_from([(), (1,), (3,)]),
    dtype=st.sampled_from(["float32", "uint8", "bool"]),
)
def test_long_lines_are_scipys(mode: str, length: int, rows: tuple[int, ...], dtype: str) -> None:
    """By the front door, exactly: weights and voxels are whole numbers."""
    image = np.random.default_rng(0).integers(0, 2, (*rows, length)).astype(dtype)
    weights = np.arange(1.0, 10.0).reshape((1,) * len(rows) + (9,))
    actual = convolume.ndimage.convolve(image, weights, mode=mode)
    np.testing.assert_array_equal(actual, scipy.ndimage.convolve(image, weights, mode=mode))
    smooth = convolume.ndimage.uniform_filter(image, 5, mode=mode)
    np.testing.assert_allclose(smooth, scipy.ndimage.uniform_filter(image, 5, mode=mode), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("shape", "weights"), [((40_000,), (7,)), ((2, 40_000), (1, 7)), ((300, 200, 1), (3, 3, 1))])
def test_little_is_copied(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], weights: tuple[int, ...]) -> None:
    """Programs read what lies between the ends of lines where it stands."""
    copied: list[int] = []

    def counting(voxels: Array, *arguments: Any) -> Array:
        result = gather(voxels, *arguments)
        copied.append(0 if np.shares_memory(result, voxels) else result.size)
        return result

    device = open_device(convolume.choose_device("opencl").info)
    monkeypatch.setattr(module, "gather", counting)
    image = np.random.default_rng(0).random(shape, np.float32)
    step = Correlate(Stencil.correlate(np.random.default_rng(1).random(weights)), (BoundaryMode.WRAP,) * len(shape))
    filter_array(image, step, device.prepared(), Precision.SINGLE, np.float32)
    assert sum(copied) < image.size / 3
