"""Clusters run tasks; one file a kind of cluster.

A member module offers ``open_cluster(settings) -> Cluster``, a context manager.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

__all__ = ["Cluster", "ClusterSettings", "Task"]


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What a cluster is asked for; None leaves it to the kind of cluster.

    `environment` holds variables that a worker process needs before it starts.
    """

    workers: int | None = None
    threads_per_worker: int | None = None
    memory_bytes: int | None = None
    dashboard: bool = True
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One call with its name on the dashboard: ``("laplacian: laplace", z, y, x)``."""

    name: str
    index: tuple[int, ...]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class Cluster(ABC):
    """Runs tasks in other threads or processes."""

    worker_count: int = 1
    threads_per_worker: int = 1
    worker_memory_bytes: int | None = None
    crosses_processes: bool = False
    dashboard_url: str | None = None

    @property
    def slots(self) -> int:
        """Tasks that run at the same time."""
        return self.worker_count * self.threads_per_worker

    @abstractmethod
    def map_unordered(self, tasks: Iterator[Task], window: int) -> Iterator[tuple[Task, Any]]:
        """Yield ``(task, result)`` as tasks finish, with at most `window` of them in flight.

        A task's exception is raised here, with the task's name and index in it (`RunError`), after the
        others in flight were cancelled.
        """

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
