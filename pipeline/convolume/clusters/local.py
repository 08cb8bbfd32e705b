"""Worker processes on this machine, with a scheduler and a dashboard, all on loopback unless told otherwise."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, LocalCluster

from convolume.addresses import LOOPBACK
from convolume.clusters import machine_memory_bytes
from convolume.clusters._distributed import DistributedCluster
from convolume.clusters._interrupts import interrupts_pass_by_processes, interrupts_wait
from convolume.clusters._security import security_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.clusters import ClusterSettings

__all__ = ["LocalProcesses", "open_cluster", "resolve"]

_DASHBOARD_PORT = 8787
# More processes than this share a processor's cores badly: a device uses all of them for one block already.
_CORES_PER_WORKER = 8

# The memory of blocks and chunks is kept for the next: to fault its pages in anew, as distributed's own choice has it,
# doubles a run's time. One arena for all threads: several keep twice as much.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
_SETTLED = {
    # Blocks are planned to fit: spilling would only hide that they do not.
    **{f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")},
    # What was in flight when a worker died is tried once more, each task alone (`clusters/_window.py`).
    "distributed.scheduler.allowed-failures": 0,
    # A worker that is stopped is noticed within twice this time, and killed 4 s later.
    "distributed.scheduler.worker-ttl": "20 s",
    # Logs grow to this length: the scheduler's of what happened to each task, some 0.3 KB a future, and what each
    # process takes of the machine, for the last five minutes.
    "distributed.admin.low-level-log-length": 50,
    "distributed.admin.system-monitor.log-length": 600,
    # Profiles of Python's stacks say nothing of programs on devices; they take 2 to 3 % of a core, and some 90 KB each.
    "distributed.worker.profile.enabled": False,
}
# Of tasks that dask drives by itself nobody else knows what was in flight.
_FAILURES_OF_COLLECTIONS = 3
# A terminal's Ctrl-C reaches the workers too: the client alone answers it, and stops them.
_IGNORE_INTERRUPT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


class LocalProcesses(DistributedCluster):
    """A `distributed.LocalCluster` of worker processes that belongs to one run."""

    kind = "local"

    def __init__(self, settings: ClusterSettings) -> None:
        settings = resolve(settings)
        environment = {**ALLOCATOR, **dict(settings.environment)}
        settled = {
            "distributed.nanny.pre-spawn-environ": environment,
            "distributed.worker.preload": [_IGNORE_INTERRUPT],
            **_SETTLED,
        }
        with ExitStack() as started:
            with (
                interrupts_wait(),
                interrupts_pass_by_processes(),
                dask.config.set(settled),
                warnings.catch_warnings(),
            ):
                # Another cluster may take the port between the question and the answer: distributed takes the next.
                warnings.filterwarnings("ignore", message=r"\s*Port \d+ is already in use")
                cluster = LocalCluster(
                    n_workers=0 if settings.worker_environments else settings.workers,
                    threads_per_worker=settings.threads_per_worker,
                    memory_limit=settings.memory_bytes // settings.workers,
                    host=settings.host,
                    security=security_of(settings.tls) if settings.tls else None,
                    **_pages(settings),
                    # What fails is raised in the client: a worker's traceback beside it tells nobody anything.
                    silence_logs=logging.CRITICAL + 1,
                )
                client = started.enter_context(Client(started.enter_context(cluster)))
                if settings.worker_environments:
                    _start_each(cluster, settings)
                    client.wait_for_workers(settings.workers)
            super().__init__(client)
            self._started = started.pop_all()
        self._scheduler: Any = cluster.scheduler
        self.crosses_processes = True
        if not settings.dashboard:
            self.dashboard_url = None

    def compute_each(self, collections: list[Any]) -> Iterator[Any]:
        """Compute dask collections; a task of theirs may lose its worker several times."""
        self._scheduler.allowed_failures = _FAILURES_OF_COLLECTIONS
        return super().compute_each(collections)

    def close(self) -> None:
        """Stop scheduler and workers."""
        with interrupts_wait():
            self._started.close()


def open_cluster(settings: ClusterSettings) -> LocalProcesses:
    """Start scheduler and workers; returns when they are there."""
    return LocalProcesses(settings)


def resolve(settings: ClusterSettings) -> ClusterSettings:
    """Return settings with a worker for every eight cores, two threads each, and the machine's memory shared evenly."""
    workers = settings.workers or max(1, (os.cpu_count() or 1) // _CORES_PER_WORKER)
    return replace(
        settings,
        workers=workers,
        threads_per_worker=settings.threads_per_worker or 2,
        memory_bytes=settings.memory_bytes or machine_memory_bytes(),
    )


def _start_each(cluster: LocalCluster, settings: ClusterSettings) -> None:
    """Start the workers with an environment each."""
    usual = cluster.new_spec
    for number in range(settings.workers):
        environment = dict(settings.worker_environments[number % len(settings.worker_environments)])
        cluster.new_spec = {**usual, "options": {**usual["options"], "env": environment}}
        cluster.scale(number + 1)


def _pages(settings: ClusterSettings) -> dict[str, Any]:
    """Return where pages are served: they know no certificates, and leave loopback only where that is asked for."""
    host = settings.host if settings.insecure else LOOPBACK
    pages: dict[str, Any] = {"dashboard_address": _dashboard_address(host) if settings.dashboard else None}
    if not settings.dashboard:
        # The scheduler serves pages all the same, on a port that others may use.
        pages["scheduler_kwargs"] = {"dashboard_address": f"{host}:0"}
    if host != settings.host:
        pages["worker_dashboard_address"] = f"{host}:0"
    return pages


def _dashboard_address(host: str) -> str:
    """Return dask's usual port where it is free, else one that the system chooses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free: Any = probe.connect_ex((LOOPBACK, _DASHBOARD_PORT)) != 0
    return f"{host}:{_DASHBOARD_PORT if free else 0}"
