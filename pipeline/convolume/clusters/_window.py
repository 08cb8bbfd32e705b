"""The moving window of tasks: a bounded number in flight, short runs of neighbours a future, suspects alone."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from distributed import get_worker

from convolume.clusters._interrupts import interrupts_wait
from convolume.errors import DeviceLostError, RunError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from convolume.clusters import Cluster, Task

__all__ = ["Outcome", "outcomes"]

Call = tuple["Callable[..., Any]", tuple[Any, ...]]

# A future costs about 4 ms: one that takes this long hides it, and progress still moves several times a second.
_RUN_S = 0.25
# An interrupt comes between two looks: while a future's lock is taken it would leave it locked, or break it.
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task: its result, or the error that it ended with."""

    task: Task
    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Done:
    """What comes back of a run of tasks: result or error of each, the seconds of them together, and who did them."""

    results: tuple[tuple[Any, Exception | None], ...]
    seconds: float
    worker: str


class _RunLength:
    """How many neighbouring tasks one future carries, by the seconds that they were measured to take."""

    def __init__(self, longest: int) -> None:
        self.longest, self.tasks = longest, 1

    def learn(self, done: _Done) -> None:
        """Take the last run as the measure of the next; it grows at most to the double, and shrinks at once."""
        fitting = int(_RUN_S * len(done.results) / max(done.seconds, 1e-9))
        self.tasks = max(1, min(self.longest, 2 * self.tasks, fitting))


class _Lanes:
    """The tasks of each worker: neighbours, one after the other; who has done its own helps the others.

    Parameters
    ----------
    cluster : Cluster
        Whose workers they are.
    lanes : list of iterators of Task
        One alone is anybody's.
    """

    def __init__(self, cluster: Cluster, lanes: list[Iterator[Task]]) -> None:
        self._cluster, self._lanes = cluster, lanes
        self._in_flight = [0] * len(lanes)
        self.look_again()

    def look_again(self) -> None:
        """Find out who is there: a worker that was started anew has another address."""
        self._addresses = self._cluster.worker_addresses if len(self._lanes) > 1 else ()

    def take(self, count: int) -> tuple[int, tuple[Task, ...]]:
        """Return the lane of whoever has least to do, and its next tasks; none where all are given out."""
        idlest = min(range(len(self._lanes)), key=self._in_flight.__getitem__)
        for lane in (*range(idlest, len(self._lanes)), *range(idlest)):
            if run := tuple(islice(self._lanes[lane], count)):
                self._in_flight[idlest] += 1
                return idlest, run
        return idlest, ()

    def finished(self, lane: int) -> None:
        """Take note that whoever has this lane has one future less to do."""
        self._in_flight[lane] -= 1

    def worker(self, lane: int) -> str:
        """Return who has this lane; an empty text for anybody."""
        return self._addresses[lane % len(self._addresses)] if self._addresses else ""


def outcomes(cluster: Cluster, lanes: list[Iterator[Task]], longest_run: int) -> Generator[Outcome]:
    """Yield what came of every task, as they finish.

    Whatever was in flight when a worker died is suspect, and done once more when the others are, each task alone: who
    kills a worker then is known, and is not tried again.
    """
    suspects: list[Task] = []
    length = _RunLength(longest_run)
    yield from _through_window(cluster, _Lanes(cluster, lanes), length, suspects)
    for suspect in suspects:
        yield from _alone(cluster, suspect)


class _InFlight:
    """The futures that are not done yet: ``2 * slots + 1``, as long as there are tasks."""

    def __init__(self, cluster: Cluster, lanes: _Lanes, length: _RunLength) -> None:
        self._cluster, self._lanes, self._length = cluster, lanes, length
        self._runs: dict[Any, tuple[Task, ...]] = {}
        self._lane_of: dict[Any, int] = {}
        self.again: list[Task] = []
        """Tasks that are done once more, each alone, before new ones."""

    def __bool__(self) -> bool:
        return bool(self._runs)

    def fill(self) -> None:
        """Submit tasks until enough are in flight."""
        while len(self._runs) < 2 * self._cluster.slots + 1:
            if self.again:
                alone = (self.again.pop(),)
                self._runs[_submit(self._cluster, alone, is_again=True)] = alone
                continue
            lane, run = self._lanes.take(self._length.tasks)
            if not run:
                break
            future = _submit(self._cluster, run, worker=self._lanes.worker(lane))
            self._runs[future], self._lane_of[future] = run, lane

    def landed(self) -> list[tuple[tuple[Task, ...], _Done | WorkerDiedError]]:
        """Wait for the first futures, submit others in their place, and return their tasks and what came of them."""
        done = _first_done(self._cluster, set(self._runs))
        for future in done:
            if (lane := self._lane_of.pop(future, None)) is not None:
                self._lanes.finished(lane)
        landed = [(self._runs.pop(future), future) for future in done]
        self.fill()
        return [(run, _result_of(future)) for run, future in landed]

    def cancel(self) -> None:
        """Let go of all."""
        for future in self._runs:
            future.cancel()


def _through_window(cluster: Cluster, lanes: _Lanes, length: _RunLength, suspects: list[Task]) -> Iterator[Outcome]:
    """Keep a bounded number of tasks in flight; those whose worker died become suspects."""
    in_flight = _InFlight(cluster, lanes, length)
    try:
        in_flight.fill()
        while in_flight:
            for run, done in in_flight.landed():
                if isinstance(done, WorkerDiedError):
                    suspects += run
                    lanes.look_again()
                    continue
                length.learn(done)
                is_lost = any(isinstance(error, DeviceLostError) for _, error in done.results)
                is_retired = is_lost and cluster.retire_worker(done.worker)
                for outcome in _outcomes_of(run, done):
                    if is_retired and isinstance(outcome.error, DeviceLostError):
                        in_flight.again.append(outcome.task)
                    else:
                        yield outcome
            in_flight.fill()
    finally:
        in_flight.cancel()


def _alone(cluster: Cluster, task: Task) -> Iterator[Outcome]:
    future = _submit(cluster, (task,), is_again=True)
    try:
        _first_done(cluster, {future})
        done = _result_of(future)
        if isinstance(done, WorkerDiedError):
            yield Outcome(task, error=done)
        else:
            yield from _outcomes_of((task,), done)
    finally:
        future.cancel()


def _first_done(cluster: Cluster, futures: set[Any]) -> set[Any]:
    """Wait for the first futures."""
    done: set[Any] = set()
    while not done:
        with interrupts_wait():
            done = cluster.wait_any(futures, _LOOK_EVERY_S)
    return done


@interrupts_wait()
def _result_of(future: Any) -> _Done | WorkerDiedError:
    try:
        done: _Done = future.result()
    except WorkerDiedError as error:
        return error
    return done


@interrupts_wait()
def _submit(cluster: Cluster, run: tuple[Task, ...], *, is_again: bool = False, worker: str = "") -> Any:
    calls = tuple((task.function, task.arguments) for task in run)
    return cluster.submit(replace(run[0], function=_do_in_a_row, arguments=(calls,)), is_again=is_again, worker=worker)


def _outcomes_of(run: tuple[Task, ...], done: _Done) -> Iterator[Outcome]:
    for task, (result, error) in zip(run, done.results, strict=True):
        yield Outcome(task, result, error)


def _do_in_a_row(calls: tuple[Call, ...]) -> _Done:
    """Do calls one after the other; one that fails does not keep the next from being done."""
    began = perf_counter()
    results = tuple(_result_or_error(function, arguments) for function, arguments in calls)
    return _Done(results, perf_counter() - began, _address())


def _address() -> str:
    """Return the address of the worker that this runs on; none where it is a thread of the client."""
    try:
        return str(get_worker().address)
    except ValueError:
        return ""


def _result_or_error(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return function(*arguments), None
    except Exception as error:  # noqa: BLE001 - whatever it is, the client tells it
        return None, _that_travels(error)


def _that_travels(error: Exception) -> Exception:
    """Return an error that another process can read: itself, or its words."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever an exception of some library does when it is pickled
        return RunError(f"{type(error).__name__}: {error}")
    return error
