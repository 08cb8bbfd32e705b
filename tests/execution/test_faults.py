"""Every call of a small run fails, by every kind of error, once or for good: it ends whole, or by a telling error."""

from __future__ import annotations

import errno
import os
import random
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
import zarr
from click.testing import CliRunner

import convolume
from convolume import cli, resume, runner, stores
from convolume.devices import _selection
from convolume.errors import ConvolumeError, DeviceError, DeviceLostError, DeviceMemoryError, InputError, RunError
from convolume.execution import patience, run_file, task
from convolume.execution.journal import Journal
from convolume.stores import memory
from convolume.testing.faults import FailingDevice, FailingJournal, FailingSink, FailingSource, Fuse, time_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    from convolume.records import RunRecord

IMAGE = np.random.default_rng(4).integers(-50, 50, (6, 200, 12)).astype(np.float32)
ALWAYS = 10**9
LONGEST_S = 20.0


def system_error(number: int) -> Callable[[], Exception]:
    """Return a maker of the system's error of this number."""
    return lambda: OSError(number, os.strerror(number))


@dataclass(frozen=True)
class Fault:
    """A kind of error: which calls raise it, whether one of them ends a run, and what the run then says of it."""

    error: Callable[[], Exception]
    calls: frozenset[str]
    told: str
    once_ends_it: bool = True


STORES = frozenset({"read", "write", "read back", "create", "finish", "prepare"})
VOXELS = frozenset({"read", "write", "read back"})
DEVICE = frozenset({"correlate"})
PATIENT = frozenset({"read", "write", "read back", "create", "finish", "prepare", "identity"})
FAULTS = {
    "no space": Fault(system_error(errno.ENOSPC), STORES, "the disk is full"),
    "input/output": Fault(system_error(errno.EIO), PATIENT, "Input/output error", once_ends_it=False),
    "permission": Fault(system_error(errno.EACCES), STORES, "there is no permission"),
    "read-only": Fault(system_error(errno.EROFS), STORES, "the file system is read-only"),
    "stale handle": Fault(system_error(errno.ESTALE), PATIENT, os.strerror(errno.ESTALE), once_ends_it=False),
    "damaged chunk": Fault(lambda: RunError("x: voxels cannot be read; digest mismatch"), VOXELS, "digest mismatch"),
    "library": Fault(lambda: RuntimeError("error during decompression: -1"), VOXELS, "decompression: -1"),
    "host memory": Fault(MemoryError, VOXELS - {"read back"} | DEVICE, "out of memory", once_ends_it=False),
    "device memory": Fault(lambda: DeviceMemoryError("too large"), DEVICE, "too large", once_ends_it=False),
    "device lost": Fault(lambda: DeviceLostError("gone"), DEVICE, "gone|was lost"),
    "device": Fault(lambda: DeviceError("a defect"), DEVICE, "a defect"),
}


@dataclass
class Bench:
    """A small run whose source, sink and device go through one fuse."""

    monkeypatch: pytest.MonkeyPatch
    folder: Path

    def run(self, fuse: Fuse) -> RunRecord:
        """Run it: 20 blocks, a pyramid, two threads."""
        open_source, create_sink, open_device = stores.open_source, stores.create_sink, _selection.open_device
        with self.monkeypatch.context() as patched:
            patched.setattr(stores, "open_source", lambda *a: FailingSource(open_source(*a), fuse))
            patched.setattr(stores, "create_sink", lambda *a: FailingSink(create_sink(*a), fuse))
            patched.setattr(task, "open_device", lambda info: FailingDevice(open_device(info), fuse))
            steps = [{"box": {"size": 3, "statistic": "sum"}}]
            output = {"path": self.output, "steps": steps, "chunks": [3, 20, 12], "if_exists": "overwrite"}
            return convolume.run(
                {"input": {"path": "memory:faults"}, "outputs": {"sum": output}, "block": [3, 20, 12]},
                config={"cluster": "in_process", "threads_per_worker": 2, "device": "numpy"},
            )

    @property
    def output(self) -> str:
        """Where it writes."""
        return "memory:faulty"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    """Make pauses short, and the image."""
    monkeypatch.setattr(patience, "PAUSES_S", (0.0, 0.001, 0.002))
    monkeypatch.setattr(patience, "IN_VAIN_S", 0.0)
    monkeypatch.setattr(_selection, "_retired", set())
    memory.put("faults", IMAGE)
    yield Bench(monkeypatch, tmp_path)
    memory.drop("faults")
    memory.drop("faulty")


def check_told(error: ConvolumeError, fault: Fault) -> None:
    """Hold an error to naming cause and place: the file, or the block with its output."""
    assert re.search(fault.told, str(error)), error
    assert re.search(r"output 'sum', block \(\d+, \d+, \d+\) at \[|memory:faulty|memory:faults", str(error)), error
    assert error.exit_code == 3


def check_point(bench: Bench, fault: Fault, at_call: int, times: int, whole: list[np.ndarray[Any, Any]]) -> bool:
    """Run with a fault at one call; say whether it finished. Whole and equal, or an error and no image."""
    memory.drop("faulty")
    _selection._retired.clear()  # noqa: SLF001 (a new process has retired nothing)
    try:
        with time_limit(LONGEST_S):
            bench.run(Fuse(at_call, fault.error, times, fault.calls))
    except ConvolumeError as error:
        check_told(error, fault)
        with pytest.raises(InputError, match=r"did not finish|no such image"):
            stores.open_source("memory:faulty")
        return False
    for level, voxels in enumerate(whole):
        np.testing.assert_array_equal(memory.get("faulty", level), voxels)
    return True


def undisturbed(bench: Bench) -> list[np.ndarray[Any, Any]]:
    """Return the levels of a run in which nothing fails."""
    bench.run(Fuse(0, RuntimeError))
    return [memory.get("faulty", level).copy() for level in range(2)]


def calls_of(bench: Bench, fault: Fault) -> int:
    """Return how many calls of an undisturbed run a fault can hit."""
    fuse = Fuse(0, fault.error, kinds=fault.calls)
    bench.run(fuse)
    return fuse.calls


def check_fault(bench: Bench, fault: Fault, most: int) -> int:
    """Try a fault at every call, or at so many drawn ones, once and from there on; return the number of points."""
    whole = undisturbed(bench)
    calls = range(1, calls_of(bench, fault) + 1)
    assert len(calls) >= 20
    chosen = calls if len(calls) <= most else sorted(random.Random(most).sample(calls, most))  # noqa: S311 (not for secrets)
    for at_call in chosen:
        assert check_point(bench, fault, at_call, 1, whole) is not fault.once_ends_it
        assert not check_point(bench, fault, at_call, ALWAYS, whole)
    return 2 * len(chosen)


@pytest.mark.parametrize("name", FAULTS)
def test_every_call_may_fail(bench: Bench, name: str) -> None:
    """Passing faults are got over, others told; no hang, and never a hole. Some 500 points over all kinds."""
    assert check_fault(bench, FAULTS[name], most=24) >= 40


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
def test_every_call_may_fail_at_length(bench: Bench, name: str) -> None:
    """All calls, and several in a row: some 2,000 points over all kinds."""
    fault, whole = FAULTS[name], undisturbed(bench)
    points = check_fault(bench, fault, most=ALWAYS)
    for times in (2, 3):
        for at_call in range(1, calls_of(bench, fault) + 1):
            check_point(bench, fault, at_call, times, whole)
            points += 1
    assert points >= 100


SYSTEM = ("no space", "input/output", "permission", "read-only", "stale handle")
SMALL = IMAGE[:3, :140]


@dataclass
class JournalBench:
    """A small run from file to file, by the command, whose journal goes through a fuse: calls, claim and run file."""

    monkeypatch: pytest.MonkeyPatch
    folder: Path

    def __post_init__(self) -> None:
        """Write the image and the workflow."""
        zarr.create_array(str(self.folder / "in.zarr"), data=SMALL, chunks=(3, 20, 12), dimension_names=("z", "y", "x"))
        output = {"path": self.output, "steps": [{"box": {"size": 3, "statistic": "sum"}}], "chunks": [3, 20, 12]}
        values = {"input": {"path": str(self.folder / "in.zarr")}, "outputs": {"sum": output}, "block": [3, 20, 12]}
        Path(self.arguments[1]).write_text(yaml.safe_dump(values))

    @property
    def output(self) -> str:
        """Where it writes."""
        return str(self.folder / "out.ome.zarr")

    @property
    def arguments(self) -> list[str]:
        """What runs it: 7 blocks, a pyramid, two threads."""
        where = ("cluster=in_process", "device=numpy", "threads_per_worker=2")
        return ["run", str(self.folder / "w.yaml"), *(word for each in where for word in ("--set", each))]

    def run(self, fuse: Fuse) -> Result:
        """Run it."""
        write_whole = run_file.write_whole

        def write(file: Path, text: str) -> None:
            fuse.passes("run file")
            write_whole(file, text)
            fuse.passes("run file is written")

        with self.monkeypatch.context() as patched:
            patched.setattr(resume, "Journal", lambda *a: FailingJournal.of(Journal(*a), fuse))
            patched.setattr(run_file, "write_whole", write)
            return CliRunner().invoke(cli.commands, self.arguments)

    def put_back(self, begun: Path | None) -> None:
        """Take the output away, or leave what an attempt left that was broken off."""
        for ending in ("", ".convolume"):
            shutil.rmtree(self.output + ending, ignore_errors=True)
            if begun is not None:
                shutil.copytree(f"{begun}{ending}", self.output + ending)

    def levels(self) -> list[np.ndarray[Any, Any]]:
        """Return what was written."""
        return [np.asarray(zarr.open_array(f"{self.output}/{level}", mode="r")[...]) for level in (0, 1)]


@pytest.fixture
def journal_bench(bench: Bench, tmp_path: Path) -> JournalBench:
    """Make it; pauses are short."""
    return JournalBench(bench.monkeypatch, tmp_path)


def check_whole(bench: JournalBench, whole: list[np.ndarray[Any, Any]]) -> None:
    """Every voxel is right, and has a mark that says so."""
    for found, expected in zip(bench.levels(), whole, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert runner.verify(bench.output).is_whole


def is_finished(bench: JournalBench) -> bool:
    """Say whether a run of it is over."""
    file = run_file.RunFile.read(f"{bench.output}.convolume")
    return file is not None and file.state == "finished"


def check_journal_point(
    bench: JournalBench, fault: Fault, at_call: int, times: int, begun: Path | None, whole: list[np.ndarray[Any, Any]]
) -> bool:
    """Run with a fault at one call; say whether it finished. No wrong mark, and the next attempt ends it."""
    bench.put_back(begun)
    with time_limit(LONGEST_S):
        result = bench.run(Fuse(at_call, fault.error, times))
    if result.exit_code == 0:
        check_whole(bench, whole)
        return True
    assert result.exit_code == 3, result.output
    assert re.search(fault.told, result.stderr), result.stderr
    assert bench.output in result.stderr
    assert f"go on with: convolume {shlex.join(bench.arguments)}\n" in result.stderr
    if Path(bench.output).exists():
        assert runner.verify(bench.output).flaws == ()
    if not is_finished(bench):  # the very last call told of an error, and had done what it was to do
        assert bench.run(Fuse(0, RuntimeError)).exit_code == 0
    check_whole(bench, whole)
    return False


def half_done(bench: JournalBench) -> Path:
    """Break a run off after some blocks; return where its output is kept."""
    bench.put_back(None)
    fuse = Fuse(3, system_error(errno.ENOSPC), ALWAYS, frozenset({"append"}))
    assert bench.run(fuse).exit_code == 3
    begun = bench.folder / "begun"
    for ending in ("", ".convolume"):
        shutil.copytree(bench.output + ending, f"{begun}{ending}")
    return begun


def check_journal(bench: JournalBench, name: str, most: int, *, is_resumed: bool) -> int:
    """Let the journal fail at every call, or at so many drawn ones; return the number of points."""
    fault, fuse = FAULTS[name], Fuse(0, RuntimeError)
    assert bench.run(Fuse(0, RuntimeError)).exit_code == 0
    whole = bench.levels()
    begun = half_done(bench) if is_resumed else None
    bench.put_back(begun)
    assert bench.run(fuse).exit_code == 0
    assert fuse.calls >= 30
    calls = range(1, fuse.calls + 1)
    chosen = calls if len(calls) <= most else sorted(random.Random(name).sample(calls, most))  # noqa: S311 (not for secrets)
    for at_call in chosen:
        assert check_journal_point(bench, fault, at_call, 1, begun, whole) is not fault.once_ends_it
        assert not check_journal_point(bench, fault, at_call, ALWAYS, begun, whole)
    return 2 * len(chosen)


@pytest.mark.parametrize("is_resumed", [False, True])
@pytest.mark.parametrize("name", SYSTEM)
def test_the_journal_may_fail(journal_bench: JournalBench, name: str, is_resumed: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    """At any call, of a new run and of one that goes on: retried or told with the command; never a wrong mark."""
    assert check_journal(journal_bench, name, most=12, is_resumed=is_resumed) >= 24


@pytest.mark.long
@pytest.mark.parametrize("is_resumed", [False, True])
@pytest.mark.parametrize("name", SYSTEM)
def test_the_journal_may_fail_at_length(journal_bench: JournalBench, name: str, is_resumed: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    """All calls."""
    assert check_journal(journal_bench, name, most=ALWAYS, is_resumed=is_resumed) >= 60
