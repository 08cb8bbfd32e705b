"""run(): the one place where everything meets, from a YAML file to finished images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from convolume.completion import draw_figures, finish_outputs, measurements, output_records, versions
from convolume.devices._selection import alike_devices
from convolume.errors import RunError
from convolume.execution.neighbours import Share, announced, neighbours_note
from convolume.execution.pyramid import Pyramid, drive_pyramids, pyramid_block_count
from convolume.execution.standing import check_input_seen, check_outputs_seen
from convolume.execution.verify import Verdict
from convolume.execution.verify import verify as verify_blocks
from convolume.execution.windows import drive_windows
from convolume.planning.spec import Document, read_workflow, with_whole_paths
from convolume.preparation import prepare
from convolume.records import BlockRecord, RunRecord
from convolume.report.progress import Progress, Silent
from convolume.resume import Decision, Undertaking, decide, done_note, undertaken
from convolume.sites import Site, is_of_config, sited

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    from convolume.clusters import Cluster
    from convolume.clusters.address import StandingScheduler
    from convolume.execution.totals import BlockTotals
    from convolume.planning.models import Workflow
    from convolume.planning.plan import Plan

    WrittenConfig = str | PathLike[str] | Mapping[str, Any] | None
    Written = str | PathLike[str] | Mapping[str, Any] | Document[Workflow]

__all__ = ["plan", "run", "verify"]


def run(
    workflow: Written,
    *,
    config: WrittenConfig = None,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    restart: bool = False,
    same_input: bool = False,
) -> RunRecord:
    """Run a workflow, or go on with it where an earlier attempt was broken off.

    Parameters
    ----------
    workflow : path, YAML text, mapping or Document
        What is run.
    config : path or mapping, optional
        Where it runs. Without one the blocks run on the active `distributed.Client`, or in threads of this process.
    overrides : sequence of str
        Such as ``"outputs.mean.path=elsewhere.ome.zarr"`` or ``"device=numpy"``: of the workflow or the configuration.
    progress : Progress, optional
        Is told what happens.
    restart : bool
        Whether outputs that a run left unfinished are deleted and begun anew, instead of gone on with.
    same_input : bool
        Whether an unfinished run is gone on with though the input's files were changed or copied since, with the same
        sizes: you vouch that no voxel changed. It helps against no other difference.

    Returns
    -------
    RunRecord
        What was written where, on which device, in which time.

    Raises
    ------
    InputError
        The workflow cannot be run; nothing was written.
    RunError
        A block failed; the outputs stay unfinished and do not open as images. To run again is to go on.

    Examples
    --------
    >>> import numpy as np
    >>> from convolume.stores import memory
    >>> memory.put("ones", np.ones((4, 4), np.float32))
    >>> record = run({"input": {"path": "memory:ones"},
    ...               "outputs": {"sum": {"path": "memory:sums", "steps": [{"box": {"size": 3, "statistic": "sum"}}]}}})
    >>> record.outputs[0].maximum
    9.0
    """
    began = perf_counter()
    document = _document(workflow, overrides)
    with sited(config, overrides) as site:
        decision = _decided(document, site, restart=restart, same_input=same_input)
        shared = announced(_share(decision, site))
        with undertaken(decision) as undertaking, shared, site.cluster() as cluster:
            return _execute(undertaking, cluster, progress or Silent(), began)


def plan(
    workflow: Written,
    *,
    config: WrittenConfig = None,
    overrides: Sequence[str] = (),
) -> Plan:
    """Return what `run` would do with the same arguments; nothing is started or written.

    Raises
    ------
    InputError
        The workflow cannot be run.

    Examples
    --------
    >>> import numpy as np
    >>> from convolume.stores import memory
    >>> memory.put("planned", np.ones((4, 5, 6)))
    >>> planned = plan({"input": {"path": "memory:planned"}, "outputs": {"copy": {"path": "memory:copy"}}})
    >>> planned.block_shape_voxels, planned.bytes_read
    ((4, 5, 6), 960)
    >>> memory.drop("planned")
    """
    document = _document(workflow, overrides)
    with sited(config, overrides) as site:
        decision = _decided(document, site, may_write=False)
        return decision.with_notes(done_note(decision)).prepared.plan


def verify(path: str, *, config: WrittenConfig = None, overrides: Sequence[str] = ()) -> Verdict:
    """Read every block of an output again, and compare it with the mark that its run left.

    Parameters
    ----------
    path : str
        An output, finished or not.
    config : path or mapping, optional
        Where it is read; see `run`.
    overrides : sequence of str
        Of the configuration.

    Raises
    ------
    InputError
        There is no output, or it has no marks.
    """
    with sited(config, overrides) as site, site.cluster() as cluster:
        return verify_blocks(str(Path(path).absolute()) if site.joined else path, cluster)


def _document(workflow: Written, overrides: Sequence[str]) -> Document[Workflow]:
    of_workflow = [override for override in overrides if not is_of_config(override)]
    return workflow if isinstance(workflow, Document) else read_workflow(workflow, of_workflow)


def _decided(
    document: Document[Workflow],
    site: Site,
    *,
    restart: bool = False,
    same_input: bool = False,
    may_write: bool = True,
) -> Decision:
    if site.joined:
        document = with_whole_paths(document)
    prepare_with = partial(prepare, document, site.resources, site.device, crosses_processes=site.crosses_processes)
    decision = decide(document.model, prepare_with, restart=restart, same_input=same_input, may_write=may_write)
    if site.joined:
        _check_reach(site.joined, decision)
        return decision.with_notes(site.notes)
    return decision.with_notes(neighbours_note(_share(decision, site), site.device.info))


def _check_reach(cluster: StandingScheduler, decision: Decision) -> None:
    """Refuse what workers of other machines do not see."""
    prepared = decision.prepared
    with prepared.document.at("input", "path"):
        check_input_seen(cluster, prepared.job.source)
    for name, sink in prepared.sinks.items():
        with prepared.document.at("outputs", name, "path"):
            check_outputs_seen(cluster, sink)


def _share(decision: Decision, site: Site) -> Share:
    """Return what a run may take of this machine; nothing where its workers were started by others, anywhere."""
    if site.active is not None and site.crosses_processes:
        return Share(0)
    planned = decision.prepared.plan
    devices = alike_devices(planned.device) if site.settings.worker_environments else (planned.device,)
    return Share(
        host_bytes=planned.resources.workers * planned.peak_host_bytes,
        device_bytes=planned.peak_device_bytes,
        devices=tuple(each.identifier for each in devices),
    )


def _execute(undertaking: Undertaking, cluster: Cluster, progress: Progress, began: float) -> RunRecord:
    prepared = undertaking.prepared
    progress.started(prepared.plan, cluster.dashboard_url)
    undertaking.begin()
    totals = undertaking.totals
    done_before, earlier_voxels = totals.block_count, totals.output_voxels
    began_blocks = perf_counter()
    _drive_blocks(undertaking, cluster, progress)
    began_pyramid = perf_counter()
    _drive_levels(undertaking, cluster, progress)
    ended_pyramid = perf_counter()
    undertaking.merge_marks()
    finish_outputs(prepared, totals, progress)
    figures = draw_figures(prepared)
    measured, unmeasured = measurements(prepared)
    undertaking.close()
    record = RunRecord(
        workflow=prepared.plan.workflow,
        outputs=output_records(prepared, totals),
        figures=figures,
        devices=tuple(sorted(totals.devices)),
        strategy=prepared.plan.strategy.name,
        block_count=totals.block_count,
        output_voxels=totals.output_voxels,
        bytes_read=totals.bytes_read,
        bytes_written=totals.bytes_written,
        seconds_total=perf_counter() - began,
        seconds_blocks=began_pyramid - began_blocks,
        seconds_pyramid=ended_pyramid - began_pyramid,
        notes=(*prepared.plan.notes, *_resumed_note(done_before, totals), *totals.told_notes(), *unmeasured),
        versions=versions(),
        forecast=prepared.plan.forecast,
        worker_peak_bytes=totals.worker_peak_bytes,
        measurements=measured,
        earlier_voxels=earlier_voxels,
    )
    progress.finished(record)
    return record


def _resumed_note(done_before: int, totals: BlockTotals) -> tuple[str, ...]:
    if not done_before:
        return ()
    return (f"resumed: {done_before:,} of {totals.block_count:,} blocks were done by an earlier attempt",)


def _drive_blocks(undertaking: Undertaking, cluster: Cluster, progress: Progress) -> None:
    """Do all blocks that are not done yet, in whichever way the plan says, and count them."""
    prepared, totals = undertaking.prepared, undertaking.totals
    grid, name = prepared.plan.grid, _task_name(prepared.plan)
    job = replace(prepared.job, journals=tuple(undertaking.journals.get(each) for each in prepared.sinks))
    driven: Iterator[BlockRecord]
    if prepared.plan.strategy.name == "overlap":
        from convolume.execution.overlap import drive_overlap, overlap_block_count  # noqa: PLC0415

        total = overlap_block_count(prepared.job.blocks, grid)
        driven = drive_overlap(cluster, job, grid, name)
    else:
        total = len(grid)
        driven = drive_windows(cluster, job, grid, name, undertaking.is_done)
    if left := total - totals.block_count:
        progress.phase("filter", left)
    for record in driven:
        totals.add(record)
        progress.advance()
    if totals.block_count != total:
        message = f"{total - totals.block_count} of {total} blocks gave no record: the outputs stay unfinished"
        raise RunError(message)


def _drive_levels(undertaking: Undertaking, cluster: Cluster, progress: Progress) -> None:
    """Write the lower levels of all outputs, as far as they are missing, and count their blocks."""
    pyramids = [
        Pyramid(name, sink, undertaking.journals.get(name)) for name, sink in undertaking.prepared.sinks.items()
    ]
    if total := pyramid_block_count(pyramids, undertaking.is_level_done):
        progress.phase("pyramid", total)
        for block in drive_pyramids(cluster, pyramids, undertaking.is_level_done):
            undertaking.totals.add_level(block)
            progress.advance()


def _task_name(plan: Plan) -> str:
    """Return what the dashboard shows: ``sum, mean: convolve``."""
    steps = dict.fromkeys(" then ".join(output.steps) or "copy" for output in plan.outputs)
    return f"{', '.join(output.name for output in plan.outputs)}: {', '.join(steps)}"
