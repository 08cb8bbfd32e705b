"""Lazy results have the bits of the whole image, and every block gets what it needs."""

import dask.array as da
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.devices._selection import choose_device, open_device
from convolume.execution.in_memory import filter_array
from convolume.execution.overlap import axis_layout, filter_lazily
from convolume.execution.task import BlockJob, Target, block_needs
from convolume.numerics import Precision
from convolume.operations import Correlate, Operation, Sequence
from convolume.regions import Region
from convolume.stencil import Stencil
from convolume.testing.strategies import chains, images, operations, shapes


def job_of(operation: Operation, shape: tuple[int, ...]) -> BlockJob:
    """Return a job with one target."""
    target = Target("name", operation, "float32")
    return BlockJob(shape, (target,), Precision.SINGLE, "float32", choose_device("numpy").info)


def cuts(length: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw the chunks of an axis, regular or not."""
    places = st.sets(st.integers(1, max(1, length - 1)), max_size=6).map(sorted)
    return places.map(lambda inner: tuple(int(n) for n in np.diff([0, *[i for i in inner if i < length], length])))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_block_holds_what_it_needs(data: st.DataObject) -> None:
    """No chunk is thinner than what its neighbours take of it, and none is cut that was whole."""
    length = data.draw(st.integers(1, 30))
    chunks = data.draw(cuts(length))
    job = job_of(Sequence(data.draw(chains(1))), (length,))
    layout = axis_layout(chunks, job, 0)
    assert sum(layout.chunks) == length
    assert set(np.cumsum(layout.chunks)) <= set(np.cumsum(chunks))
    assert sum(layout.input_chunks) == length + layout.low_slab + layout.high_slab
    if len(layout.chunks) > 1:
        assert min(layout.chunks) >= max(layout.before, layout.after, layout.low_slab, layout.high_slab)
    for position in range(len(layout.chunks)):
        start, stop = layout.interval(position)
        (needs,) = block_needs(job, Region((start,), (stop,)))
        held = {voxel for run in layout.held(position) for voxel in range(*run)}
        assert {voxel for run in needs for voxel in range(*run)} <= held


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_bits_are_those_of_the_whole(data: st.DataObject) -> None:
    """Any tree, mixed modes, irregular chunks, asymmetric halos."""
    shape = data.draw(shapes(max_side=12))
    operation, image = data.draw(operations(len(shape))), data.draw(images(shape, finite=False))
    job = job_of(operation, shape)
    lazily = da.from_array(image, chunks=tuple(data.draw(cuts(length)) for length in shape))
    result = filter_lazily(lazily, job)
    whole = filter_array(image, operation, open_device(job.device), Precision.SINGLE, np.float32)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result.compute(scheduler="synchronous"), whole)


def test_a_thin_last_chunk_is_merged_and_a_ring_gets_its_far_slabs() -> None:
    """A kernel of four voxels reaches two before and one after."""
    stencil = Stencil.correlate(np.ones(4))
    ring = axis_layout((5, 5, 1), job_of(Correlate(stencil, (BoundaryMode.WRAP,)), (11,)), 0)
    assert (ring.chunks, ring.before, ring.after, ring.low_slab, ring.high_slab) == ((5, 6), 2, 1, 2, 1)
    assert ring.held(0) == ((9, 11), (0, 6))
    assert ring.held(1) == ((3, 11), (0, 1))
    plain = axis_layout((5, 5, 1), job_of(Correlate(stencil, (BoundaryMode.NEAREST,)), (11,)), 0)
    assert (plain.chunks, plain.low_slab, plain.high_slab) == ((5, 6), 0, 0)
