"""One block's way: read with its halo, filter on the device, cast, write. The same for every strategy."""

from __future__ import annotations

import logging
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.arrays import new_array
from convolume.boundary import Runs, runs_length
from convolume.devices._selection import open_device
from convolume.errors import ConvolumeError, RunError
from convolume.execution.evaluate import Patch, Work, boxes_of
from convolume.execution.footprint import begin_watch, peak_bytes, worker_name
from convolume.execution.journal import check_claims, leave_marks
from convolume.execution.staged import evaluate_each
from convolume.numerics import Overflow, Precision, cast_result
from convolume.operations import Operation, merge_axes, reach_of
from convolume.records import BlockRecord, DeviceInfo
from convolume.regions import Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.execution.journal import Journal
    from convolume.stores import Sink, Source

__all__ = [
    "BlockJob",
    "StoreJob",
    "Target",
    "block_needs",
    "filter_patch",
    "naming_the_block",
    "read_patch",
    "run_block",
    "write_results",
]

Array = npt.NDArray[Any]

_logger = logging.getLogger("convolume")


@dataclass(frozen=True)
class Target:
    """One result of a block: what is done for it and in which dtype it is kept."""

    name: str
    operation: Operation
    dtype: str
    overflow: Overflow = "saturate"


@dataclass(frozen=True)
class BlockJob:
    """What is computed on every block; small, and sent to the workers.

    `working_dtype` is that of sums' results between two steps of a chain.
    """

    image_shape: tuple[int, ...]
    targets: tuple[Target, ...]
    precision: Precision
    working_dtype: str
    device: DeviceInfo


@dataclass(frozen=True)
class StoreJob:
    """A block job with the stores that it reads from and writes to, one sink a target, and their journals."""

    blocks: BlockJob
    source: Source
    sinks: tuple[Sink, ...]
    journals: tuple[Journal | None, ...] = ()


def run_block(job: StoreJob, index: tuple[int, ...], region: Region) -> BlockRecord:
    """Read, filter, write and mark one block.

    Raises
    ------
    RunError
        Something failed; names the outputs, the block, its place and the cause.
    """
    begin_watch(tuple(sink.path for sink in job.sinks))
    with naming_the_block(job.blocks, index, region):
        began = perf_counter()
        patch = read_patch(job, region)
        read = perf_counter()
        results = filter_patch(job.blocks, patch, region)
        computed = perf_counter()
        check_claims(job.journals)
        written = write_results(job.blocks, job.sinks, index, region, results)
        record = replace(
            written, bytes_read=patch.voxels.nbytes, seconds_read=read - began, seconds_compute=computed - read
        )
        leave_marks(job.journals, record, region, results)
    return record


@contextmanager
def naming_the_block(job: BlockJob, index: tuple[int, ...], region: Region) -> Iterator[None]:
    """Turn whatever fails inside into a `RunError` that names outputs, block, place and cause.

    The cause itself stays here, in the log: not every library's exceptions can leave a worker.
    """
    names = ", ".join(repr(target.name) for target in job.targets)
    where = f"output {names}, block {index} at {region}"
    try:
        yield
    except MemoryError as error:
        message = f"{where}: out of memory ({error}): give smaller blocks (`block:`)"
        raise RunError(message) from None
    except ConvolumeError as error:
        message = f"{where}: {error}"
        raise RunError(message) from None
    except Exception as error:
        _logger.debug("%s failed", where, exc_info=True)
        message = f"{where}: {type(error).__name__}: {error}"
        raise RunError(message) from None


def block_needs(job: BlockJob, region: Region) -> tuple[Runs, ...]:
    """Return what one block reads for all its results together, axis by axis."""
    wanted = _runs_of(region)
    return merge_axes(*(reach_of(target.operation, wanted, job.image_shape) for target in job.targets))


def read_patch(job: StoreJob, region: Region) -> Patch:
    """Read what a block needs: one box of the source, or a few where a boundary wraps around."""
    needs = block_needs(job.blocks, region)
    if all(len(runs) == 1 for runs in needs):
        return Patch(job.source.read(_region_of(tuple(runs[0] for runs in needs))), needs)
    voxels = new_array(tuple(runs_length(runs) for runs in needs), job.source.info.dtype)
    for place, box in boxes_of(needs):
        voxels[place] = job.source.read(_region_of(box))
    return Patch(voxels, needs)


def filter_patch(job: BlockJob, patch: Patch, region: Region) -> list[Array]:
    """Return every target's voxels of one block, cast to the target's dtype; what targets share is done once."""
    device = open_device(job.device)
    work = Work(device, job.precision, np.dtype(job.working_dtype), job.image_shape)
    values = evaluate_each(work, (target.operation for target in job.targets), patch, _runs_of(region))
    # Of a device with memory of its own the plan counts one block at a time. Processors do two at a time in less time.
    with device.turn if job.device.kind != "cpu" else nullcontext():
        return [_cast(target, value) for target, value in zip(job.targets, values, strict=True)]


def write_results(
    job: BlockJob, sinks: tuple[Sink, ...], index: tuple[int, ...], region: Region, results: list[Array]
) -> BlockRecord:
    """Write one block of every output; return its record, with nothing read or computed yet."""
    began = perf_counter()
    written = [sink.write(0, region, voxels) for sink, voxels in zip(sinks, results, strict=True)]
    return BlockRecord(
        index=index,
        output_voxels=region.size_voxels * len(results),
        bytes_read=0,
        bytes_written=sum(written),
        seconds_read=0.0,
        seconds_compute=0.0,
        seconds_write=perf_counter() - began,
        device=job.device.name,
        minimum=tuple(_extreme(np.fmin, voxels) for voxels in results),
        maximum=tuple(_extreme(np.fmax, voxels) for voxels in results),
        worker=worker_name(),
        peak_host_bytes=peak_bytes(),
    )


def _cast(target: Target, values: Array) -> Array:
    try:
        return cast_result(values, target.dtype, target.overflow)
    except OverflowError as error:
        message = f"{error} of output {target.name!r}: name a wider `dtype`, or `overflow: saturate`"
        raise RunError(message) from None


def _extreme(choose: np.ufunc, voxels: Array) -> float:
    """Return the smallest or largest number among the voxels; NaN only where there is no other."""
    return float(choose.reduce(voxels, axis=None))


def _runs_of(region: Region) -> tuple[Runs, ...]:
    return tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True))


def _region_of(box: tuple[tuple[int, int], ...]) -> Region:
    return Region(tuple(a for a, _ in box), tuple(b for _, b in box))
