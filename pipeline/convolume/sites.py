"""Where a run happens: its cluster and its device, found out before anything is planned."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from convolume.clusters import Cluster, ClusterSettings
from convolume.devices._selection import alike_devices, choose_device, worker_environments
from convolume.execution.standing import inspected
from convolume.layouts import THREADS_VARIABLE
from convolume.planning.config import Config
from convolume.planning.plan import Resources
from convolume.planning.spec import read_config
from convolume.registry import load_member

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from os import PathLike

    from convolume.clusters.address import StandingScheduler
    from convolume.devices._selection import DeviceChoice
    from convolume.planning.spec import Document
    from convolume.records import DeviceInfo

    WrittenConfig = str | PathLike[str] | Mapping[str, Any] | None

__all__ = ["Site", "is_of_config", "sited"]


def is_of_config(override: str) -> bool:
    """Say whether an override is of the configuration, and not of the workflow.

    Examples
    --------
    >>> is_of_config("device=[RTX, any]"), is_of_config("outputs.mean.path=mean.zarr")
    (True, False)
    """
    return re.split(r"[=.\[]", override)[0] in Config.model_fields


@dataclass(frozen=True)
class Site:
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
        """Return what opens the cluster, or leaves one that is there as it is."""
        if self.active is not None:
            return nullcontext(self.active)
        opened: Cluster = load_member("clusters", self.resources.cluster).open_cluster(self.settings)
        return opened


@contextmanager
def sited(config: WrittenConfig, overrides: Sequence[str]) -> Iterator[Site]:
    """Find out where a run happens; a scheduler that is joined for it is left at the end.

    Parameters
    ----------
    config : path or mapping, optional
        Without one it is the active `distributed.Client`, or this process.
    overrides : sequence of str
        Those of the configuration count.

    Raises
    ------
    InputError
        The configuration has mistakes, there is no such device, or what is to be joined is not there or does not fit.
    """
    document = read_config(config, [override for override in overrides if is_of_config(override)])
    if document.model.scheduler is None:
        yield _site(document.model, is_written=config is not None)
        return
    with _joined(document) as cluster:
        yield _joined_site(document, cluster)


def _joined(document: Document[Config]) -> StandingScheduler:
    settled = document.model
    settings = ClusterSettings(scheduler=settled.scheduler or "", tls=_tls_files(settled))
    with document.at("scheduler"):
        cluster: StandingScheduler = load_member("clusters", settled.cluster).open_cluster(settings)
    return cluster


def _joined_site(document: Document[Config], cluster: StandingScheduler) -> Site:
    with document.at("device" if document.model.device else "scheduler"):
        found = inspected(cluster, document.model.device)
    cluster.worker_held_bytes = found.held_bytes
    site = _active_site(cluster, found.device)
    return replace(site, joined=cluster, notes=(*cluster.notes, *found.notes))


def _active_site(active: Cluster, device: DeviceChoice) -> Site:
    resources = Resources(
        active.kind,
        active.worker_count,
        active.threads_per_worker,
        active.worker_memory_bytes,
        worker_held_bytes=active.worker_held_bytes,
        is_this_process=not active.crosses_processes,
    )
    return Site(resources, device, active.crosses_processes, ClusterSettings(), active)


def _tls_files(settled: Config) -> tuple[str, str, str] | None:
    return (settled.tls.ca, settled.tls.cert, settled.tls.key) if settled.tls else None


def _site(settled: Config, *, is_written: bool) -> Site:
    device = choose_device(settled.device)
    active = None if is_written else _active_cluster()
    if active is not None:
        return _active_site(active, device)
    kind = settled.cluster if is_written else "in_process"
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
    return Site(resources, device, kind != "in_process", settings)


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
