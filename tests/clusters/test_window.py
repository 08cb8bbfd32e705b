"""The moving window: flat cost for any number of blocks, runs of quick neighbours, and workers that die or stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from distributed import get_worker

from convolume.clusters import Cluster, ClusterSettings, Outcome, Task, in_process, local
from convolume.errors import RunError, WorkerDiedError
from convolume.records import BlockRecord
from convolume.regions import BlockGrid, Region

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ONE_WORKER = ClusterSettings(workers=1, threads_per_worker=2, dashboard=False)
LONGEST_RUN = 64
MEBIBYTE = 2**20


def empty_block(index: tuple[int, ...], region: Region) -> BlockRecord:
    """Do nothing, and tell it as a block does."""
    return BlockRecord(index, region.size_voxels, 0, 0, 0.0, 0.0, 0.0, "none", (0.0,), (0.0,))


def empty_blocks(count: int) -> Iterator[Task]:
    """Draw the tasks of a made-up grid."""
    grid = BlockGrid((count // 100, 10, 10), (1, 1, 1))
    return (Task("empty: copy", index, empty_block, (index, region)) for index, region in grid)


def resident_bytes() -> tuple[int, ...]:
    """Return the resident memory of this process, which holds client and scheduler, and of its children together."""
    here = psutil.Process()
    return here.memory_info().rss, sum(child.memory_info().rss for child in here.children(recursive=True))


def memory_over(cluster: Cluster, count: int) -> dict[int, tuple[int, ...]]:
    """Do so many empty blocks; return what memory was in use after a quarter, a half and all of them."""
    seen: dict[int, tuple[int, ...]] = {}
    places = 0
    for done, outcome in enumerate(cluster.map_outcomes(empty_blocks(count), LONGEST_RUN), 1):
        assert outcome.result.index == outcome.task.index
        # Each number once: their sum tells it without a set that would grow.
        z, y, x = outcome.task.index
        places += 100 * z + 10 * y + x
        if done in (count // 4, count // 2, count):
            seen[done] = resident_bytes()
    assert (done, places) == (count, count * (count - 1) // 2)
    return seen


def test_memory_is_flat_over_50000_blocks() -> None:
    """From the first quarter to the last, client and scheduler grow by less than a third of a KB a block."""
    with local.open_cluster(ClusterSettings(workers=1, threads_per_worker=2)) as cluster:
        seen = memory_over(cluster, 50_000)
    for at_first, at_last in zip(seen[12_500], seen[50_000], strict=True):
        assert at_last - at_first < 24 * MEBIBYTE


@pytest.mark.long
def test_a_million_blocks() -> None:
    """Client and scheduler stay below 500 MB together, and do not grow in the second half."""
    with local.open_cluster(ClusterSettings(workers=1, threads_per_worker=2)) as cluster:
        began = time.perf_counter()
        seen = memory_over(cluster, 1_000_000)
        print(f"{time.perf_counter() - began:.0f} s", {n: [b >> 20 for b in sizes] for n, sizes in seen.items()})  # noqa: T201 (figures for docs/reliability.md)
    for at_half, at_last in zip(seen[500_000], seen[1_000_000], strict=True):
        assert at_last < 500_000_000
        assert at_last - at_half < 24 * MEBIBYTE


def take(seconds: float, number: int) -> tuple[int, int]:
    """Take so long; say in which process and thread."""
    time.sleep(seconds)
    return os.getpid(), number


@pytest.mark.parametrize(("seconds", "most"), [(0.0, LONGEST_RUN), (0.3, 1)])
def test_quick_neighbours_share_a_future(seconds: float, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the time of a future allows, in their order; slow ones have a future each."""
    with in_process.open_cluster(ClusterSettings(threads_per_worker=1)) as cluster:
        lengths: list[int] = []
        submit = cluster.submit

        def counted(task: Task, **how: Any) -> object:
            lengths.append(len(task.arguments[0]))
            return submit(task, **how)

        monkeypatch.setattr(cluster, "submit", counted)
        count = 1000 if most > 1 else 5
        tasks = (Task("take", (n,), take, (seconds, n)) for n in range(count))
        numbers = [outcome.result[1] for outcome in cluster.map_outcomes(tasks, LONGEST_RUN)]
    assert numbers == list(range(count))
    assert max(lengths) == most
    # It grows to the double at most.
    assert all(after <= 2 * max(lengths[: n + 1]) for n, after in enumerate(lengths[1:]))


def take_here(seconds: float, number: int) -> tuple[str, int]:
    """Take some time, and tell where."""
    time.sleep(seconds)
    return get_worker().address, number


def lane_of_tasks(lane: int, count: int) -> Iterator[Task]:
    """Draw the tasks of one worker."""
    return (Task("take", (lane, n), take_here, (0.02, 1000 * lane + n)) for n in range(count))


def test_each_worker_gets_neighbours() -> None:
    """In their order, but for what another one took over; whoever is done first helps."""
    counts = (60, 60, 3)
    with local.open_cluster(ClusterSettings(workers=3, threads_per_worker=1, dashboard=False)) as cluster:
        lanes = [lane_of_tasks(lane, count) for lane, count in enumerate(counts)]
        told = [outcome.result for outcome in cluster.map_outcomes(lanes)]
    assert sorted(number for _, number in told) == [1000 * lane + n for lane, n in enumerate(counts) for n in range(n)]
    by_worker = [[number for where, number in told if where == worker] for worker in {where for where, _ in told}]
    assert len(by_worker) == len(counts)
    # The short lane's worker helped; the others did most of their own, though the scheduler moves what waits long.
    helper = max(by_worker, key=lambda numbers: len({number // 1000 for number in numbers}))
    assert len(helper) > 10 * counts[2]
    for numbers in by_worker:
        if numbers is not helper:
            own = max({0, 1}, key=[number // 1000 for number in numbers].count)
            assert sum(number // 1000 == own for number in numbers) > 0.5 * len(numbers)


def fail_on(bad: int, number: int) -> int:
    """Fail on one number, with an exception that does not pickle."""
    if number == bad:

        class UnpicklableError(Exception):
            pass

        message = f"no {number}"
        raise UnpicklableError(message)
    return number


@pytest.mark.parametrize("kind", [in_process, local])
def test_a_failure_stops_no_other(kind: ModuleType) -> None:
    """Its words arrive even where it cannot."""
    with kind.open_cluster(ONE_WORKER) as cluster:
        tasks = (Task("fail", (n,), fail_on, (7, n)) for n in range(30))
        told = list(cluster.map_outcomes(tasks, LONGEST_RUN))
    (failed,) = [outcome for outcome in told if outcome.error is not None]
    assert (failed.task.index, str(failed.error)) == ((7,), "UnpicklableError: no 7")
    assert isinstance(failed.error, RunError)
    assert sorted(outcome.result for outcome in told if outcome.error is None) == [n for n in range(30) if n != 7]


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("moment", ["submit", "wait_any", "result"])
def test_an_interrupt_comes_between_the_calls_of_a_cluster(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Within one it would leave a future's lock taken, which the run then waits for in vain, or release it twice."""
    whole: list[str] = []
    with in_process.open_cluster(ONE_WORKER) as cluster:
        owner: Any = Future if moment == "result" else cluster
        usual = getattr(owner, moment)

        def interrupted(*arguments: Any, **options: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            result = usual(*arguments, **options)
            whole.append(moment)
            return result

        monkeypatch.setattr(owner, moment, interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(cluster.map_outcomes(empty_blocks(1000)))
    assert whole == [moment]


# Endless quick tasks in threads: a lock is taken every few microseconds.
QUICK_TASKS = """
import itertools, time
from convolume.clusters import ClusterSettings, Task, in_process
with in_process.open_cluster(ClusterSettings(workers=1)) as cluster:
    tasks = (Task("nap", (number,), time.sleep, (0.0002,)) for number in itertools.count())
    print("begun", flush=True)
    for _ in cluster.map_outcomes(tasks):
        pass
"""


@pytest.mark.long
@pytest.mark.parametrize("seed", range(300))
def test_interrupts_at_any_moment(seed: int) -> None:
    """Each ends the process within seconds, by no other error."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", QUICK_TASKS]
    with subprocess.Popen(command, text=True, **pipes) as process:  # noqa: S603 (our own interpreter and words)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(np.random.default_rng(seed).uniform(0, 0.1))
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert errors.endswith("\nKeyboardInterrupt\n")


def die_on(folder: str, bad: int, number: int) -> int:
    """Leave a trace, and kill the process on one number."""
    if number == bad:
        with Path(folder, str(number)).open("a") as file:
            file.write("x")
        os._exit(1)
    time.sleep(0.02)
    return number


def by_index(told: list[Outcome]) -> dict[tuple[int, ...], Outcome]:
    """Return what came of each task, once each."""
    found = {outcome.task.index: outcome for outcome in told}
    assert len(found) == len(told)
    return found


def test_a_block_that_kills_its_worker_is_tried_twice(tmp_path: Path) -> None:
    """Once beside others, once alone; then it is set aside by its place, and all others are done."""
    with local.open_cluster(ONE_WORKER) as cluster:
        tasks = (Task("sum: convolve", (n,), die_on, (str(tmp_path), 7, n)) for n in range(40))
        told = by_index(list(cluster.map_outcomes(tasks, LONGEST_RUN)))
    assert len(told) == 40
    failed = {index: outcome.error for index, outcome in told.items() if outcome.error is not None}
    assert list(failed) == [(7,)]
    assert isinstance(failed[7,], WorkerDiedError)
    assert str(failed[7,]).startswith("sum: convolve, block (7,): its worker died")
    assert (tmp_path / "7").read_text() == "xx"


def test_a_stopped_worker_is_replaced() -> None:
    """By SIGSTOP, in the midst of a run: all blocks are done, those it had in flight by its successor."""
    with local.open_cluster(ONE_WORKER) as cluster:
        (victim, _), *_ = cluster.map_unordered(iter([Task("take", (0,), take, (0.0, 0))]))

        def tasks() -> Iterator[Task]:
            for number in range(1, 60):
                if number == 30:
                    os.kill(victim, signal.SIGSTOP)
                    stopped.append(time.monotonic())
                yield Task("take", (number,), take, (0.02, number))

        stopped: list[float] = []
        told = list(cluster.map_outcomes(tasks()))
    assert sorted(outcome.task.index for outcome in told) == [(n,) for n in range(1, 60)]
    assert [outcome.error for outcome in told if outcome.error is not None] == []
    assert len({process for process, _ in (outcome.result for outcome in told)}) == 2
