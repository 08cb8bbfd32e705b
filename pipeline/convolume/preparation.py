"""From a workflow's document to everything that a run needs, checked, with nothing written yet."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from convolume import stores
from convolume.devices._selection import choose_device, open_device
from convolume.drafting import draft_plan
from convolume.errors import InputError, PlanTooLargeError
from convolume.execution.task import BlockJob, StoreJob, Target
from convolume.filters import FilterContext
from convolume.numerics import Precision, default_result_dtype, working_dtype
from convolume.operations import Sequence
from convolume.planning.blocks import full_block
from convolume.planning.earlier import NOTHING_CHOSEN, Chosen
from convolume.planning.method import settled
from convolume.refusals import blamed_key, check_apart, check_disk, check_figures, check_process_border
from convolume.regions import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from convolume.devices._selection import DeviceChoice
    from convolume.lengths import Length
    from convolume.operations import Operation
    from convolume.planning.method import MethodChoice
    from convolume.planning.models import OutputSpec, Workflow
    from convolume.planning.plan import Plan, Resources
    from convolume.planning.spec import Document
    from convolume.stores import Sink, Source

__all__ = ["Prepared", "prepare", "prepare_job", "source_options"]

_NO_SHARDS = "every chunk is a file, where no shards are named: a worker has no room for blocks of whole shards"


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
    sink_of = partial(_sink, document, source=source, chosen=chosen, crosses_processes=crosses_processes)
    with document.at("block"):
        block = full_block(document.model.block, source.info.shape) if document.model.block else None
    earlier = {name: unit for name, unit in chosen.write_units.items() if len(unit) == source.info.ndim}
    sinks = tuple(sink_of(target, block=block or earlier.get(target.name)) for target in job.targets)
    check_apart(document, sinks)
    check_disk(document, sinks, chosen)
    check_figures(document, source, sinks)
    draft = partial(draft_plan, document, resources=resources, device=device, methods=methods, chosen=chosen)
    store_job = StoreJob(job, source, sinks)
    try:
        return Prepared(document, draft(store_job), store_job)
    except PlanTooLargeError:
        if block or earlier or not any(sink.levels[0].shards for sink in sinks):
            raise
    # Shards that nobody named are not worth a refusal: blocks of single chunks need less.
    unsharded = _unsharded(store_job, sink_of)
    plan = draft(unsharded)
    return Prepared(document, replace(plan, notes=(*plan.notes, _NO_SHARDS)), unsharded)


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
        dataset=spec.dataset,
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
        keys = ("dataset", "missing", "channel", "time", "region", "level", "spacing", "axes")
        key = blamed_key(keys, options, open_it)
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
    document: Document[Workflow],
    target: Target,
    *,
    source: Source,
    chosen: Chosen,
    block: tuple[int, ...] | None,
    crosses_processes: bool,
) -> Sink:
    spec: OutputSpec = document.model.outputs[target.name]
    with document.at("outputs", target.name, "path"):
        _check_spared(document.model.input.path, source, spec.path)
    image = source.info.with_(dtype=target.dtype, chunks=None, shards=None, notes=())
    if_exists = chosen.if_exists.get(target.name, spec.if_exists)
    options = stores.SinkOptions(
        spec.chunks, spec.shards, pyramid=spec.pyramid, if_exists=if_exists, block=block, format=spec.format
    )
    create_it = partial(stores.create_sink, spec.path, image)
    try:
        sink = create_it(options)
    except InputError as error:
        place = ("outputs", target.name, blamed_key(("shards", "chunks", "format"), options, create_it))
        raise document.mistake(place, str(error)) from None
    with document.at("outputs", target.name, "path"):
        sink.io_threads = source.io_threads
        check_process_border(sink.path, reachable=sink.crosses_processes or not crosses_processes)
        sink.check()
    return sink


def _check_spared(path: str, source: Source, target: str) -> None:
    """Refuse an output in the place of the input, or of one of the files that this refers to."""
    files = source.files(Region.whole(source.info.shape))
    for file in (path, *(file for file in files if not file.startswith(path))):
        if (reason := stores.same_or_nested(file, target)) is not None:
            message = f"{target}: {reason}: the input would be destroyed; choose another path"
            raise InputError(message)


def _unsharded(job: StoreJob, sink_of: Callable[..., Sink]) -> StoreJob:
    """Return a job whose outputs have shards only where the workflow names them."""
    pairs = zip(job.blocks.targets, job.sinks, strict=True)
    return replace(job, sinks=tuple(sink_of(target, block=sink.levels[0].chunks) for target, sink in pairs))


def _precision(source: Source, workflow: Workflow) -> Precision:
    wanted = Precision(workflow.precision)
    return Precision.DOUBLE if working_dtype(source.info.dtype, wanted) == np.float64 else wanted
