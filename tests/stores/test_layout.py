"""Levels, chunks and shards of outputs."""

from __future__ import annotations

from itertools import pairwise
from math import prod, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.errors import InputError
from convolume.image import Axis, ImageInfo, default_axes
from convolume.stores import SinkOptions
from convolume.stores._layout import level_infos, write_unit


def _image(shape: tuple[int, ...], spacing: tuple[float, ...]) -> ImageInfo:
    axes = tuple(Axis(name, "space", "micrometer", step) for name, step in zip("zyx", spacing, strict=True))
    return ImageInfo(shape, "uint16", axes)


IMAGES = st.builds(
    _image,
    st.tuples(*[st.integers(1, 5000)] * 3),
    st.tuples(*[st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0, 1.4, 1.5, 6.0])] * 3),
)


@given(IMAGES)
def test_pyramid(image: ImageInfo) -> None:
    """Finest axes first, sizes rounded up, voxels where they are, down to 128."""
    levels = level_infos("out.zarr", image, SinkOptions())
    assert all(n <= 128 for n in levels[-1].shape)
    assert all(max(level.shape) > 128 for level in levels[:-1])
    for fine, coarse in pairwise(levels):
        long = [i for i in range(3) if fine.shape[i] > 1]
        finest = min(fine.axes[i].spacing for i in long)
        for i, (a, b) in enumerate(zip(fine.axes, coarse.axes, strict=True)):
            if i in long and a.spacing <= sqrt(2) * finest:
                assert coarse.shape[i] == -(-fine.shape[i] // 2)
                assert (b.spacing, b.translation) == (2 * a.spacing, a.translation + a.spacing / 2)
            else:
                assert (coarse.shape[i], b) == (fine.shape[i], a)


@given(IMAGES, st.booleans(), st.booleans())
def test_units(image: ImageInfo, chunked: bool, sharded: bool) -> None:  # noqa: FBT001  # drawn
    """Chunks are no larger than a level, and shards are whole numbers of chunks."""
    options = SinkOptions(
        chunks=(16, 64, 100) if chunked else None,
        shards=(32, 128, 200) if chunked and sharded else None,
    )
    for level in level_infos("out.zarr", image, options):
        chunks, shards = level.chunks or (), level.shards
        assert all(1 <= c <= n for c, n in zip(chunks, level.shape, strict=True))
        assert write_unit(level) == (shards or chunks)
        if shards is not None:
            assert all(s % c == 0 for s, c in zip(shards, chunks, strict=True))
        if chunked and not sharded:
            assert shards is None
        if not chunked:
            assert (shards is None) == (prod(-(-n // c) for n, c in zip(level.shape, chunks, strict=True)) <= 4096)


def test_defaults() -> None:
    """128 voxels a space axis; two chunks an axis and shard once there are thousands."""
    (small,) = level_infos(
        "out.zarr", ImageInfo((2, 3, 9, 300, 300), "u2", default_axes(5)), SinkOptions(pyramid=False)
    )
    assert (small.chunks, small.shards) == ((1, 1, 9, 128, 128), None)
    (large,) = level_infos(
        "out.zarr", ImageInfo((50, 3, 9, 1000, 1000), "u2", default_axes(5)), SinkOptions(pyramid=False)
    )
    assert (large.chunks, large.shards) == ((1, 1, 9, 128, 128), (1, 1, 9, 256, 256))


@given(IMAGES, st.tuples(*[st.sampled_from([1, 20, 64, 100, 128, 192, 256, 384, 512, 5000])] * 3))
def test_usual_units_suit_blocks(image: ImageInfo, block: tuple[int, int, int]) -> None:
    """Blocks are whole shards; who goes on with blocks of the units that were taken gets the same units."""
    finest, *coarser = level_infos("out.zarr", image, SinkOptions(block=block))
    unit = write_unit(finest)
    assert all(b % u == 0 or b >= n for b, u, n in zip(block, unit, image.shape, strict=True))
    assert level_infos("out.zarr", image, SinkOptions(block=unit)) == (finest, *coarser)
    assert all(c is None or c <= 128 for level in coarser for c in level.chunks or ())


def test_units_of_other_lengths_are_compared_in_micrometres() -> None:
    """1 mm is coarser than 2 µm."""
    axes = (Axis("z", "space", "millimeter", 1.0), Axis("y", "space", "micrometer", 2.0))
    levels = level_infos("out.zarr", ImageInfo((300, 300), "u2", axes), SinkOptions())
    assert [level.shape for level in levels[:3]] == [(300, 300), (300, 150), (300, 75)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SinkOptions(chunks=(4, 4)), r"chunks \(4, 4\) have 2 numbers, and the image has 3 axes"),
        (SinkOptions(shards=(4, 4)), r"shards \(4, 4\) have 2 numbers, and the image has 3 axes"),
        (SinkOptions(chunks=(4, 0, 4)), "each is 1 or more"),
        (SinkOptions(chunks=(4, 4, 4), shards=(8, 8, 6)), r"\(8, 8, 6\) are no whole number of chunks \(4, 4, 4\)"),
    ],
)
def test_units_that_do_not_fit(options: SinkOptions, message: str) -> None:
    """They are refused when the sink is made."""
    with pytest.raises(InputError, match=message):
        level_infos("out.zarr", _image((20, 20, 20), (1, 1, 1)), options)
