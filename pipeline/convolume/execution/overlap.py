"""Driving blocks as a dask graph with ``map_overlap``, for lazy arrays and for runs that ask for it.

The geometry is ours: dask only brings each block its neighbours' voxels. Chunks are merged until none is thinner than
what its neighbours need of it; where a boundary wraps around, the far slabs are concatenated first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import tokenize

from convolume.execution.evaluate import Patch
from convolume.execution.journal import check_claims, leave_marks
from convolume.execution.notes import noting
from convolume.execution.task import filter_patch, identity_of, naming_the_block, read_patiently, write_results
from convolume.operations import reach_on_axis
from convolume.regions import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convolume.boundary import Runs
    from convolume.clusters import Cluster
    from convolume.execution.task import BlockJob, StoreJob
    from convolume.records import BlockRecord
    from convolume.regions import BlockGrid
    from convolume.stores import Source

__all__ = ["AxisLayout", "axis_layout", "drive_overlap", "filter_lazily", "lazy_source", "overlap_block_count"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class AxisLayout:
    """How one axis is cut for ``map_overlap``.

    Parameters
    ----------
    chunks : tuple of int
        Extents of the output's chunks.
    before, after : int
        Voxels that a block takes from its neighbours.
    low_slab, high_slab : int
        Voxels of the far end that are laid before the first and after the last chunk, where the axis is a ring.
    """

    chunks: tuple[int, ...]
    before: int = 0
    after: int = 0
    low_slab: int = 0
    high_slab: int = 0

    @property
    def input_chunks(self) -> tuple[int, ...]:
        """Extents of the input's chunks, slabs included."""
        chunks = list(self.chunks)
        chunks[0] += self.low_slab
        chunks[-1] += self.high_slab
        return tuple(chunks)

    def interval(self, position: int) -> tuple[int, int]:
        """Return where the output chunk at `position` begins and ends."""
        start = sum(self.chunks[:position])
        return start, start + self.chunks[position]

    def held(self, position: int) -> Runs:
        """Return the voxels that the block at `position` gets, in the order in which it gets them."""
        length = sum(self.chunks)
        start, stop = self.interval(position)
        low = -self.low_slab if position == 0 else max(start - self.before, -self.low_slab)
        last = position == len(self.chunks) - 1
        high = length + self.high_slab if last else min(stop + self.after, length + self.high_slab)
        runs = ((low + length, length), (max(low, 0), min(high, length)), (0, high - length))
        return tuple(run for run in runs if run[0] < run[1] and run[0] < length)


def axis_layout(chunks: tuple[int, ...], job: BlockJob, axis: int) -> AxisLayout:
    """Return how an axis has to be cut so that every block gets what it needs.

    Chunks that are thinner than what their neighbours need of them are merged.
    """
    while len(chunks) > 1:
        layout = _measured_layout(chunks, job, axis)
        thickness = max(layout.before, layout.after, layout.low_slab, layout.high_slab)
        if min(chunks) >= thickness:
            return layout
        chunks = _merged(chunks, thickness)
    return AxisLayout(chunks)


def filter_lazily(array: da.Array, job: BlockJob) -> da.Array:
    """Return the only target of a job as a lazy array, made with ``map_overlap``.

    Parameters
    ----------
    array : dask.array.Array
        The image; its chunks are the blocks, merged where they are too thin.
    job : BlockJob
        What is computed.
    """
    (target,) = job.targets
    layouts = _layouts(array, job)
    return _map_overlap(
        _filter_block,
        array,
        layouts,
        chunks=tuple(layout.chunks for layout in layouts),
        dtype=np.dtype(target.dtype),
        # The same computation has the same name: dask does it once.
        name=f"{target.name}-{tokenize(array.name, job)}",
        job=job,
    )


def lazy_source(source: Source, block_shape: tuple[int, ...], job: BlockJob | None = None) -> da.Array:
    """Return a source as a lazy array in chunks of `block_shape`; what fails to be read names the job's outputs."""
    info = source.info
    if (lazy := getattr(source, "array", None)) is not None and isinstance(lazy, da.Array):
        rechunked: da.Array = lazy.rechunk(block_shape)
        return rechunked
    array: da.Array = da.from_array(
        _Sliceable(source, block_shape, job),
        chunks=block_shape,
        name=f"read {source.path}-{tokenize(str(identity_of(source)), info, block_shape)}",
        asarray=False,
        meta=np.empty((0,) * info.ndim, info.dtype),
    )
    return array


def drive_overlap(cluster: Cluster, job: StoreJob, grid: BlockGrid, name: str) -> Iterator[BlockRecord]:
    """Yield the record of every block of a run that goes through ``map_overlap``.

    Blocks are those of `grid`, merged where they are too thin: a whole number of every output's shards.
    """
    array = lazy_source(job.source, grid.block_shape, job.blocks)
    layouts = _layouts(array, job.blocks)
    stored = _map_overlap(
        _run_block,
        array,
        layouts,
        chunks=tuple((1,) * len(layout.chunks) for layout in layouts),
        dtype=np.dtype(object),
        name=f"{name}-{uuid4().hex[:8]}",
        job=job.blocks,
        store=job,
    )
    for record in cluster.compute_each(stored.to_delayed().ravel().tolist()):
        yield record.item()


def overlap_block_count(job: BlockJob, grid: BlockGrid) -> int:
    """Return the number of blocks that `drive_overlap` makes of a grid."""
    return prod(len(axis_layout(chunks, job, axis).chunks) for axis, chunks in enumerate(grid.extents))


def _layouts(array: da.Array, job: BlockJob) -> list[AxisLayout]:
    return [axis_layout(chunks, job, axis) for axis, chunks in enumerate(array.chunks)]


def _map_overlap(
    function: Callable[..., Array], array: da.Array, layouts: list[AxisLayout], *, dtype: np.dtype[Any], **given: Any
) -> da.Array:
    """Return a function of every block with its halo; it is told its `layouts`, and whatever else is given."""
    mapped: da.Array = da.map_overlap(
        function,
        _with_far_slabs(array, layouts),
        depth={axis: (layout.before, layout.after) for axis, layout in enumerate(layouts)},
        boundary="none",
        trim=False,
        allow_rechunk=False,
        align_arrays=False,
        dtype=dtype,
        meta=np.empty((0,) * array.ndim, dtype),
        layouts=layouts,
        **given,
    )
    return mapped


def _filter_block(padded: Array, block_info: Any = None, *, job: BlockJob, layouts: list[AxisLayout]) -> Array:
    index, region, patch = _block(padded, block_info, layouts)
    with naming_the_block(job, index, region):
        return filter_patch(job, patch, region)[0]


def _run_block(
    padded: Array, block_info: Any = None, *, job: BlockJob, layouts: list[AxisLayout], store: StoreJob
) -> Array:
    index, region, patch = _block(padded, block_info, layouts)
    with noting(), naming_the_block(job, index, region):
        began = perf_counter()
        results = filter_patch(job, patch, region)
        computed = perf_counter()
        check_claims(store.journals)
        written = write_results(job, store.sinks, index, region, results)
        # Every voxel of the source is read once; neighbours get theirs from each other.
        bytes_read = region.size_voxels * padded.itemsize
        record = replace(written, bytes_read=bytes_read, seconds_compute=computed - began)
        leave_marks(store.journals, record, region, results)
    cell = np.empty((1,) * len(index), object)
    cell[(0,) * len(index)] = record
    return cell


def _block(padded: Array, block_info: Any, layouts: list[AxisLayout]) -> tuple[tuple[int, ...], Region, Patch]:
    """Return which block this is, its place, and the voxels that it got."""
    index = tuple(block_info[0]["chunk-location"])
    intervals = [layout.interval(i) for layout, i in zip(layouts, index, strict=True)]
    region = Region(tuple(a for a, _ in intervals), tuple(b for _, b in intervals))
    return index, region, Patch(padded, tuple(layout.held(i) for layout, i in zip(layouts, index, strict=True)))


class _Sliceable:
    """A source as dask wants it: with a shape, a dtype and brackets."""

    def __init__(self, source: Source, block_shape: tuple[int, ...], job: BlockJob | None) -> None:
        self.source, self.block_shape, self.job = source, block_shape, job
        self.shape, self.ndim, self.dtype = source.info.shape, source.info.ndim, np.dtype(source.info.dtype)

    def __getitem__(self, index: tuple[slice, ...]) -> Array:
        region = Region(tuple(s.start for s in index), tuple(s.stop for s in index))
        if self.job is None:
            return read_patiently(self.source, region)
        block = tuple(start // extent for start, extent in zip(region.start, self.block_shape, strict=True))
        with naming_the_block(self.job, block, region):
            return read_patiently(self.source, region)


def _measured_layout(chunks: tuple[int, ...], job: BlockJob, axis: int) -> AxisLayout:
    """Return the layout for these chunks from what each of them needs, were they thick enough."""
    length = job.image_shape[axis]
    operations = [target.operation for target in job.targets]
    before = after = low_slab = high_slab = start = 0
    for extent in chunks:
        stop = start + extent
        for low, high in reach_on_axis(operations, job.image_shape, axis, (start, stop)):
            if low > stop:
                low_slab = max(low_slab, length - low)
                before = max(before, start + length - low)
            elif high < start:
                high_slab = max(high_slab, high)
                after = max(after, length - stop + high)
            else:
                before, after = max(before, start - low), max(after, high - stop)
        start = stop
    return AxisLayout(chunks, before, after, low_slab, high_slab)


def _merged(chunks: tuple[int, ...], thickness: int) -> tuple[int, ...]:
    """Join neighbouring chunks until each has at least `thickness` voxels, or one is left."""
    merged: list[int] = []
    for extent in chunks:
        if merged and merged[-1] < thickness:
            merged[-1] += extent
        else:
            merged.append(extent)
    if len(merged) > 1 and merged[-1] < thickness:
        last = merged.pop()
        merged[-1] += last
    return tuple(merged)


def _with_far_slabs(array: da.Array, layouts: list[AxisLayout]) -> da.Array:
    for axis, layout in enumerate(layouts):
        length = array.shape[axis]
        low = array[(slice(None),) * axis + (slice(length - layout.low_slab, length),)]
        high = array[(slice(None),) * axis + (slice(0, layout.high_slab),)]
        parts = [part for part in (low, array, high) if part.shape[axis]]
        array = da.concatenate(parts, axis=axis) if len(parts) > 1 else array
    rechunked: da.Array = array.rechunk(tuple(layout.input_chunks for layout in layouts))
    return rechunked
