"""Clusters run tasks; one file a kind of cluster.

A member module offers ``resolve(settings) -> ClusterSettings``, which fills in what the user left open without
starting anything, and ``open_cluster(settings) -> Cluster``, a context manager.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from distributed.system import MEMORY_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

__all__ = ["Cluster", "ClusterSettings", "Task", "machine_memory_bytes"]


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What a cluster is asked for; 0 leaves it to the kind of cluster.

    `memory_bytes` is that of all workers together. `environment` holds variables that a worker process
    needs before it starts.
    """

    workers: int = 0
    threads_per_worker: int = 0
    memory_bytes: int = 0
    dashboard: bool = True
    environment: tuple[tuple[str, str], ...] = ()

    def with_environment(self, variables: Mapping[str, str]) -> ClusterSettings:
        """Return settings whose worker processes start with these variables."""
        return replace(self, environment=(*self.environment, *variables.items()))


@dataclass(frozen=True, slots=True)
class Task:
    """One call with its name on the dashboard: ``("laplacian: laplace", z, y, x)``."""

    name: str
    index: tuple[int, ...]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def machine_memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or less where a control group says so."""
    return int(MEMORY_LIMIT)


class Cluster(ABC):
    """Runs tasks in other threads or processes."""

    kind: str
    worker_count: int = 1
    threads_per_worker: int = 1
    worker_memory_bytes: int
    worker_held_bytes: int = 0
    crosses_processes: bool = False
    dashboard_url: str | None = None

    @property
    def slots(self) -> int:
        """Tasks that run at the same time."""
        return self.worker_count * self.threads_per_worker

    def map_unordered(self, tasks: Iterator[Task]) -> Iterator[Any]:
        """Yield results as tasks finish; a bounded number is in flight, whatever the number of tasks.

        A task's exception is raised here, after the others in flight were cancelled.
        """
        in_flight = {self.submit(task) for task in islice(tasks, 2 * self.slots + 1)}
        try:
            while in_flight:
                done = self.wait_any(in_flight)
                in_flight -= done
                in_flight |= {self.submit(task) for task in islice(tasks, len(done))}
                for future in done:
                    yield future.result()
        finally:
            for future in in_flight:
                future.cancel()

    @abstractmethod
    def submit(self, task: Task) -> Any:
        """Start a task; the future returned has ``result()`` and ``cancel()``."""

    @abstractmethod
    def wait_any(self, futures: set[Any]) -> set[Any]:
        """Wait until at least one of the futures is done; return those that are."""

    @abstractmethod
    def compute_each(self, collections: list[Any]) -> Iterator[Any]:
        """Compute dask collections together and yield their results, in any order."""

    @abstractmethod
    def close(self) -> None:
        """Stop what was started for this run, and only that."""

    def __enter__(self) -> Self:
        """Return the cluster itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the cluster."""
        self.close()
