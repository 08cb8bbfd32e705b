"""From a workflow's document to everything that a run needs, checked, with nothing written yet."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume import stores
from convolume.devices._selection import choose_device
from convolume.errors import InputError
from convolume.execution.task import BlockJob, StoreJob, Target
from convolume.filters import FilterContext
from convolume.numerics import Precision, default_result_dtype, working_dtype
from convolume.operations import Sequence
from convolume.planning.document import dotted
from convolume.planning.memory import WORKER_BASE_BYTES, BlockMemory, total_halo
from convolume.planning.plan import (
    Plan,
    PlannedOutput,
    StrategyChoice,
    bytes_to_read,
    check_memory,
    choose_block_shape,
)
from convolume.regions import BlockGrid
from convolume.report.figures import check_figure
from convolume.stores._paths import check_creatable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convolume.devices._selection import DeviceChoice
    from convolume.lengths import Length
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
    with _at(document, "input", "path"):
        _check_process_border(source.path, reachable=source.crosses_processes or not crosses_processes)
        if not source.info.size_voxels:
            message = f"{source.path} has no voxels: its shape is {source.info.shape}"
            raise InputError(message)
        stores.check_disk_space(tempfile.gettempdir(), source.staged_bytes)
    # Workers share the machine's cores; each decodes and encodes with its own part of them.
    source.io_threads = max(1, (os.cpu_count() or 1) // resources.workers)
    job = prepare_job(document, source, device)
    targets = job.targets
    sinks = tuple(_sink(document, target, source, crosses_processes=crosses_processes) for target in targets)
    _check_apart(document, sinks)
    _check_disk(document, sinks)
    _check_figures(document, source, sinks)
    store_job = StoreJob(job, source, sinks)
    return Prepared(document, _plan(document, store_job, resources, device), store_job)


def prepare_job(document: Document[Workflow], source: Source, device: DeviceChoice | None = None) -> BlockJob:
    """Return what a workflow computes on every block of a source; without a device, the one that is selected.

    Raises
    ------
    InputError
        A filter does not fit the image.
    """
    precision = _precision(source, document.model)
    return BlockJob(
        image_shape=source.info.shape,
        targets=tuple(_target(document, name, source) for name in document.model.outputs),
        precision=precision,
        working_dtype=working_dtype(source.info.dtype, precision).name,
        device=(device or choose_device()).info,
    )


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
    )


def _common_unit(lengths: tuple[Length, ...]) -> str | None:
    units = {length.unit for length in lengths}
    if len(units) > 1:
        message = f"{', '.join(map(str, lengths))}: write the voxel sizes of all axes in one unit"
        raise InputError(message)
    return next(iter(units), None) or None


@contextmanager
def _at(document: Document[Workflow], *path: str | int) -> Iterator[None]:
    """Give whatever the user did wrong inside its place in the YAML."""
    try:
        yield
    except InputError as error:
        raise document.mistake(path, str(error)) from None


def _open_source(document: Document[Workflow]) -> Source:
    workflow = document.model
    with _at(document, "input", "spacing"):
        options = source_options(workflow)
    open_it = partial(stores.open_source, workflow.input.path)
    try:
        return open_it(options)
    except InputError as error:
        key = _blamed(("channel", "time", "region", "level", "spacing", "axes"), options, open_it)
        raise document.mistake(("input", key), str(error)) from None


def _blamed(
    keys: tuple[str, ...],
    options: stores.SourceOptions | stores.SinkOptions,
    take: Callable[[Any], object],
) -> str:
    """Return the first of the keys without which the options are taken; ``path`` where they never are."""
    usual = type(options)()
    for key in keys:
        options = replace(options, **{key: getattr(usual, key)})
        try:
            take(options)
        except InputError:
            continue
        return key
    return "path"


def _target(document: Document[Workflow], name: str, source: Source) -> Target:
    workflow, spec, info = document.model, document.model.outputs[name], source.info
    context = FilterContext(
        ndim=info.ndim,
        axes=info.space_axes,
        axis_names=tuple(info.axes[axis].name for axis in info.space_axes),
        spacing_um=info.space_spacing_um,
        mode=workflow.mode,
        cval=workflow.cval,
        read_array=stores.read_array,
    )
    operations = []
    for position, step in enumerate(spec.steps):
        with _at(document, "outputs", name, "steps", position, step.name):
            operations.append(step.filter.operation(context))
    dtype = spec.dtype or (default_result_dtype(info.dtype).name if operations else info.dtype)
    return Target(name, Sequence(tuple(operations)), np.dtype(dtype).name, spec.overflow)


def _sink(document: Document[Workflow], target: Target, source: Source, *, crosses_processes: bool) -> Sink:
    spec: OutputSpec = document.model.outputs[target.name]
    with _at(document, "outputs", target.name, "path"):
        if (reason := stores.same_or_nested(document.model.input.path, spec.path)) is not None:
            message = f"{spec.path}: {reason}: the input would be destroyed; choose another path"
            raise InputError(message)
    image = source.info.with_(dtype=target.dtype, chunks=None, shards=None, notes=())
    options = stores.SinkOptions(spec.chunks, spec.shards, pyramid=spec.pyramid, if_exists=spec.if_exists)
    create_it = partial(stores.create_sink, spec.path, image)
    try:
        sink = create_it(options)
    except InputError as error:
        place = ("outputs", target.name, _blamed(("shards", "chunks"), options, create_it))
        raise document.mistake(place, str(error)) from None
    with _at(document, "outputs", target.name, "path"):
        sink.io_threads = source.io_threads
        _check_process_border(sink.path, reachable=sink.crosses_processes or not crosses_processes)
        sink.check()
    return sink


def _check_process_border(path: str, *, reachable: bool) -> None:
    if not reachable:
        message = f"{path} lives in this process, and workers of another process cannot reach it: `cluster: in_process`"
        raise InputError(message)


def _check_apart(document: Document[Workflow], sinks: tuple[Sink, ...]) -> None:
    """Refuse outputs and figures that would destroy each other, however their paths are spelled."""
    workflow = document.model
    places: list[tuple[tuple[str | int, ...], str]] = [(("input",), workflow.input.path)]
    places += [(("outputs", name), sink.path) for name, sink in zip(workflow.outputs, sinks, strict=True)]
    places += [(("figures", position), figure.path) for position, figure in enumerate(workflow.figures)]
    for (owner, other), (place, path) in combinations(places, 2):
        if (reason := stores.same_or_nested(other, path)) is not None:
            with _at(document, *place, "path"):
                reason = reason.replace("the input", dotted(owner))
                message = f"{path}: {reason}: each needs a place of its own; choose another path"
                raise InputError(message)


def _check_disk(document: Document[Workflow], sinks: tuple[Sink, ...]) -> None:
    """Refuse outputs that do not fit beside each other, as if nothing could be compressed."""
    needed = 0
    for name, sink in zip(document.model.outputs, sinks, strict=True):
        if sink.crosses_processes:
            needed += sink.size_bytes
            with _at(document, "outputs", name, "path"):
                stores.check_disk_space(sink.path, needed)


def _check_figures(document: Document[Workflow], source: Source, sinks: tuple[Sink, ...]) -> None:
    images = {name: sink.levels[0] for name, sink in zip(document.model.outputs, sinks, strict=True)}
    for position, figure in enumerate(document.model.figures):
        with _at(document, "figures", position):
            check_figure(figure, {"input": source.info, **images})
        with _at(document, "figures", position, "path"):
            check_creatable(figure.path)
            if Path(figure.path).is_dir():
                message = f"{figure.path}: is a folder; write the name of a file, such as {figure.path}/figure.png"
                raise InputError(message)


def _precision(source: Source, workflow: Workflow) -> Precision:
    wanted = Precision(workflow.precision)
    return Precision.DOUBLE if working_dtype(source.info.dtype, wanted) == np.float64 else wanted


def _plan(document: Document[Workflow], job: StoreJob, resources: Resources, device: DeviceChoice) -> Plan:
    workflow, blocks, info = document.model, job.blocks, job.source.info
    memory = BlockMemory(
        image_shape=info.shape,
        source_itemsize=np.dtype(info.dtype).itemsize,
        working_itemsize=np.dtype(blocks.working_dtype).itemsize,
        targets=tuple((target.operation, np.dtype(target.dtype).itemsize) for target in blocks.targets),
    )
    strategy = _strategy(workflow, job.source)
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
        outputs=tuple(map(_planned_output, workflow.outputs.values(), blocks.targets, job.sinks)),
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
        notes=(*info.notes, *_staging_note(job.source)),
    )


def _staging_note(source: Source) -> tuple[str, ...]:
    if not source.staged_bytes:
        return ()
    size = f"{source.staged_bytes / 2**20:.1f} MiB"
    return (f"{source.path} is unpacked once, to a temporary file of {size}",)


def _planned_output(spec: OutputSpec, target: Target, sink: Sink) -> PlannedOutput:
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
    )


def _strategy(workflow: Workflow, source: Source) -> StrategyChoice:
    if workflow.strategy != "auto":
        return StrategyChoice(workflow.strategy, "the workflow names it")
    if source.path.startswith("lazy:"):
        return StrategyChoice(
            "overlap",
            "the input is a dask array: its blocks take their halo from each other",
            (("windows", "each task would compute its halo's part of the graph again"),),
        )
    return StrategyChoice(
        "windows",
        "the input is a store: each task reads its own halo and writes its own shards",
        (("overlap", "24 to 34 dask tasks a block, and memory that grows with the volume"),),
    )


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
    with _at(document, "block"):
        return _checked_block(wanted, shape, units), "the workflow names it"


def _checked_block(wanted: tuple[int, ...], shape: tuple[int, ...], units: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the wanted block for all axes: missing leading ones get 1, none exceeds the image.

    Raises
    ------
    InputError
        It has too many axes, or cuts through a shard.
    """
    if len(wanted) > len(shape):
        message = f"{list(wanted)} has {len(wanted)} axes, and the image has {len(shape)}"
        raise InputError(message)
    block = tuple(min(b, n) for b, n in zip((1,) * (len(shape) - len(wanted)) + wanted, shape, strict=True))
    for unit in units:
        if any(b % u and b < n for b, u, n in zip(block, unit, shape, strict=True)):
            message = (
                f"{list(block)} cuts through the outputs' shards of {list(unit)}: each shard has one writer, so a "
                "block is a whole number of them (name smaller `chunks:` or `shards:` for the output, or another block)"
            )
            raise InputError(message)
    return block
