"""The moving window of tasks: a bounded number in flight, short runs of neighbours a future, suspects alone."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from distributed import get_worker

from convolume.errors import DeviceLostError, RunError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from convolume.clusters import Cluster, Task

__all__ = ["Outcome", "outcomes"]

Call = tuple["Callable[..., Any]", tuple[Any, ...]]

# A future costs about 4 ms: one that takes this long hides it, and progress still moves several times a second.
_RUN_S = 0.25


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


def outcomes(cluster: Cluster, tasks: Iterator[Task], longest_run: int) -> Generator[Outcome]:
    """Yield what came of every task, as they finish.

    Whatever was in flight when a worker died is suspect, and done once more when the others are, each task alone: who
    kills a worker then is known, and is not tried again.
    """
    suspects: list[Task] = []
    length = _RunLength(longest_run)
    yield from _through_window(cluster, tasks, length, suspects)
    for suspect in suspects:
        yield from _alone(cluster, suspect)


def _through_window(
    cluster: Cluster, tasks: Iterator[Task], length: _RunLength, suspects: list[Task]
) -> Iterator[Outcome]:
    """Keep ``2 * slots + 1`` runs of tasks in flight; those whose worker died become suspects."""
    in_flight: dict[Any, tuple[Task, ...]] = {}
    again: list[Task] = []

    def fill() -> None:
        while len(in_flight) < 2 * cluster.slots + 1:
            is_again = bool(again)
            run = (again.pop(),) if is_again else tuple(islice(tasks, length.tasks))
            if not run:
                break
            in_flight[_submit(cluster, run, is_again=is_again)] = run

    try:
        fill()
        while in_flight:
            finished = [(future, in_flight.pop(future)) for future in cluster.wait_any(set(in_flight))]
            fill()
            for future, run in finished:
                try:
                    done: _Done = future.result()
                except WorkerDiedError:
                    suspects += run
                    continue
                length.learn(done)
                is_lost = any(isinstance(error, DeviceLostError) for _, error in done.results)
                is_retired = is_lost and cluster.retire_worker(done.worker)
                for outcome in _outcomes_of(run, done):
                    if is_retired and isinstance(outcome.error, DeviceLostError):
                        again.append(outcome.task)
                    else:
                        yield outcome
            fill()
    finally:
        for future in in_flight:
            future.cancel()


def _alone(cluster: Cluster, task: Task) -> Iterator[Outcome]:
    future = _submit(cluster, (task,), is_again=True)
    try:
        cluster.wait_any({future})
        yield from _outcomes_of((task,), future.result())
    except WorkerDiedError as error:
        yield Outcome(task, error=error)
    finally:
        future.cancel()


def _submit(cluster: Cluster, run: tuple[Task, ...], *, is_again: bool) -> Any:
    calls = tuple((task.function, task.arguments) for task in run)
    return cluster.submit(replace(run[0], function=_do_in_a_row, arguments=(calls,)), is_again=is_again)


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
