"""All kinds of cluster keep the same promises: those that a run starts, and one that it joins."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from convolume.clusters import Cluster, ClusterSettings, Task, in_process, local, machine_memory_bytes
from convolume.clusters._distributed import DistributedCluster
from convolume.clusters._interrupts import interrupts_wait
from convolume.errors import RunError
from convolume.registry import load_member, member_names

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("in_process", "local", "address")
SETTINGS = ClusterSettings(workers=2, threads_per_worker=1, memory_bytes=2**31).with_environment({"CONVOLUME_X": "y"})
SOON_S = 20.0


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Cluster]]:
    """Start each kind once; the scheduler that is joined is the one that `local` started."""
    with ExitStack() as closing:
        clusters: dict[str, Cluster] = {}
        settings = SETTINGS
        for kind in KINDS:
            cluster = closing.enter_context(load_member("clusters", kind).open_cluster(settings))
            clusters[kind] = cluster
            if kind == "local":
                settings = ClusterSettings(scheduler=cluster.client.scheduler_info()["address"])
        yield clusters


@pytest.fixture(params=KINDS)
def cluster(started: dict[str, Cluster], request: pytest.FixtureRequest) -> Cluster:
    """Return a cluster of each kind."""
    return started[request.param]


def fail(message: str) -> None:
    """Fail as a block does."""
    raise RunError(message)


def log(folder: str, number: int) -> int:
    """Leave a trace, and take a moment."""
    Path(folder, str(number)).touch()
    time.sleep(0.01)
    return number


def wait_for(file: str) -> str:
    """Wait until a file is there."""
    until = time.monotonic() + SOON_S
    while not Path(file).exists() and time.monotonic() < until:
        time.sleep(0.01)
    return file


def where(_number: int) -> tuple[int, str, str | None]:
    """Say which process, which thread, and which environment."""
    time.sleep(0.05)
    return os.getpid(), threading.current_thread().name, os.environ.get("CONVOLUME_X")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_kind_is_tested() -> None:
    """A new kind of cluster is held to these promises too."""
    assert set(member_names("clusters")) == set(KINDS)


@pytest.mark.parametrize("count", [0, 1, 4, 37])
def test_results(cluster: Cluster, count: int) -> None:
    """Every task once, in any order, whether there are more or fewer than slots."""
    tasks = (Task("square", (number,), pow, (number, 2)) for number in range(count))
    assert sorted(cluster.map_unordered(tasks)) == [number**2 for number in range(count)]


def test_bounded_in_flight(cluster: Cluster) -> None:
    """Tasks are drawn as others finish: neither side holds all of them."""
    drawn = 0

    def tasks() -> Iterator[Task]:
        nonlocal drawn
        for number in range(100):
            drawn += 1
            yield Task("count", (number,), int, (number,))

    ahead = []
    for received, _ in enumerate(cluster.map_unordered(tasks()), 1):
        ahead.append(drawn - received)
    assert (received, drawn, cluster.slots) == (100, 100, 2)
    # Those in flight, and those that were done at the same time.
    assert max(ahead) <= 2 * (2 * cluster.slots + 1)


def test_failure(cluster: Cluster, tmp_path: Path) -> None:
    """The exception itself arrives, and what has not begun never does."""
    tasks = [Task("log", (number,), log, (str(tmp_path), number)) for number in range(300)]
    tasks[5] = Task("fail", (5,), fail, ("output 'mean', block (0, 0, 5): broken",))
    with pytest.raises(RunError, match=r"^output 'mean', block \(0, 0, 5\): broken$"):
        list(cluster.map_unordered(iter(tasks)))
    assert len(list(tmp_path.iterdir())) < 100
    assert list(cluster.map_unordered(iter([Task("again", (0,), abs, (-1,))]))) == [1]


def test_where_tasks_run(cluster: Cluster) -> None:
    """In threads of this process, or in two others that have the environment."""
    answers = list(cluster.map_unordered(iter([Task("where", (n,), where, (n,)) for n in range(12)])))
    processes, threads, variables = (set(part) for part in zip(*answers, strict=True))
    if cluster.crosses_processes:
        assert len(processes) == cluster.worker_count == 2
        assert os.getpid() not in processes
        assert variables == {"y"}
    else:
        assert processes == {os.getpid()}
        assert len(threads) == cluster.threads_per_worker == 2
        assert all(name.startswith("convolume") for name in threads)
    assert cluster.worker_memory_bytes * cluster.worker_count == SETTINGS.memory_bytes


def test_dask_collections(cluster: Cluster) -> None:
    """They are computed together and yielded as they come."""
    arrays = [da.full((4, 4), number, chunks=2).sum() for number in range(5)]
    assert sorted(map(int, cluster.compute_each(arrays))) == [16 * number for number in range(5)]


def test_names(started: dict[str, Cluster], tmp_path: Path) -> None:
    """What the scheduler knows of a task is its name, eight digits that the dashboard leaves out, and its place."""
    cluster = started["local"]
    assert isinstance(cluster, DistributedCluster)
    gate = tmp_path / "gate"
    results = cluster.map_unordered(iter([Task("laplacian: laplace", (0, 1, 2), wait_for, (str(gate),))]))
    watcher = threading.Thread(target=list, args=(results,))
    watcher.start()
    until, found = time.monotonic() + SOON_S, []
    while not found and time.monotonic() < until:
        found = [key for keys in cluster.client.processing().values() for key in keys]
    gate.touch()
    watcher.join()
    ((name, *place),) = found
    assert name.rpartition("-")[0] == "laplacian: laplace"
    assert (len(name.rpartition("-")[2]), place) == (8, [0, 1, 2])


def test_close_leaves_no_process() -> None:
    """Workers are gone, the addresses free again; the same where something failed inside."""
    processes: set[int] = set()

    def use() -> None:
        with local.open_cluster(ClusterSettings(workers=1, threads_per_worker=1, dashboard=False)) as cluster:
            assert cluster.dashboard_url is None
            processes.update(pid for pid, _, _ in cluster.map_unordered(iter([Task("where", (0,), where, (0,))])))
            processes.add(int(cluster.client.scheduler_info()["address"].rpartition(":")[2]) * -1)
            fail("inside")

    with pytest.raises(RunError, match="inside"):
        use()
    (port,) = (-number for number in processes if number < 0)
    (process,) = (number for number in processes if number > 0)
    assert not _is_running(process)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_close_leaves_no_thread(tmp_path: Path) -> None:
    """What runs is finished, what waits is dropped."""
    before = set(threading.enumerate())
    with in_process.open_cluster(ClusterSettings(workers=1, threads_per_worker=2)) as cluster:
        futures = [cluster.submit(Task("log", (number,), log, (str(tmp_path), number))) for number in range(50)]
    assert set(threading.enumerate()) == before
    assert all(future.done() for future in futures)
    assert len(list(tmp_path.iterdir())) < 50


def test_task_that_kills_its_worker() -> None:
    """It is named with its block, and with what helps."""
    settings = ClusterSettings(workers=1, threads_per_worker=1, dashboard=False)
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), local.open_cluster(settings) as cluster:
        poison = Task("sum: convolve", (1, 2, 3), os._exit, (1,))
        with pytest.raises(RunError, match=r"sum: convolve, block \(1, 2, 3\): its worker died .*`block:`.* memory"):
            list(cluster.map_unordered(iter([poison])))


def test_active_client_is_left_as_it_is() -> None:
    """A user's own cluster is used and stays."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=3, processes=False, dashboard_address="127.0.0.1:0") as own,
        Client(own) as client,
    ):
        with DistributedCluster(client) as cluster:
            assert (cluster.worker_count, cluster.threads_per_worker) == (1, 3)
            assert not cluster.crosses_processes
            assert list(cluster.map_unordered(iter([Task("where", (0,), os.getpid, ())]))) == [os.getpid()]
        assert client.submit(abs, -2).result() == 2


def test_workers_that_are_gone_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that nobody can go on with ends, and says so."""
    monkeypatch.setattr("convolume.clusters._distributed._PATIENCE_S", 0.2)
    settings = ClusterSettings(workers=1, threads_per_worker=1, dashboard=False)
    with local.open_cluster(settings) as cluster:
        cluster.client.cluster.scale(0)
        with pytest.raises(RunError, match="all workers are gone"):
            list(cluster.map_unordered(iter([Task("never", (0,), abs, (-1,))])))
        with pytest.raises(RunError, match="all workers are gone"):
            list(cluster.compute_each([da.ones(3).sum()]))


def test_cluster_without_workers() -> None:
    """It is told, instead of waited for."""
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as empty,
        Client(empty) as client,
        pytest.raises(RunError, match=r"has no workers: start some and run again"),
    ):
        DistributedCluster(client)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_resolve_fills_in_what_is_open(kind: str) -> None:
    """Nothing is started; what was asked for stays; asking again changes nothing."""
    resolve: Any = load_member("clusters", kind).resolve
    open_ones = resolve(ClusterSettings())
    assert min(open_ones.workers, open_ones.threads_per_worker) >= 1
    assert open_ones.memory_bytes == machine_memory_bytes() > 2**20
    asked = ClusterSettings(workers=3, threads_per_worker=5, memory_bytes=2**33, dashboard=False)
    resolved = resolve(asked)
    assert resolved.workers * resolved.threads_per_worker == 15
    assert (resolved.memory_bytes, resolved.dashboard) == (2**33, False)
    assert resolve(resolved) == resolved


def test_two_dashboards(started: dict[str, Cluster]) -> None:
    """Where the usual port is taken, another one is used; they are on this machine alone."""
    addresses = [started["local"].dashboard_url]
    with local.open_cluster(ClusterSettings(workers=1, threads_per_worker=1)) as second:
        addresses.append(second.dashboard_url)
    assert len(set(addresses)) == 2
    assert all(address and address.startswith("http://127.0.0.1:") for address in addresses)


def test_numbers_survive_the_way(cluster: Cluster) -> None:
    """Arrays come back as they were, bit for bit."""
    array = np.array([0.1, np.nan, -0.0, np.inf], np.float32)
    (result,) = cluster.map_unordered(iter([Task("copy", (0,), np.copy, (array,))]))
    assert result.tobytes() == array.tobytes()


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_waits(number: signal.Signals) -> None:
    """It is answered when what was begun is whole, and the handlers are back."""
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    whole = False
    with pytest.raises(KeyboardInterrupt), interrupts_wait():  # noqa: PT012 (what follows the signal is the test)
        signal.raise_signal(number)
        whole = True
    assert whole
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.usefixtures("interrupted")
def test_the_second_interrupt_does_not_wait() -> None:
    """Somebody who means it is heard."""
    count = 0
    with pytest.raises(KeyboardInterrupt), interrupts_wait():  # noqa: PT012 (where it ends is the test)
        for count in (1, 2, 3):  # noqa: B007 (read after the interrupt)
            signal.raise_signal(signal.SIGTERM)
    assert count == 2


def test_interrupts_in_other_threads_are_left_alone() -> None:
    """Only the main thread may set handlers."""
    seen: list[bool] = []

    def use() -> None:
        with interrupts_wait():
            seen.append(signal.getsignal(signal.SIGINT) is before)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [True]


def kept_of_the_past(dask_worker: Any) -> tuple[bool, int]:
    """Return whether a worker profiles Python's stacks, and how many looks at what it takes of the machine it keeps."""
    return "profile" in dask_worker.periodic_callbacks, dask_worker.monitor.maxlen


def test_what_workers_keep_of_their_past_is_bounded(started: dict[str, Cluster]) -> None:
    """A profile takes some 90 KB: one a second would be 85 MB before distributed's log is full."""
    local_cluster = started["local"]
    assert isinstance(local_cluster, DistributedCluster)
    assert set(local_cluster.client.run(kept_of_the_past).values()) == {(False, 600)}


def test_looks_that_the_client_takes_itself_do_not_hide_workers(
    started: dict[str, Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every two seconds a client asks for totals, which may come between its answer about workers and who asked."""
    local_cluster = started["local"]
    assert isinstance(local_cluster, DistributedCluster)
    monkeypatch.setattr(Client, "scheduler_info", lambda self, **_: {**self._scheduler_identity, "workers": {}})
    assert DistributedCluster(local_cluster.client).worker_count == local_cluster.worker_count
    assert len(local_cluster.worker_addresses) == local_cluster.worker_count
