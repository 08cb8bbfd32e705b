"""run(): the one place where everything meets, from a YAML file to finished images."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from convolume.clusters import Cluster, ClusterSettings
from convolume.completion import draw_figures, finish_outputs, measurements, output_records, versions
from convolume.devices._selection import alike_devices, choose_device, worker_environments
from convolume.errors import RunError
from convolume.execution.inspection import check_input_seen, check_outputs_seen, inspected
from convolume.execution.neighbours import Share, announced, neighbours_note
from convolume.execution.pyramid import Pyramid, drive_pyramids, pyramid_block_count
from convolume.execution.verify import Verdict
from convolume.execution.verify import verify as verify_blocks
from convolume.execution.windows import drive_windows
from convolume.layouts import THREADS_VARIABLE
from convolume.planning.models import Config
from convolume.planning.plan import Plan, Resources
from convolume.planning.spec import Document, read_config, read_workflow, with_whole_paths
from convolume.preparation import prepare
from convolume.records import BlockRecord, RunRecord
from convolume.registry import load_member
from convolume.report.progress import Progress, Silent
from convolume.resume import Decision, Undertaking, decide, done_note, undertaken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from os import PathLike

    from convolume.clusters.address import StandingScheduler
    from convolume.devices._selection import DeviceChoice
    from convolume.execution.totals import BlockTotals
    from convolume.planning.models import Workflow
    from convolume.records import DeviceInfo

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
    with _sited(config, overrides) as site:
        decision = _decided(workflow, site, overrides, restart=restart, same_input=same_input)
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
    """
    with _sited(config, overrides) as site:
        decision = _decided(workflow, site, overrides, may_write=False)
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
    with _sited(config, overrides) as site, site.cluster() as cluster:
        return verify_blocks(os.path.abspath(path) if site.joined else path, cluster)


def _decided(
    workflow: Written,
    site: _Site,
    overrides: Sequence[str],
    *,
    restart: bool = False,
    same_input: bool = False,
    may_write: bool = True,
) -> Decision:
    of_workflow = [override for override in overrides if not _is_of_config(override)]
    document = workflow if isinstance(workflow, Document) else read_workflow(workflow, of_workflow)
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


def _is_of_config(override: str) -> bool:
    return re.split(r"[=.\[]", override)[0] in Config.model_fields


def _share(decision: Decision, site: _Site) -> Share:
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


@dataclass(frozen=True)
class _Site:
    """Where a run happens: the device, what the cluster offers, and how to open it.

    `active` is a cluster that is there already; so is one that was `joined` for this run, and is left at its end.
    """

    resources: Resources
    device: DeviceChoice
    crosses_processes: bool
    settings: ClusterSettings
    active: Cluster | None = None
    joined: StandingScheduler | None = None
    notes: tuple[str, ...] = ()

    def cluster(self) -> AbstractContextManager[Cluster]:
        if self.active is not None:
            return nullcontext(self.active)
        opened: Cluster = load_member("clusters", self.resources.cluster).open_cluster(self.settings)
        return opened


@contextmanager
def _sited(config: WrittenConfig, overrides: Sequence[str]) -> Iterator[_Site]:
    """Find out where a run happens; a scheduler that is joined for it is left at the end."""
    of_config = [override for override in overrides if _is_of_config(override)]
    document = read_config(config, of_config)
    if document.model.scheduler is None:
        yield _site(config, of_config)
        return
    with _joined(document) as cluster:
        yield _joined_site(document, cluster)


def _joined(document: Document[Config]) -> StandingScheduler:
    settled = document.model
    settings = ClusterSettings(scheduler=settled.scheduler or "", tls=_tls_files(settled))
    with document.at("scheduler"):
        cluster: StandingScheduler = load_member("clusters", settled.cluster).open_cluster(settings)
    return cluster


def _joined_site(document: Document[Config], cluster: StandingScheduler) -> _Site:
    with document.at("device" if document.model.device else "scheduler"):
        found = inspected(cluster, document.model.device)
    cluster.worker_held_bytes = found.held_bytes
    site = _active_site(cluster, found.device)
    return replace(site, joined=cluster, notes=(*cluster.notes, *found.notes))


def _active_site(active: Cluster, device: DeviceChoice) -> _Site:
    resources = Resources(
        active.kind,
        active.worker_count,
        active.threads_per_worker,
        active.worker_memory_bytes,
        worker_held_bytes=active.worker_held_bytes,
        is_this_process=not active.crosses_processes,
    )
    return _Site(resources, device, active.crosses_processes, ClusterSettings(), active)


def _tls_files(settled: Config) -> tuple[str, str, str] | None:
    return (settled.tls.ca, settled.tls.cert, settled.tls.key) if settled.tls else None


def _site(config: WrittenConfig, overrides: list[str]) -> _Site:
    settled = read_config(config, overrides).model
    device = choose_device(settled.device)
    active = _active_cluster() if config is None else None
    if active is not None:
        return _active_site(active, device)
    kind = settled.cluster if config is not None else "in_process"
    alike = alike_devices(device.info)
    settings = load_member("clusters", kind).resolve(
        ClusterSettings(
            # A card serves one process; a processor is shared by several.
            workers=settled.workers or (len(alike) if device.info.kind == "gpu" else 0),
            threads_per_worker=settled.threads_per_worker or 0,
            memory_bytes=settled.memory or 0,
            dashboard=settled.dashboard,
            host=settled.host,
            tls=_tls_files(settled),
            insecure=settled.insecure,
            worker_environments=_handed_out(alike),
        )
    )
    cores = max(1, (os.cpu_count() or 1) // settings.workers)
    backend = load_member("devices", device.info.backend)
    of_device = backend.worker_environment(device.info, cores)
    settings = settings.with_environment({**of_device, THREADS_VARIABLE: str(cores)})
    worker_memory_bytes = settings.memory_bytes // settings.workers
    resources = Resources(
        kind,
        settings.workers,
        settings.threads_per_worker,
        worker_memory_bytes,
        is_this_process=kind == "in_process",
        environment=settings.environment,
    )
    return _Site(resources, device, kind != "in_process", settings)


def _handed_out(alike: tuple[DeviceInfo, ...]) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Return what hands a device to each worker, where there are several."""
    if len(alike) == 1:
        return ()
    return tuple(tuple(variables.items()) for variables in worker_environments(alike))


def _active_cluster() -> Cluster | None:
    """Return the user's own dask cluster where there is one; distributed is not imported to find out."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client  # noqa: PLC0415

    from convolume.clusters._distributed import DistributedCluster  # noqa: PLC0415

    try:
        return DistributedCluster(default_client())
    except ValueError:
        return None


def _execute(undertaking: Undertaking, cluster: Cluster, progress: Progress, began: float) -> RunRecord:
    prepared = undertaking.prepared
    progress.started(prepared.plan, cluster.dashboard_url)
    undertaking.begin()
    totals = undertaking.totals
    done_before = totals.block_count
    began_blocks = perf_counter()
    _drive_blocks(undertaking, cluster, progress)
    began_pyramid = perf_counter()
    _drive_levels(undertaking, cluster, progress)
    ended_pyramid = perf_counter()
    undertaking.merge_marks()
    finish_outputs(prepared, totals)
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
    progress.phase("filter", total - totals.block_count)
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
