"""The plan of a run that is prepared: its blocks, and what they are expected to read, hold and take."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from convolume import stores
from convolume.devices._method_speeds import USUAL_SPEEDS
from convolume.devices._selection import open_device
from convolume.execution.footprint import resident_bytes, worker_start
from convolume.execution.pyramid import Pyramid, pyramid_block_count, pyramid_bytes
from convolume.execution.staged import rounded_results
from convolume.execution.task import saturated_dtypes, work_of
from convolume.numerics import Precision
from convolume.operations import correlations
from convolume.planning.blocks import checked_block, choose_blocks, whole_units
from convolume.planning.earlier import RESUMED, Chosen
from convolume.planning.forecast import Clock
from convolume.planning.memory import BlockMemory, TargetMemory, WorkerMemory, total_halo
from convolume.planning.outlook import Outlook
from convolume.planning.plan import Plan, PlannedOutput, StrategyChoice, check_memory, choose_strategy
from convolume.planning.reading import Reads
from convolume.planning.shared import shared_steps
from convolume.regions import BlockGrid
from convolume.stages import Stages

if TYPE_CHECKING:
    from convolume.devices._selection import DeviceChoice
    from convolume.execution.task import BlockJob, StoreJob, Target
    from convolume.planning.blocks import BlockChoice, BlockOption
    from convolume.planning.method import MethodChoice
    from convolume.planning.models import OutputSpec, Workflow
    from convolume.planning.plan import Resources
    from convolume.planning.spec import Document
    from convolume.records import MethodSpeeds
    from convolume.stores import Sink, Source

__all__ = ["draft_plan"]

# A task costs so much beside its block: with a scheduler, and in a thread of this process.
_TASK_SECONDS = (3e-3, 3e-4)
# For smaller images no process is started to see what a worker holds before its first block.
_BYTES_WORTH_MEASURING = 2**26
# Where fewer sums than this are all that there is to do, a device that was never measured is not for their sake.
_SUMS_WORTH_MEASURING = 1e9


def draft_plan(
    document: Document[Workflow],
    job: StoreJob,
    resources: Resources,
    device: DeviceChoice,
    methods: tuple[tuple[MethodChoice, ...], ...],
    chosen: Chosen,
) -> Plan:
    """Return what a run will do; its source is told how much to keep of what it decodes. See `prepare`."""
    workflow, blocks, info = document.model, job.blocks, job.source.info
    strategy = choose_strategy(workflow.strategy, is_lazy=job.source.path.startswith("lazy:"))
    outlook, time_reason = _outlook(job, resources, strategy)
    choice = _blocks(document, job, outlook, strategy, chosen)
    option, reading = choice.chosen, choice.chosen.reading
    resources = outlook.resources
    check_memory(option, outlook.needs, resources, _hungriest(workflow, outlook, option))
    if job.source.decoded_chunks is not None:
        job.source.cache_bytes = reading.cache_bytes
    is_timed = not time_reason
    levels = tuple(tuple(level.size_voxels for level in sink.levels) for sink in job.sinks)
    block_count = len(BlockGrid(info.shape, option.shape))
    return Plan(
        workflow=workflow.name or document.name,
        input_path=job.source.path,
        input_shape=info.shape,
        input_dtype=info.dtype,
        axes=tuple(axis.name for axis in info.axes),
        outputs=tuple(map(_planned_output, workflow.outputs.values(), blocks.targets, job.sinks, methods)),
        shared=shared_steps(
            {name: tuple(step.name for step in spec.steps) for name, spec in workflow.outputs.items()},
            [target.operation for target in blocks.targets],
        ),
        strategy=strategy,
        block_shape_voxels=option.shape,
        block_count=block_count,
        block_reason=choice.reason,
        block_rejected=choice.rejected,
        task_count=block_count + _level_block_count(job.sinks),
        bytes_read=reading.bytes_read,
        read_amplification=reading.bytes_read / info.size_bytes,
        bytes_decoded=reading.bytes_decoded,
        decode_amplification=reading.bytes_decoded / info.size_bytes,
        cache_bytes=reading.cache_bytes,
        bytes_written=sum(sink.size_bytes for sink in job.sinks),
        peak_host_bytes=option.peak_host_bytes,
        peak_device_bytes=outlook.promise.block.device_bytes(option.shape) if blocks.device.kind == "gpu" else 0,
        seconds_blocks=option.seconds if is_timed else None,
        seconds_pyramid=outlook.clock.pyramid_seconds(levels, resources.slots) if is_timed else None,
        time_reason=time_reason or "by the measured speeds of the device and of the storage",
        resources=resources,
        device=blocks.device,
        device_reason=device.reason,
        precision=blocks.precision.value,
        working_dtype=blocks.working_dtype,
        notes=(*info.notes, *_staging_note(job.source), *_transform_note(methods)),
    )


def _outlook(job: StoreJob, resources: Resources, strategy: StrategyChoice) -> tuple[Outlook, str]:
    """Return what weighs shapes of blocks, and why it cannot tell times; an empty text where it can."""
    blocks, info = job.blocks, job.source.info
    operations = [target.operation for target in blocks.targets]
    memory = BlockMemory(
        image_shape=info.shape,
        source_itemsize=np.dtype(info.dtype).itemsize,
        working_itemsize=np.dtype(blocks.working_dtype).itemsize,
        targets=_targets_memory(blocks),
    )
    speeds, reason = _speeds(blocks)
    storage = stores.probe_storage(job.source, job.sinks)
    resources = _started(job, resources)
    with_halos = strategy.name == "windows"
    outlook = Outlook(
        image_shape=info.shape,
        reads=Reads(operations, info.shape, memory.source_itemsize, job.source.decoded_chunks if with_halos else None),
        promise=WorkerMemory(
            resources.worker_base_bytes, memory, pyramid_bytes(job.sinks), resources.threads_per_worker
        ),
        clock=Clock(
            operations=tuple(operations),
            output_itemsizes=tuple(target.itemsize for target in memory.targets),
            speeds=speeds,
            storage=storage,
            prepares=_prepares(blocks),
            is_double=blocks.precision is not Precision.SINGLE,
            task_seconds=_TASK_SECONDS[resources.cluster == "in_process"],
            own_device=blocks.device.kind != "cpu",
            start_seconds=resources.worker_start_seconds,
        ),
        resources=resources,
        with_halos=with_halos,
    )
    return outlook, "; ".join(filter(None, (reason, *storage.notes)))


def _targets_memory(job: BlockJob) -> tuple[TargetMemory, ...]:
    stages = Stages.of(target.operation for target in job.targets)
    rounded = rounded_results(work_of(job), stages, saturated_dtypes(job))
    return tuple(
        TargetMemory(target.operation, np.dtype(target.dtype).itemsize, result in rounded)
        for target, result in zip(job.targets, stages.results, strict=True)
    )


def _started(job: StoreJob, resources: Resources) -> Resources:
    """Return what there is, with what workers begin with; this process holds what it has probed and measured."""
    is_worth = job.source.info.size_bytes >= _BYTES_WORTH_MEASURING
    device, is_here = job.blocks.device, resources.is_this_process
    start = worker_start(
        device,
        resources.environment,
        resident_bytes() if is_here else resources.worker_held_bytes,
        is_worth=is_worth,
        has_compiled=is_here and open_device(device).has_compiled,
    )
    return replace(
        resources,
        worker_base_bytes=start.held_bytes + (0 if is_here else job.source.library_bytes),
        worker_base_is_measured=start.is_measured,
        worker_start_seconds=start.seconds,
    )


def _speeds(job: BlockJob) -> tuple[MethodSpeeds, str]:
    """Return the device's speeds: measured now only where a run takes long enough to be worth it."""
    device = open_device(job.device)
    sums = sum(step.stencil.tap_count for target in job.targets for step in correlations(target.operation))
    if sums * prod(job.image_shape) >= _SUMS_WORTH_MEASURING:
        speeds = device.speeds
        return speeds, "" if speeds.is_measured else "the device's programs are being tried, for the first time"
    known = device.known_speeds
    if known is None and not sums:
        return USUAL_SPEEDS, ""
    return known or USUAL_SPEEDS, "" if known else "the device was never measured, and there is too little to do"


def _prepares(job: BlockJob) -> bool:
    device = open_device(job.device)
    stencils = [step.stencil for target in job.targets for step in correlations(target.operation)]
    return all(device.prepares([stencil], prod(job.image_shape)) for stencil in stencils)


def _hungriest(workflow: Workflow, outlook: Outlook, chosen: BlockOption) -> str:
    """Return which step needs most memory in a block, and how much; or that the pyramid's blocks need more."""
    promise = outlook.promise
    if promise.pyramid_bytes > promise.block.host_bytes(chosen.shape) + chosen.reading.chunk_bytes:
        size = f"{-(-promise.pyramid_bytes // 2**20)} MiB a block"
        return f"the pyramid needs most, {size} whatever the others' shape (`pyramid: false` leaves it out)"
    target, step, size_bytes = promise.block.hungriest(chosen.shape)
    name, spec = list(workflow.outputs.items())[target]
    told = f"step {step + 1} of output {name!r} ({spec.steps[step].name})" if spec.steps else f"output {name!r}"
    return f"{told} needs most, {-(-size_bytes // 2**20)} MiB a block"


def _staging_note(source: Source) -> tuple[str, ...]:
    if not source.staged_bytes:
        return ()
    size = f"{source.staged_bytes / 2**20:.1f} MiB"
    return (f"{source.path} is unpacked once, to a temporary file of {size}",)


def _transform_note(methods: tuple[tuple[MethodChoice, ...], ...]) -> tuple[str, ...]:
    if not any(choice.name == "fft" for of_output in methods for choice in of_output):
        return ()
    note = (
        "by the Fourier transform the last bits of a result depend on the blocks, and a block that holds NaN or "
        "infinite voxels takes several times as long"
    )
    return (note,)


def _planned_output(spec: OutputSpec, target: Target, sink: Sink, methods: tuple[MethodChoice, ...]) -> PlannedOutput:
    finest = sink.levels[0]
    return PlannedOutput(
        name=target.name,
        path=sink.path,
        dtype=target.dtype,
        steps=tuple(step.name for step in spec.steps),
        halo_voxels=total_halo(target.operation, finest.ndim),
        chunks=finest.chunks or finest.shape,
        shards=finest.shards,
        level_shapes=tuple(level.shape for level in sink.levels),
        bytes_written=sink.size_bytes,
        disk_bytes=sink.disk_bytes,
        methods=methods,
    )


def _level_block_count(sinks: tuple[Sink, ...]) -> int:
    pyramids = [Pyramid(sink.path, sink) for sink in sinks]
    return pyramid_block_count(pyramids, lambda *_: False)


def _blocks(
    document: Document[Workflow], job: StoreJob, outlook: Outlook, strategy: StrategyChoice, before: Chosen
) -> BlockChoice:
    shape, wanted = job.source.info.shape, document.model.block
    limit_bytes = outlook.resources.worker_memory_bytes
    if strategy.name == "in_memory":
        return replace(
            choose_blocks(iter([shape]), outlook.options, limit_bytes), reason="the whole image is in memory"
        )
    units = [sink.write_unit for sink in job.sinks]
    earlier = before.block_shape_voxels
    if wanted is None and earlier is not None and len(earlier) == len(shape):
        return replace(choose_blocks(iter([earlier]), outlook.options, limit_bytes), reason=RESUMED)
    if wanted is None:
        return choose_blocks(whole_units(shape, units, job.source.info.space_axes), outlook.options, limit_bytes)
    with document.at("block"):
        block = checked_block(wanted, shape, units)
    return replace(choose_blocks(iter([block]), outlook.options, limit_bytes), reason="the workflow names it")
