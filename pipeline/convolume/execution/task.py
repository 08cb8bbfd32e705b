"""One block's way: read with its halo, filter on the device, cast, write. The same for every strategy."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.arrays import new_array
from convolume.boundary import Runs, runs_length
from convolume.devices._selection import open_device
from convolume.errors import RunError
from convolume.execution.evaluate import Patch, Work, boxes_of, evaluate
from convolume.execution.footprint import begin_watch, peak_bytes, worker_name
from convolume.execution.journal import check_claims, leave_marks
from convolume.execution.notes import note, noted
from convolume.execution.patience import errors_at, patiently
from convolume.execution.splitting import in_parts
from convolume.execution.staged import evaluate_each
from convolume.numerics import Overflow, Precision, cast_result
from convolume.operations import Operation, Sequence, merge_axes, reach_of
from convolume.records import BlockRecord, DeviceInfo
from convolume.regions import Region

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from convolume.execution.journal import Journal
    from convolume.stores import Identity, Sink, Source

__all__ = [
    "BlockJob",
    "StoreJob",
    "Target",
    "block_needs",
    "filter_patch",
    "identity_of",
    "naming_the_block",
    "read_patch",
    "read_patiently",
    "run_block",
    "write_results",
]

Array = npt.NDArray[Any]


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

    `working_dtype` is that of sums' results between two steps of a chain. `others` serve, in their order, where the
    device is lost.
    """

    image_shape: tuple[int, ...]
    targets: tuple[Target, ...]
    precision: Precision
    working_dtype: str
    device: DeviceInfo
    others: tuple[DeviceInfo, ...] = ()


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


def naming_the_block(job: BlockJob, index: tuple[int, ...], region: Region) -> AbstractContextManager[None]:
    """Turn whatever fails inside into an error that names outputs, block, place and cause; see `errors_at`."""
    names = ", ".join(repr(target.name) for target in job.targets)
    return errors_at(f"output {names}, block {index} at {region}")


def block_needs(job: BlockJob, region: Region) -> tuple[Runs, ...]:
    """Return what one block reads for all its results together, axis by axis."""
    wanted = _runs_of(region)
    return merge_axes(*(reach_of(target.operation, wanted, job.image_shape) for target in job.targets))


def read_patch(job: StoreJob, region: Region) -> Patch:
    """Read what a block needs: one box of the source, or a few where a boundary wraps around."""
    needs = block_needs(job.blocks, region)
    if all(len(runs) == 1 for runs in needs):
        return Patch(read_patiently(job.source, _region_of(tuple(runs[0] for runs in needs))), needs)
    voxels = new_array(tuple(runs_length(runs) for runs in needs), job.source.info.dtype)
    for place, box in boxes_of(needs):
        voxels[place] = read_patiently(job.source, _region_of(box))
    return Patch(voxels, needs)


def read_patiently(source: Source, region: Region) -> Array:
    """Return the voxels of a region; reading that fails by what may pass is tried again."""
    return patiently(source.path, f"voxels {region} cannot be read", lambda: source.read(region))


def identity_of(source: Source) -> Identity:
    """Return what tells a source from another one in its place; asked again as `read_patiently` reads."""
    return patiently(source.path, "cannot be told from another image", source.identity)


def filter_patch(job: BlockJob, patch: Patch, region: Region) -> list[Array]:
    """Return every target's voxels of one block, cast to the target's dtype; what targets share is done once.

    Where memory lacks, on the device or on the host, it is done in parts.
    """
    results, parts = in_parts(region, lambda part: _filter_part(job, _cropped(job, patch, part, region), part))
    if parts > 1:
        note(f"filtered in {parts} parts, for want of memory on {job.device.name} or on the host")
    return results


def _cropped(job: BlockJob, patch: Patch, part: Region, whole: Region) -> Patch:
    """Return the voxels of a patch that a part of its block needs."""
    if part == whole:
        return patch
    needs = block_needs(job, part)
    return Patch(evaluate(work_of(job), Sequence(), patch, needs), needs)


def work_of(job: BlockJob) -> Work:
    """Return on what, and in which numbers, a block's operations are done in this process."""
    return Work(open_device(job.device), job.precision, np.dtype(job.working_dtype), job.image_shape)


def saturated_dtypes(job: BlockJob) -> list[np.dtype[Any] | None]:
    """Return the dtype of each target whose values are saturated; None of those where none may need to be."""
    return [np.dtype(target.dtype) if target.overflow == "saturate" else None for target in job.targets]


def _filter_part(job: BlockJob, patch: Patch, region: Region) -> list[Array]:
    work = work_of(job)
    operations = (target.operation for target in job.targets)
    values = evaluate_each(work, operations, patch, _runs_of(region), saturated_dtypes(job))
    # Of a device with memory of its own the plan counts one block at a time. Processors do two at a time in less time.
    with work.device.turn if job.device.kind != "cpu" else nullcontext():
        return [_cast(target, value) for target, value in zip(job.targets, values, strict=True)]


def write_results(
    job: BlockJob, sinks: tuple[Sink, ...], index: tuple[int, ...], region: Region, results: list[Array]
) -> BlockRecord:
    """Write one block of every output; return its record, with nothing read or computed yet."""
    began = perf_counter()
    written = [_write(sink, region, voxels) for sink, voxels in zip(sinks, results, strict=True)]
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
        notes=noted(),
    )


def _write(sink: Sink, region: Region, voxels: Array) -> int:
    return patiently(sink.path, f"voxels {region} cannot be written", lambda: sink.write(0, region, voxels))


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
