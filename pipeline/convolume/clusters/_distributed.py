"""What every cluster that has a dask scheduler does alike."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed import wait
from distributed.client import FuturesCancelledError
from distributed.comm.core import CommClosedError
from distributed.protocol import pickle
from distributed.scheduler import KilledWorker

from convolume.clusters import Cluster, Task, machine_memory_bytes
from convolume.errors import RunError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

__all__ = ["DistributedCluster", "workers_of"]

# So often in a row, with so many seconds between, no worker may be there before a run is given up.
_PATIENCE, _PATIENCE_S = 3, 10.0
# What distributed raises when the scheduler is gone; what tasks raise comes back as their result.
_LOST = (CommClosedError, FuturesCancelledError)
_LOST_MESSAGE = "the connection to the scheduler was lost: see whether it still runs, and what its log says"


class DistributedCluster(Cluster):
    """Runs tasks on the workers of a `distributed.Client`, which the caller owns."""

    kind = "active client"
    crosses_processes = True

    def __init__(self, client: Client) -> None:
        self.client = client
        addresses = workers_of(client)
        workers = addresses.values()
        if not workers:
            message = f"the active cluster ({client.dashboard_link}) has no workers: start some and run again"
            raise RunError(message)
        self.worker_count = len(workers)
        self.threads_per_worker = min(worker["nthreads"] for worker in workers)
        # A limit of 0 is none: the machine's memory is all that they have.
        limits = [worker["memory_limit"] or machine_memory_bytes() // len(workers) for worker in workers]
        self.worker_memory_bytes = min(limits)
        # As of its last heartbeat.
        self.worker_held_bytes = max(worker["metrics"].get("memory", 0) for worker in workers)
        self.crosses_processes = not all(address.startswith("inproc:") for address in addresses)
        self.dashboard_url = client.dashboard_link
        # Eight hexadecimal digits at the end of a name are left out by the dashboard.
        self._token = uuid4().hex[:8]
        self._retired: set[str] = set()
        self._patience = _Patience()

    @property
    def worker_addresses(self) -> tuple[str, ...]:
        """Addresses of the workers that are there now."""
        return tuple(sorted(workers_of(self.client)))

    def submit(self, task: Task, *, is_again: bool = False, worker: str = "") -> Any:
        """Start a task on a worker; its key is what the dashboard shows."""
        # The scheduler knows of a key that it failed, and would not try it again.
        name = f"{task.name}, again" if is_again else task.name
        key = (f"{name}-{self._token}", *task.index)
        # To the scheduler, which unpacks whatever it is sent, it is one object and not some hundred.
        packed = pickle.dumps((task.function, task.arguments))
        allowed = self.allowed_workers()
        # Others may take it where that worker is gone, or busy for long.
        is_sent_to_one = bool(worker) and allowed is None
        future = self.client.submit(
            _call_packed,
            packed,
            key=key,
            pure=False,
            workers=[worker] if is_sent_to_one else allowed,
            allow_other_workers=is_sent_to_one,
        )
        return _Future(future, task)

    def allowed_workers(self) -> list[str] | None:
        """Return those that tasks may go to; None for all, those that will come included."""
        return None

    def wait_any(self, futures: set[Any], seconds: float) -> set[Any]:
        """Return the futures that are done.

        Raises
        ------
        RunError
            There are no workers, and there were none for half a minute; or the scheduler is gone.
        """
        by_key = {future.inner.key: future for future in futures}
        return {by_key[inner.key] for inner in self._first_done([future.inner for future in futures], seconds)}

    def retire_worker(self, address: str) -> bool:
        """Stop a worker, if there are others; it may have been stopped already."""
        others = set(workers_of(self.client)) - {address} - self._retired
        if others and address not in self._retired:
            self._retired.add(address)
            self.client.retire_workers([address], close_workers=True)
        return bool(others)

    def compute_each(self, collections: list[Any]) -> Iterator[Any]:
        """Compute dask collections on the workers and yield results as they come."""
        futures = self.client.compute(collections)
        try:
            pending = set(futures)
            while pending:
                done = self._first_done(list(pending), _PATIENCE_S)
                pending -= done
                for future in done:
                    yield future.result()
        finally:
            self.client.cancel(futures)

    def _first_done(self, futures: list[Any], seconds: float) -> set[Any]:
        try:
            done: set[Any] = wait(futures, timeout=seconds, return_when="FIRST_COMPLETED").done
        except _LOST as error:
            raise RunError(_LOST_MESSAGE) from error
        except TimeoutError:
            self._patience.look_for_workers(self.client)
            return set()
        self._patience = _Patience()
        return done

    def close(self) -> None:
        """Leave the caller's cluster as it is."""


class _Patience:
    """How often in a row nobody was there who could do what is waited for."""

    def __init__(self) -> None:
        self._without_workers = 0
        self._next_look = monotonic() + _PATIENCE_S

    def look_for_workers(self, client: Client) -> None:
        """Look once in a while whether there are workers; give up where there are none again and again."""
        if monotonic() < self._next_look:
            return
        self._without_workers = 0 if workers_of(client) else self._without_workers + 1
        self._next_look = monotonic() + _PATIENCE_S
        if self._without_workers >= _PATIENCE:
            message = (
                "all workers are gone, and none came back: see their logs, and give them more memory or smaller blocks"
            )
            raise RunError(message)


def workers_of(client: Client) -> dict[str, Any]:
    """Return what the scheduler knows of each of its workers, by address.

    `Client.scheduler_info` may return what the client asked for itself meanwhile, every two seconds: totals alone.

    Raises
    ------
    RunError
        The scheduler is gone.
    """
    scheduler: Any = client.scheduler
    if scheduler is None:
        raise RunError(_LOST_MESSAGE)
    try:
        return dict(client.sync(scheduler.identity, n_workers=-1)["workers"])
    except OSError as error:
        raise RunError(_LOST_MESSAGE) from error


def _call_packed(packed: bytes) -> Any:
    function, arguments = pickle.loads(packed)
    return function(*arguments)


class _Future:
    """A future that can say what killed it."""

    def __init__(self, inner: Any, task: Task) -> None:
        self.inner, self.task = inner, task

    def result(self) -> Any:
        try:
            return self.inner.result()
        except KilledWorker as error:
            message = (
                f"{self.task.name}, block {self.task.index}: its worker died again and again (last: "
                f"{error.last_worker.address}), most often for want of memory: give smaller blocks (`block:`) or "
                "more memory"
            )
            raise WorkerDiedError(message) from None
        except _LOST as error:
            raise RunError(_LOST_MESSAGE) from error

    def cancel(self) -> None:
        self.inner.cancel()
