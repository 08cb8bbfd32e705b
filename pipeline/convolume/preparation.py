"""From a workflow's document to everything that a run needs, checked, with nothing written yet."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from convolume import stores
from convolume.devices._selection import choose_device, open_device
from convolume.errors import InputError
from convolume.execution.task import BlockJob, StoreJob, Target
from convolume.filters import FilterContext
from convolume.numerics import Precision, default_result_dtype, working_dtype
from convolume.operations import Sequence
from convolume.planning.blocks import bytes_to_read, checked_block, choose_block_shape
from convolume.planning.memory import WORKER_BASE_BYTES, BlockMemory, total_halo
from convolume.planning.method import settled
from convolume.planning.plan import Plan, PlannedOutput, SharedSteps, StrategyChoice, check_memory, choose_strategy
from convolume.refusals import blamed_key, check_apart, check_disk, check_figures, check_process_border
from convolume.regions import BlockGrid
from convolume.stages import Stages, chain_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from convolume.devices._selection import DeviceChoice
    from convolume.lengths import Length
    from convolume.operations import Operation
    from convolume.planning.method import MethodChoice
    from convolume.planning.models import OutputSpec, Workflow
    from convolume.planning.plan import Resources
    from convolume.planning.spec import Document
    from convolume.stores import Sink, Source

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
    document: Document[Workflow], resources: Resources, device: DeviceChoice, *, crosses_processes: bool
) -> Prepared:
    """Open the source, build the operations, choose blocks, and check all that can be checked.

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
    job, methods = _job(document, source, device)
    targets = job.targets
    sinks = tuple(_sink(document, target, source, crosses_processes=crosses_processes) for target in targets)
    check_apart(document, sinks)
    check_disk(document, sinks)
    check_figures(document, source, sinks)
    store_job = StoreJob(job, source, sinks)
    return Prepared(document, _plan(document, store_job, resources, device, methods), store_job)


def prepare_job(document: Document[Workflow], source: Source, device: DeviceChoice | None = None) -> BlockJob:
    """Return what a workflow computes on every block of a source; without a device, the one that is selected.

    Raises
    ------
    InputError
        A filter does not fit the image.
    """
    return _job(document, source, device or choose_device())[0]


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
    document: Document[Workflow], source: Source, device: DeviceChoice
) -> tuple[BlockJob, tuple[tuple[MethodChoice, ...], ...]]:
    """Return what is computed on every block, and the methods that were chosen for each output."""
    precision = _precision(source, document.model)
    settle = partial(settled, image_shape=source.info.shape, device=open_device(device.info), precision=precision)
    made = [_target(document, name, source, settle) for name in document.model.outputs]
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


def _sink(document: Document[Workflow], target: Target, source: Source, *, crosses_processes: bool) -> Sink:
    spec: OutputSpec = document.model.outputs[target.name]
    with document.at("outputs", target.name, "path"):
        if (reason := stores.same_or_nested(document.model.input.path, spec.path)) is not None:
            message = f"{spec.path}: {reason}: the input would be destroyed; choose another path"
            raise InputError(message)
    image = source.info.with_(dtype=target.dtype, chunks=None, shards=None, notes=())
    options = stores.SinkOptions(spec.chunks, spec.shards, pyramid=spec.pyramid, if_exists=spec.if_exists)
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
) -> Plan:
    workflow, blocks, info = document.model, job.blocks, job.source.info
    memory = BlockMemory(
        image_shape=info.shape,
        source_itemsize=np.dtype(info.dtype).itemsize,
        working_itemsize=np.dtype(blocks.working_dtype).itemsize,
        targets=tuple((target.operation, np.dtype(target.dtype).itemsize) for target in blocks.targets),
    )
    strategy = choose_strategy(workflow.strategy, is_lazy=job.source.path.startswith("lazy:"))
    block, reason = _block(document, job, memory, resources, strategy)
    at_a_time = min(resources.threads_per_worker, len(BlockGrid(info.shape, block)))
    peak_host_bytes = WORKER_BASE_BYTES + at_a_time * memory.host_bytes(block)
    check_memory(peak_host_bytes, block, memory, resources)
    operations = [target.operation for target in blocks.targets]
    bytes_read, amplification = bytes_to_read(
        operations, BlockGrid(info.shape, block), memory.source_itemsize, with_halos=strategy.name == "windows"
    )
    return Plan(
        workflow=workflow.name or document.name,
        input_path=job.source.path,
        input_shape=info.shape,
        input_dtype=info.dtype,
        axes=tuple(axis.name for axis in info.axes),
        outputs=tuple(map(_planned_output, workflow.outputs.values(), blocks.targets, job.sinks, methods)),
        shared=_shared_steps(workflow.outputs, blocks.targets),
        strategy=strategy,
        block_shape_voxels=block,
        block_count=len(BlockGrid(info.shape, block)),
        block_reason=reason,
        bytes_read=bytes_read,
        read_amplification=amplification,
        bytes_written=sum(sink.size_bytes for sink in job.sinks),
        peak_host_bytes=peak_host_bytes,
        peak_device_bytes=memory.device_bytes(block) if blocks.device.kind == "gpu" else 0,
        resources=resources,
        device=blocks.device,
        device_reason=device.reason,
        precision=blocks.precision.value,
        working_dtype=blocks.working_dtype,
        notes=(*info.notes, *_staging_note(job.source), *_transform_note(methods)),
    )


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


def _shared_steps(specs: Mapping[str, OutputSpec], targets: tuple[Target, ...]) -> tuple[SharedSteps, ...]:
    """Return what is done once for several outputs, told by the steps of one of them."""
    stages, names = Stages.of(target.operation for target in targets), list(specs)
    shared = []
    for number, chain in stages.shared.items():
        outputs = stages.served_by(number)
        told = [(*_steps_within(chain, targets[position].operation), names[position]) for position in outputs]
        count, is_part, name = min(told, key=itemgetter(1))
        steps = tuple(step.name for step in specs[name].steps[:count])
        shared.append(SharedSteps(steps, is_part, tuple(names[position] for position in outputs)))
    return tuple(shared)


def _steps_within(chain: tuple[Operation, ...], operation: Operation) -> tuple[int, bool]:
    """Return with how many steps of an operation a chain ends, and whether with a part of the last of them."""
    steps = operation.operations if isinstance(operation, Sequence) else (operation,)
    starts = [chain_of(Sequence(steps[:count])) for count in range(len(steps) + 1)]
    whole = max(count for count, start in enumerate(starts) if chain[: len(start)] == start)
    is_part = starts[whole] != chain
    return whole + is_part, is_part


def _block(
    document: Document[Workflow],
    job: StoreJob,
    memory: BlockMemory,
    resources: Resources,
    strategy: StrategyChoice,
) -> tuple[tuple[int, ...], str]:
    shape, wanted = job.source.info.shape, document.model.block
    if strategy.name == "in_memory":
        return shape, "the whole image is held in memory"
    units = [sink.write_unit for sink in job.sinks]
    if wanted is None:
        return choose_block_shape(shape, units, job.source.info.space_axes, memory, resources)
    with document.at("block"):
        return checked_block(wanted, shape, units), "the workflow names it"
