"""Levels are plain block means, rounded once."""

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convolume
from convolume.execution import pyramid
from convolume.execution.pyramid import block_mean, display_windows
from convolume.image import ImageInfo, default_axes
from convolume.regions import Region
from convolume.stores import SinkOptions, memory
from convolume.testing.strategies import integer_images, shapes


def plain_mean(voxels: npt.NDArray[np.generic], factors: tuple[int, ...]) -> npt.NDArray[np.object_]:
    """Return block means voxel by voxel in Python's unlimited integers, rounded half to even."""
    shape = tuple(-(-n // f) for n, f in zip(voxels.shape, factors, strict=True))
    means = np.empty(shape, object)
    for place in np.ndindex(shape):
        corners = product(*(range(p * f, p * f + f) for p, f in zip(place, factors, strict=True)))
        inside = [tuple(min(i, n - 1) for i, n in zip(corner, voxels.shape, strict=True)) for corner in corners]
        total, count = sum(int(voxels[corner]) for corner in inside), len(inside)
        quotient, rest = divmod(total, count)
        means[place] = quotient + int(2 * rest > count or (2 * rest == count and quotient % 2 == 1))
    return means


@given(st.data())
def test_integers_are_exact(data: st.DataObject) -> None:
    """Half to even, odd extents, limits of every dtype, 64 bits included."""
    voxels = data.draw(shapes(max_side=5).flatmap(integer_images))
    factors = data.draw(st.tuples(*(st.sampled_from([1, 2]) for _ in voxels.shape)))
    actual = block_mean(voxels, factors)
    assert actual.dtype == voxels.dtype
    assert actual.astype(object).tolist() == plain_mean(voxels, factors).tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_no_number_stays_in_its_block(dtype: str) -> None:
    """NaN makes its own block NaN, infinities of both signs too; the largest numbers do not overflow."""
    largest = np.finfo(dtype).max
    voxels = np.array([np.nan, 1, 2, 4, np.inf, -np.inf, largest, largest, 5], dtype)
    np.testing.assert_array_equal(block_mean(voxels, (2,)), np.array([np.nan, 3, np.nan, largest, 5], dtype))


def test_a_mask_stays_a_mask() -> None:
    """A block is set where more than half of it is."""
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]], bool)
    assert block_mean(mask, (2, 2)).tolist() == [[False, True], [False, False]]


def test_windows_are_of_each_channel() -> None:
    """The range of the whole image, and the percentiles of the channel's finite voxels."""
    image = ImageInfo((2, 10, 10), "float32", default_axes(4)[:1] + default_axes(3)[1:])
    sink = memory.create_sink("memory:windows", image, SinkOptions(pyramid=False))
    sink.create()
    voxels = np.zeros((2, 10, 10), np.float32)
    voxels[1] = np.arange(100).reshape(10, 10)
    voxels[1, 0, 0] = np.nan
    sink.write(0, Region.whole(voxels.shape), voxels)
    first, second = display_windows(sink, 0.0, 99.0)
    assert first == (0.0, 99.0, 0.0, 1.0)
    assert second[:2] == (0.0, 99.0)
    assert second[2:] == pytest.approx(np.percentile(np.arange(1, 100), (0.1, 99.9)))
    memory.drop("windows")


def test_of_large_images_the_middle_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever drives a run holds no more than so many voxels of each channel, however large the image is."""
    monkeypatch.setattr(pyramid, "_SHOWN_VOXELS", 8)
    image = ImageInfo((2, 7, 8), "float32", default_axes(4)[:1] + default_axes(3)[1:])
    sink = memory.create_sink("memory:middle", image, SinkOptions(pyramid=False))
    sink.create()
    voxels = np.arange(2 * 7 * 8, dtype=np.float32).reshape(2, 7, 8)
    sink.write(0, Region.whole(voxels.shape), voxels)
    expected = [np.percentile(channel[2:4, 2:6], (0.1, 99.9)) for channel in voxels]
    np.testing.assert_allclose([window[2:] for window in display_windows(sink, 0.0, 111.0)], expected)
    memory.drop("middle")


def test_what_its_blocks_hold_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of a worker is that of the whole run: its last blocks are those of the pyramid."""
    memory.put("told", np.zeros((300, 300), np.uint8))
    monkeypatch.setattr(pyramid, "peak_bytes", lambda: 2**50)
    output = {"path": "memory:levels", "chunks": [64, 64]}
    record = convolume.run({"input": {"path": "memory:told"}, "outputs": {"out": output}})
    assert record.outputs[0].levels > 1
    assert set(record.worker_peak_bytes.values()) == {2**50}
