"""What blocks read and decode, against a cache that is played."""

from __future__ import annotations

from collections import OrderedDict
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.operations import Correlate, reach_of
from convolume.planning.reading import Reads
from convolume.regions import BlockGrid
from convolume.stencil import Stencil

ITEMSIZE = 2


def cube(extent: int) -> Correlate:
    """Return a filter of two axes."""
    return Correlate(Stencil.correlate(np.ones((extent, extent))), (BoundaryMode.REFLECT,) * 2)


def played(operation: Correlate, grid: BlockGrid, chunks: tuple[tuple[int, int], ...], most: float) -> tuple[int, int]:
    """Return the voxels that blocks read in order, and the chunks decoded for it where so many are kept."""
    kept: OrderedDict[tuple[int, ...], None] = OrderedDict()
    voxels = decoded = 0
    for _, region in grid:
        wanted = tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True))
        runs = [axis[0] for axis in reach_of(operation, wanted, grid.shape)]
        voxels += int(np.prod([b - a for a, b in runs]))
        spans = [range((a + o) // c, (b + o - 1) // c + 1) for (a, b), (c, o) in zip(runs, chunks, strict=True)]
        for chunk in product(*spans):
            decoded += chunk not in kept
            kept[chunk] = None
            kept.move_to_end(chunk)
        while len(kept) > most:
            kept.popitem(last=False)
    return voxels, decoded


@settings(max_examples=150)
@given(
    st.tuples(st.integers(5, 40), st.integers(5, 40)),
    st.tuples(st.integers(3, 20), st.integers(3, 20)),
    st.tuples(st.tuples(st.integers(2, 9), st.integers(0, 1)), st.tuples(st.integers(2, 9), st.integers(0, 1))),
    st.sampled_from([1, 3, 5]),
)
def test_what_is_read_is_what_blocks_read(
    shape: tuple[int, int], block: tuple[int, int], chunks: tuple[tuple[int, int], ...], extent: int
) -> None:
    """To the voxel, and to the chunk where none are kept; where some are, no more are decoded than was said."""
    grid = BlockGrid(shape, block)
    one_bytes = chunks[0][0] * chunks[1][0] * ITEMSIZE
    readings = Reads([cube(extent)], shape, ITEMSIZE, chunks).of(grid, 1, most_cache_bytes=2**40)
    for reading in readings:
        voxels, decoded = played(cube(extent), grid, chunks, reading.cache_bytes // one_bytes)
        assert reading.bytes_read == voxels * ITEMSIZE
        if reading.cache_bytes:
            assert decoded * one_bytes <= reading.bytes_decoded
        else:
            assert decoded * one_bytes == reading.bytes_decoded
    assert [reading.cache_bytes for reading in readings] == sorted(reading.cache_bytes for reading in readings)


def test_what_is_not_stored_in_chunks_is_not_decoded() -> None:
    """It is read as it is; and chunks are counted on only in order, and within what they may take."""
    grid = BlockGrid((40, 40), (8, 8))
    (raw,) = Reads([cube(3)], grid.shape, ITEMSIZE, None).of(grid, 1, most_cache_bytes=2**20)
    assert (raw.bytes_read, raw.bytes_decoded, raw.cache_bytes, raw.chunk_bytes) == (48 * 48 * 2, 48 * 48 * 2, 0, 0)
    reads = Reads([cube(3)], grid.shape, ITEMSIZE, ((8, 0), (8, 0)))
    assert len(reads.of(grid, 1, most_cache_bytes=2**20)) == 3
    assert len(reads.of(grid, 1, most_cache_bytes=2**20, in_order=False)) == 1
    assert len(reads.of(grid, 1, most_cache_bytes=10)) == 1
