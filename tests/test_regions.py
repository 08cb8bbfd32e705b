"""Boxes of voxels: what is said of them holds for the voxels themselves."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convolume.regions import BlockGrid, Halo, Region
from convolume.testing.strategies import block_shapes, regions, shapes


def voxels(shape: tuple[int, ...], region: Region) -> np.ndarray:
    """Return an image that is True inside the region."""
    image = np.zeros(shape, dtype=bool)
    image[region.slices] = True
    return image


@given(st.data())
def test_a_region_is_the_voxels_that_its_slices_take(data: st.DataObject) -> None:
    """Sizes, common boxes and containment agree with the voxels."""
    shape = data.draw(shapes())
    one, other = data.draw(regions(shape)), data.draw(regions(shape))
    assert voxels(shape, one).sum() == one.size_voxels == np.prod(one.shape)
    common = voxels(shape, one) & voxels(shape, other)
    assert np.array_equal(voxels(shape, one.intersection(other)), common)
    assert one.contains(other) == np.array_equal(common, voxels(shape, other))
    assert Region.whole(shape).contains(one)
    assert one.ndim == len(shape)


@given(st.data())
def test_moving_a_region_there_and_back_changes_nothing(data: st.DataObject) -> None:
    """Its extents stay, too."""
    shape = data.draw(shapes())
    region, offset = data.draw(regions(shape)), data.draw(st.tuples(*[st.integers(-9, 9)] * len(shape)))
    moved = region.shifted(offset)
    assert moved.shape == region.shape
    assert moved.relative_to(offset) == region


@given(st.data())
def test_every_voxel_is_in_one_block(data: st.DataObject) -> None:
    """And blocks are as large as they may be, never empty."""
    shape = data.draw(shapes())
    grid = BlockGrid(shape, data.draw(block_shapes(shape)))
    count = np.zeros(shape, dtype=int)
    blocks = list(grid)
    for index, block in blocks:
        assert grid.region(index) == block
        assert all(0 < n <= b for n, b in zip(block.shape, grid.block_shape, strict=True))
        count[block.slices] += 1
    assert (count == 1).all()
    assert len(grid) == len(blocks)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=4))
def test_a_halo_is_taken_off_as_it_was_put_on(axes: list[tuple[int, int, int]]) -> None:
    """Inner undoes outer."""
    before, after, shape = zip(*axes, strict=True)
    halo = Halo(before, after)
    assert halo.inner(halo.outer(shape)) == shape
    assert halo.is_empty == (halo.outer(shape) == shape)


def test_a_region_reads_as_people_write_it() -> None:
    """As a slice."""
    assert str(Region((0, 4), (2, 10))) == "[0:2, 4:10]"
