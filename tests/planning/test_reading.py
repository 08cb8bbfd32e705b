"""What blocks read and decode, against a cache that is played."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import convolume
from convolume.boundary import BoundaryMode
from convolume.operations import Correlate, reach_of
from convolume.planning.reading import ENTRY_BYTES, Reads
from convolume.regions import BlockGrid
from convolume.stencil import Stencil

if TYPE_CHECKING:
    import random
    from pathlib import Path

ITEMSIZE = 2


def cube(extent: int) -> Correlate:
    """Return a filter of two axes."""
    return Correlate(Stencil.correlate(np.ones((extent, extent))), (BoundaryMode.REFLECT,) * 2)


def played(
    operation: Correlate,
    grid: BlockGrid,
    chunks: tuple[tuple[int, int], ...],
    most: int,
    draw: random.Random,
    numbers: range,
) -> tuple[int, int]:
    """Return the voxels that blocks of these numbers read, and the chunks decoded for it where so many are kept.

    Those of a block come in any order; what was used longest ago goes at once when there is no room.
    """
    kept: OrderedDict[tuple[int, ...], None] = OrderedDict()
    voxels = decoded = 0
    for _, region in grid.between(numbers.start, numbers.stop):
        wanted = tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True))
        runs = [axis[0] for axis in reach_of(operation, wanted, grid.shape)]
        voxels += int(np.prod([b - a for a, b in runs]))
        spans = [range((a + o) // c, (b + o - 1) // c + 1) for (a, b), (c, o) in zip(runs, chunks, strict=True)]
        of_block = list(product(*spans))
        draw.shuffle(of_block)
        for chunk in of_block:
            decoded += chunk not in kept
            kept[chunk] = None
            kept.move_to_end(chunk)
            if len(kept) > most:
                kept.popitem(last=False)
    return voxels, decoded


@settings(max_examples=150)
@given(
    st.tuples(st.integers(5, 40), st.integers(5, 40)),
    st.tuples(st.integers(3, 20), st.integers(3, 20)),
    st.tuples(st.tuples(st.integers(2, 9), st.integers(0, 1)), st.tuples(st.integers(2, 9), st.integers(0, 1))),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_what_is_read_is_what_blocks_read(
    shape: tuple[int, int],
    block: tuple[int, int],
    chunks: tuple[tuple[int, int], ...],
    extent: int,
    workers: int,
    draw: random.Random,
) -> None:
    """To the voxel, and to the chunk where none are kept; where some are, no more are decoded than was said."""
    grid = BlockGrid(shape, block)
    workers = min(workers, len(grid))
    one_bytes = chunks[0][0] * chunks[1][0] * ITEMSIZE
    readings = Reads([cube(extent)], shape, ITEMSIZE, chunks).of(grid, 1, most_cache_bytes=2**40, workers=workers)
    ends = [len(grid) * number // workers for number in range(workers + 1)]
    for reading in readings:
        most = reading.cache_bytes // (one_bytes + ENTRY_BYTES)
        parts = [played(cube(extent), grid, chunks, most, draw, range(*part)) for part in pairwise(ends)]
        voxels, decoded = map(sum, zip(*parts, strict=True))
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
    assert len(reads.of(grid, 1, most_cache_bytes=10)) == 1


def decoded_so_far() -> int:
    """Return how often this process has read a chunk that it did not have."""
    (reads,) = tensorstore.experimental_collect_matching_metrics("/tensorstore/cache/kvs_cache_read")
    return sum(each["value"] for each in reads["values"] if each["category"] == "changed")


def decoded_by_a_run(folder: Path, size: int, block: list[int], threads: int) -> tuple[int, int]:
    """Return how many chunks of 32³ voxels blocks decode, says the plan, and the run decodes, its report included."""
    output = {"path": str(folder / f"{size}.ome.zarr"), "pyramid": False, "steps": [{"box": {"size": size}}]}
    workflow = {"input": {"path": str(folder / "in.zarr")}, "block": block, "outputs": {"mean": output}}
    config = {"cluster": "in_process", "device": "numpy", "threads_per_worker": threads}
    planned = convolume.plan(workflow, config=config).bytes_decoded // 32**3
    before = decoded_so_far()
    convolume.run(workflow, config=config)
    return planned, decoded_so_far() - before


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("block", [[32, 32, 32], [64, 64, 64], [32, 32, 192], [64, 96, 32]])
def test_a_run_decodes_what_its_plan_says(tmp_path: Path, block: list[int], threads: int) -> None:
    """A run whose blocks have halos decodes no more than the plan says beyond one whose blocks have none."""
    image = np.random.default_rng(0).integers(0, 200, (192, 192, 192), np.uint8)
    zarr.create_array(str(tmp_path / "in.zarr"), data=image, chunks=(32, 32, 32))
    planned_without, without_halos = decoded_by_a_run(tmp_path, 1, block, threads)
    planned, decoded = decoded_by_a_run(tmp_path, 3, block, threads)
    assert planned_without == 216 <= without_halos
    # The metadata are read once more where chunks are kept.
    assert decoded <= without_halos + planned - planned_without + 1
