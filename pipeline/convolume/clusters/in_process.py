"""Threads of this process: quick to start, one memory, no dashboard."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dask.base import compute

from convolume.clusters import Cluster, ClusterSettings, Task, machine_memory_bytes
from convolume.clusters._pauses import end_pauses_with

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["InProcessCluster", "open_cluster", "resolve"]


class InProcessCluster(Cluster):
    """Runs tasks in a pool of threads.

    Examples
    --------
    >>> with open_cluster(ClusterSettings(workers=1)) as cluster:
    ...     list(cluster.map_unordered(iter([Task("square", (0,), pow, (3, 2))])))
    [9]
    """

    kind = "in_process"

    def __init__(self, settings: ClusterSettings) -> None:
        settings = resolve(settings)
        self.threads_per_worker = settings.threads_per_worker
        self.worker_memory_bytes = settings.memory_bytes
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(
            self.threads_per_worker, "convolume", initializer=end_pauses_with, initargs=(self._closing,)
        )

    def submit(self, task: Task, *, is_again: bool = False, worker: str = "") -> Future[Any]:
        """Start a task in a thread."""
        del is_again, worker
        return self._pool.submit(task.function, *task.arguments)

    def wait_any(self, futures: set[Any], seconds: float) -> set[Any]:
        """Return the futures that are done."""
        return wait(futures, seconds, return_when=FIRST_COMPLETED).done

    def compute_each(self, collections: list[Any]) -> Iterator[Any]:
        """Compute dask collections in the same threads; results come when all are there."""
        yield from compute(*collections, scheduler="threads", pool=self._pool)

    def close(self) -> None:
        """Wait for the tasks that run, and start no more."""
        self._closing.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


def resolve(settings: ClusterSettings) -> ClusterSettings:
    """Return settings for one worker, this process, with as many threads as were asked for in all; two by default."""
    threads = (settings.workers or 1) * (settings.threads_per_worker or 2)
    memory = settings.memory_bytes or machine_memory_bytes()
    return replace(settings, workers=1, threads_per_worker=threads, memory_bytes=memory, dashboard=False)


def open_cluster(settings: ClusterSettings) -> InProcessCluster:
    """Start the threads."""
    return InProcessCluster(settings)
