"""The workers of a Dask scheduler that others have started, and that goes on when a run is over."""

from __future__ import annotations

import platform
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from distributed.protocol import pickle

from convolume.clusters import machine_memory_bytes
from convolume.clusters._distributed import DistributedCluster, workers_of
from convolume.clusters._interrupts import interrupts_wait
from convolume.clusters._joining import joined
from convolume.clusters._versions import PACKAGES, checked_versions
from convolume.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

    from convolume.clusters import ClusterSettings

__all__ = ["StandingScheduler", "open_cluster", "resolve"]

# So long a worker may take to come.
_PATIENCE_S, _LOOK_EVERY_S = 10.0, 0.1


class StandingScheduler(DistributedCluster):
    """Runs tasks on the workers of a scheduler that was joined; neither is stopped when the run is over.

    `notes` tell what of the workers differs from what a run's own would have.
    """

    kind = "address"

    def __init__(self, settings: ClusterSettings) -> None:
        self.address = settings.scheduler
        self._avoided: set[str] = set()
        with ExitStack() as left:
            client = left.enter_context(joined(self.address, settings.tls))
            _wait_for_workers(client, self.address)
            notes = checked_versions(client.get_versions(packages=PACKAGES))
            super().__init__(client)
            self.crosses_processes = True
            limits: list[_Limit] = list(self.ask_each(_limit_here).values())
            self.worker_memory_bytes = min(_usable_bytes(limit, limits) for limit in limits)
            self.notes = (*notes, *_memory_notes(limits))
            self._left = left.pop_all()

    def ask_each(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Call a function of this package in every worker process, its last argument that worker; answers by address.

        Raises
        ------
        InputError
            A worker could not answer.
        """
        packed = pickle.dumps((function, arguments))
        answers: dict[str, Any] = self.client.run(_answer, packed, on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, Exception):
                message = f"worker {address} cannot be asked what it has: {type(answer).__name__}: {answer}"
                raise InputError(message)
        return answers

    def retire_worker(self, address: str) -> bool:
        """Send nothing more to a worker, if there are others: it is not this run's to stop."""
        others = set(self._workers()) - self._avoided - {address}
        if others:
            self._avoided.add(address)
        return bool(others)

    def allowed_workers(self) -> list[str] | None:
        """Return those that tasks may go to; None for all, those that will come included."""
        return [address for address in self._workers() if address not in self._avoided] if self._avoided else None

    def close(self) -> None:
        """Leave scheduler and workers as they are."""
        with interrupts_wait():
            self._left.close()

    def _workers(self) -> list[str]:
        return list(workers_of(self.client))


def open_cluster(settings: ClusterSettings) -> StandingScheduler:
    """Join a scheduler; returns when it has workers that fit.

    Raises
    ------
    InputError
        No scheduler, or none that lets this process in; no workers, or workers with other packages.
    """
    return StandingScheduler(settings)


def resolve(settings: ClusterSettings) -> ClusterSettings:
    """Return the settings as they are: all else is known when the scheduler is joined."""
    return settings


@dataclass(frozen=True, slots=True)
class _Limit:
    """What a worker may hold by its own rules; a limit of 0 is none."""

    machine: str
    machine_bytes: int
    limit_bytes: int
    pauses_at: float | None


def _limit_here(dask_worker: Any) -> _Limit:
    manager = dask_worker.memory_manager
    pauses_at = manager.memory_pause_fraction or None
    return _Limit(platform.node(), machine_memory_bytes(), manager.memory_limit or 0, pauses_at)


def _usable_bytes(limit: _Limit, all_limits: list[_Limit]) -> int:
    """Return what a worker may hold and still take the next block: one above its pause takes none."""
    beside = sum(other.machine == limit.machine for other in all_limits)
    limit_bytes = limit.limit_bytes or limit.machine_bytes // beside
    return int(limit_bytes * (limit.pauses_at or 1))


def _memory_notes(limits: list[_Limit]) -> tuple[str, ...]:
    pauses = min((limit.pauses_at for limit in limits if limit.pauses_at), default=None)
    if pauses is None:
        return ()
    note = (
        f"workers pause at {pauses:.0%} of their memory, and blocks are planned to fit below that; where their memory "
        "serves this run alone, start them with DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False"
    )
    return (note,)


def _answer(packed: bytes, dask_worker: Any) -> Any:
    function, arguments = pickle.loads(packed)
    return function(*arguments, dask_worker=dask_worker)


def _wait_for_workers(client: Client, address: str) -> None:
    until = monotonic() + _PATIENCE_S
    while not workers_of(client):
        if monotonic() > until:
            message = f"{address}: the scheduler has no workers: start some (`dask worker {address}`) and run again"
            raise InputError(message)
        sleep(_LOOK_EVERY_S)
