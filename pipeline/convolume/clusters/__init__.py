"""Clusters run tasks; one file a kind of cluster.

A member module offers ``resolve(settings) -> ClusterSettings``, which fills in what the user left open without
starting anything, and ``open_cluster(settings) -> Cluster``, a context manager.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from distributed.system import MEMORY_LIMIT

from convolume.addresses import LOOPBACK
from convolume.clusters._window import Outcome, outcomes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from types import TracebackType

__all__ = ["Cluster", "ClusterSettings", "Outcome", "Task", "machine_memory_bytes"]


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What a cluster is asked for; 0 leaves it to the kind of cluster.

    `memory_bytes` is that of all workers together. `environment` holds variables that a worker process
    needs before it starts; workers take those of `worker_environments` in turn beside them. `host` is the address that
    everything listens on, `tls` the files of authority, certificate and key; the dashboard has none, and stays on
    loopback unless `insecure` opens it too. `scheduler` is the address of one that runs already, and is joined.
    """

    workers: int = 0
    threads_per_worker: int = 0
    memory_bytes: int = 0
    dashboard: bool = True
    environment: tuple[tuple[str, str], ...] = ()
    worker_environments: tuple[tuple[tuple[str, str], ...], ...] = ()
    host: str = LOOPBACK
    tls: tuple[str, str, str] | None = None
    insecure: bool = False
    scheduler: str = ""

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
        for outcome in self.map_outcomes(tasks):
            if outcome.error is not None:
                raise outcome.error
            yield outcome.result

    def map_outcomes(
        self, tasks: Iterator[Task] | Sequence[Iterator[Task]], longest_run: int = 1
    ) -> Generator[Outcome]:
        """Yield what came of each task as they finish, its result or its error; one that fails stops no other.

        Parameters
        ----------
        tasks : iterator of Task, or a sequence of such
            Drawn as others finish: ``2 * slots + 1`` futures are in flight. Of a sequence each worker gets one
            iterator's tasks, as far as it can be had, and helps with the others' when they are done.
        longest_run : int
            Most tasks that one future carries, one after the other. It carries one where they take long, and up to so
            many where they are quicker than a future's own cost; measured as the run goes.
        """
        lanes = [tasks] if isinstance(tasks, Iterator) else list(tasks)
        return outcomes(self, lanes, longest_run)

    @property
    def worker_addresses(self) -> tuple[str, ...]:
        """Names of the workers as `submit` takes them; none where tasks cannot be sent to one."""
        return ()

    def retire_worker(self, address: str) -> bool:
        """Stop a worker, if there are others; say whether they can do what it did not."""
        del address
        return False

    @abstractmethod
    def submit(self, task: Task, *, is_again: bool = False, worker: str = "") -> Any:
        """Start a task, or start it once more; the future returned has ``result()`` and ``cancel()``.

        It goes to the `worker` that is named, if that is there and has nothing else to do for long.
        """

    @abstractmethod
    def wait_any(self, futures: set[Any], seconds: float) -> set[Any]:
        """Wait so long for the first of the futures; return those that are done, if any are."""

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
