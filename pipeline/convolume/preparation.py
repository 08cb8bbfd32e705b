"""From a workflow's document to everything that a run needs, checked, with nothing written yet."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from convolume import stores
from convolume.devices._selection import choose_device, open_device
from convolume.errors import InputError
from convolume.execution.footprint import resident_bytes, worker_start
from convolume.execution.pyramid import Pyramid, pyramid_block_count, pyramid_bytes
from convolume.execution.task import BlockJob, StoreJob, Target
from convolume.filters import FilterContext
from convolume.numerics import Precision, default_result_dtype, working_dtype
from convolume.operations import Sequence, correlations
from convolume.planning.blocks import checked_block, choose_blocks, whole_units
from convolume.planning.earlier import NOTHING_CHOSEN, RESUMED, Chosen
from convolume.planning.forecast import Clock
from convolume.planning.memory import BlockMemory, WorkerMemory, total_halo
from convolume.planning.method import settled
from convolume.planning.outlook import Outlook
from convolume.planning.plan import Plan, PlannedOutput, StrategyChoice, check_memory, choose_strategy
from convolume.planning.reading import Reads
from convolume.planning.shared import shared_steps
from convolume.records import MethodSpeeds
from convolume.refusals import blamed_key, check_apart, check_disk, check_figures, check_process_border
from convolume.regions import BlockGrid

if TYPE_CHECKING:
    from collections.abc import Callable

    from convolume.devices._selection import DeviceChoice
    from convolume.lengths import Length
    from convolume.operations import Operation
    from convolume.planning.blocks import BlockChoice, BlockOption
    from convolume.planning.method import MethodChoice
    from convolume.planning.models import OutputSpec, Workflow
    from convolume.planning.plan import Resources
    from convolume.planning.spec import Document
    from convolume.stores import Sink, Source

# A task costs so much beside its block: with a scheduler, and in a thread of this process.
_TASK_SECONDS = (3e-3, 3e-4)
# For smaller images no process is started to see what a worker holds before its first block.
_BYTES_WORTH_MEASURING = 2**26
# Where fewer sums than this are all that there is to do, a device that was never measured is not for their sake.
_SUMS_WORTH_MEASURING = 1e9
# Of two processor cores with AVX-512: they order shapes of blocks where nothing was measured, and tell no times.
_USUAL_SPEEDS = MethodSpeeds(pass_ns=0.5, tap_ns=0.02, special_tap_ns=0.016, walk_ns=0.75, point_ns=0.3)

__all__ = ["Prepared", "prepare", "prepare_job", "source_options"]


@dataclass(frozen=True)
class Prepared:
    """A run that could begin: its plan, and the job that every block is part of."""

    document: Document[Workflow]
    plan: Plan
    job: StoreJob

    @property
    def sinks(self) -> dict[str, Sink]:
        """The outputs by name."""
        return {target.name: sink for target, sink in zip(self.job.blocks.targets, self.job.sinks, strict=True)}


def prepare(
    document: Document[Workflow],
    resources: Resources,
    device: DeviceChoice,
    chosen: Chosen = NOTHING_CHOSEN,
    *,
    crosses_processes: bool,
) -> Prepared:
    """Open the source, build the operations, choose blocks, and check all that can be checked.

    What an earlier attempt at the same run has `chosen` is kept.

    Raises
    ------
    InputError
        Names the place in the YAML, what is wrong there and what to do.
    """
    source = _open_source(document)
    with document.at("input", "path"):
        check_process_border(source.path, reachable=source.crosses_processes or not crosses_processes)
        if not source.info.size_voxels:
            message = f"{source.path} has no voxels: its shape is {source.info.shape}"
            raise InputError(message)
        stores.check_disk_space(tempfile.gettempdir(), source.staged_bytes)
    # Workers share the machine's cores; each decodes and encodes with its own part of them.
    source.io_threads = max(1, (os.cpu_count() or 1) // resources.workers)
    job, methods = _job(document, source, device, chosen)
    targets = job.targets
    sinks = tuple(_sink(document, target, source, chosen, crosses_processes=crosses_processes) for target in targets)
    check_apart(document, sinks)
    check_disk(document, sinks, chosen)
    check_figures(document, source, sinks)
    store_job = StoreJob(job, source, sinks)
    return Prepared(document, _plan(document, store_job, resources, device, methods, chosen), store_job)


def prepare_job(document: Document[Workflow], source: Source, device: DeviceChoice | None = None) -> BlockJob:
    """Return what a workflow computes on every block of a source; without a device, the one that is selected.

    Raises
    ------
    InputError
        A filter does not fit the image.
    """
    return _job(document, source, device or choose_device(), NOTHING_CHOSEN)[0]


def source_options(workflow: Workflow) -> stores.SourceOptions:
    """Return what a workflow says of its input beside the path."""
    spec = workflow.input
    lengths = spec.spacing if isinstance(spec.spacing, tuple) else (spec.spacing,) if spec.spacing else ()
    return stores.SourceOptions(
        level=spec.level,
        channel=spec.channel,
        time=spec.time,
        region=tuple((axis, start, stop) for axis, (start, stop) in spec.region.items()),
        axes=spec.axes,
        spacing=tuple(length.value for length in lengths) or None,
        unit=_common_unit(lengths),
        missing=spec.missing,
    )


def _job(
    document: Document[Workflow], source: Source, device: DeviceChoice, chosen: Chosen
) -> tuple[BlockJob, tuple[tuple[MethodChoice, ...], ...]]:
    """Return what is computed on every block, and the methods that were chosen for each output."""
    precision = _precision(source, document.model)
    settle = partial(settled, image_shape=source.info.shape, device=open_device(device.info), precision=precision)
    made = [
        _target(document, name, source, partial(settle, before=iter(chosen.methods.get(name, ()))))
        for name in document.model.outputs
    ]
    job = BlockJob(
        image_shape=source.info.shape,
        targets=tuple(target for target, _ in made),
        precision=precision,
        working_dtype=working_dtype(source.info.dtype, precision).name,
        device=device.info,
        others=device.others,
    )
    return job, tuple(methods for _, methods in made)


def _common_unit(lengths: tuple[Length, ...]) -> str | None:
    units = {length.unit for length in lengths}
    if len(units) > 1:
        message = f"{', '.join(map(str, lengths))}: write the voxel sizes of all axes in one unit"
        raise InputError(message)
    return next(iter(units), None) or None


def _open_source(document: Document[Workflow]) -> Source:
    workflow = document.model
    with document.at("input", "spacing"):
        options = source_options(workflow)
    open_it = partial(stores.open_source, workflow.input.path)
    try:
        return open_it(options)
    except InputError as error:
        key = blamed_key(("missing", "channel", "time", "region", "level", "spacing", "axes"), options, open_it)
        raise document.mistake(("input", key), str(error)) from None


def _target(
    document: Document[Workflow],
    name: str,
    source: Source,
    settle: Callable[[Operation], tuple[Operation, tuple[MethodChoice, ...]]],
) -> tuple[Target, tuple[MethodChoice, ...]]:
    workflow, spec, info = document.model, document.model.outputs[name], source.info
    context = FilterContext(
        ndim=info.ndim,
        axes=info.space_axes,
        axis_names=tuple(info.axes[axis].name for axis in info.space_axes),
        spacing_um=info.space_spacing_um,
        mode=workflow.mode,
        cval=workflow.cval,
        method=workflow.method,
        read_array=stores.read_array,
    )
    operations: list[Operation] = []
    methods: list[MethodChoice] = []
    for position, step in enumerate(spec.steps):
        with document.at("outputs", name, "steps", position, step.name):
            operation, chosen = settle(step.filter.operation(context))
        operations.append(operation)
        methods += chosen
    dtype = spec.dtype or (default_result_dtype(info.dtype).name if operations else info.dtype)
    return Target(name, Sequence(tuple(operations)), np.dtype(dtype).name, spec.overflow), tuple(methods)


def _sink(
    document: Document[Workflow], target: Target, source: Source, chosen: Chosen, *, crosses_processes: bool
) -> Sink:
    spec: OutputSpec = document.model.outputs[target.name]
    with document.at("outputs", target.name, "path"):
        if (reason := stores.same_or_nested(document.model.input.path, spec.path)) is not None:
            message = f"{spec.path}: {reason}: the input would be destroyed; choose another path"
            raise InputError(message)
    image = source.info.with_(dtype=target.dtype, chunks=None, shards=None, notes=())
    if_exists = chosen.if_exists.get(target.name, spec.if_exists)
    options = stores.SinkOptions(spec.chunks, spec.shards, pyramid=spec.pyramid, if_exists=if_exists)
    create_it = partial(stores.create_sink, spec.path, image)
    try:
        sink = create_it(options)
    except InputError as error:
        place = ("outputs", target.name, blamed_key(("shards", "chunks"), options, create_it))
        raise document.mistake(place, str(error)) from None
    with document.at("outputs", target.name, "path"):
        sink.io_threads = source.io_threads
        check_process_border(sink.path, reachable=sink.crosses_processes or not crosses_processes)
        sink.check()
    return sink


def _precision(source: Source, workflow: Workflow) -> Precision:
    wanted = Precision(workflow.precision)
    return Precision.DOUBLE if working_dtype(source.info.dtype, wanted) == np.float64 else wanted


def _plan(
    document: Document[Workflow],
    job: StoreJob,
    resources: Resources,
    device: DeviceChoice,
    methods: tuple[tuple[MethodChoice, ...], ...],
    chosen: Chosen,
) -> Plan:
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
        targets=tuple((target.operation, np.dtype(target.dtype).itemsize) for target in blocks.targets),
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
            output_itemsizes=tuple(itemsize for _, itemsize in memory.targets),
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


def _started(job: StoreJob, resources: Resources) -> Resources:
    """Return what there is, with what workers begin with; this process holds what it has probed and measured."""
    is_worth = job.source.info.size_bytes >= _BYTES_WORTH_MEASURING
    held_bytes = resident_bytes() if resources.is_this_process else resources.worker_held_bytes
    start = worker_start(job.blocks.device, resources.environment, held_bytes, is_worth=is_worth)
    return replace(
        resources,
        worker_base_bytes=start.held_bytes,
        worker_base_is_measured=start.is_measured,
        worker_start_seconds=start.seconds,
    )


def _speeds(job: BlockJob) -> tuple[MethodSpeeds, str]:
    """Return the device's speeds: measured now only where a run takes long enough to be worth it."""
    device = open_device(job.device)
    sums = sum(step.stencil.tap_count for target in job.targets for step in correlations(target.operation))
    if sums * prod(job.image_shape) >= _SUMS_WORTH_MEASURING:
        return device.speeds, ""
    known = device.known_speeds
    if known is None and not sums:
        return _USUAL_SPEEDS, ""
    return known or _USUAL_SPEEDS, "" if known else "the device was never measured, and there is too little to do"


def _prepares(job: BlockJob) -> bool:
    device = open_device(job.device)
    stencils = [step.stencil for target in job.targets for step in correlations(target.operation)]
    return all(device.prepares([stencil], prod(job.image_shape)) for stencil in stencils)


def _hungriest(workflow: Workflow, outlook: Outlook, chosen: BlockOption) -> str:
    """Return which step needs most memory in a block, and how much."""
    target, step, size_bytes = outlook.promise.block.hungriest(chosen.shape)
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
