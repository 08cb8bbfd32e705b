"""Runs that are killed for real, at moments drawn from a seed, end as if nothing had happened.

Under ``local`` the client's process is the scheduler and the nannies too: whoever kills one of the three kills it.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import convolume
from convolume.execution.journal import Journal
from convolume.execution.run_file import RunFile
from convolume.image import ImageInfo, default_axes
from convolume.regions import BlockGrid, Region
from convolume.stores import SinkOptions, create_sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

GRID = BlockGrid((64, 192, 192), (16, 32, 32))
OUTPUTS = ("smooth", "copy")
WORKERS = 2
# Runs take three to five seconds on two cores; the first two or three pass before the first block.
LATEST_S = 5.0
SHARE_AMONG_BLOCKS, LATEST_BLOCK_S = 0.8, 0.7
KINDS = (*["client"] * 3, *["worker"] * 2, *["ghost"] * 2, "paused worker", "paused client")
# A worker of a killed client wakes so long after the next attempt began, which takes longer.
WAKE_S = 3.0
PATIENCE_S = 60.0
LEFTOVERS = (".__lock", ".partial", ".part")


def image() -> npt.NDArray[np.float32]:
    """Return voxels of which some blocks are of fill value only."""
    voxels = np.random.default_rng(0).integers(0, 200, GRID.shape).astype(np.float32)
    voxels[:16, :64] = 0
    return voxels


def write_workflow(folder: Path, where: Path) -> Path:
    """Write a workflow whose outputs lie in a folder, and whose input lies in another."""
    outputs: dict[str, Any] = {
        name: {"path": str(folder / f"{name}.ome.zarr"), "chunks": list(GRID.block_shape)} for name in OUTPUTS
    }
    outputs["smooth"]["steps"] = [{"gaussian": {"sigma": 4}}]
    values = {"input": {"path": str(where / "in.ome.zarr")}, "block": list(GRID.block_shape), "outputs": outputs}
    file = folder / "w.yaml"
    file.write_text(json.dumps(values))
    return file


def levels_of(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Return every level of every output."""
    return {
        f"{name}/{level}": np.asarray(zarr.open_array(folder / f"{name}.ome.zarr" / level, mode="r")[...])
        for name in OUTPUTS
        for level in ("0", "1")
    }


@dataclass(frozen=True)
class Undisturbed:
    """A folder with the input, and what a run that nobody disturbs makes of it."""

    folder: Path
    levels: dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Make it, in this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    options = SinkOptions(chunks=(32, 64, 64), pyramid=False)
    sink = create_sink(str(folder / "in.ome.zarr"), ImageInfo(GRID.shape, "float32", default_axes(3)), options)
    sink.create()
    sink.write(0, Region.whole(GRID.shape), image())
    sink.finish({}, ((0.0, 1.0, 0.0, 1.0),))
    convolume.run(write_workflow(folder, folder), config={"cluster": "in_process", "device": "numpy"})
    return Undisturbed(folder, levels_of(folder))


@dataclass
class Attempt:
    """One try at the run, in processes of its own."""

    process: subprocess.Popen[bytes]
    said: Path
    stopped: list[int] = field(default_factory=list)

    @classmethod
    def start(cls, workflow: Path) -> Attempt:
        """Begin."""
        config = f"{workflow.parent}/where.yaml"
        where = {"cluster": "local", "workers": WORKERS, "threads_per_worker": 1, "device": "numpy", "dashboard": False}
        Path(config).write_text(json.dumps(where))
        command = [sys.executable, "-m", "convolume", "run", str(workflow), "--config", config]
        said = workflow.parent / "said.txt"
        with said.open("wb") as file:  # a stopped worker would keep a pipe open
            streams: dict[str, Any] = {"stdout": file, "stderr": subprocess.STDOUT, "start_new_session": True}
            return cls(subprocess.Popen(command, **streams), said)  # noqa: S603 (our own program)

    def workers(self) -> list[int]:
        """Return the worker processes that are there."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                session = (folder / "stat").read_text().rpartition(") ")[2].split()[3]
                command = (folder / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue
            if int(session) == self.process.pid and b"spawn_main" in command:
                found.append(int(folder.name))
        return sorted(found)

    def wait_for_blocks(self) -> None:
        """Wait until blocks are handed out, or the attempt is over."""
        while self.process.poll() is None and "filter: " not in self.said.read_text():
            time.sleep(0.01)

    def end(self) -> str:
        """Return what it said, when all of its processes are gone; what was stopped stays stopped."""
        try:
            self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        until = time.monotonic() + PATIENCE_S
        while set(self.workers()) - set(self.stopped):
            assert time.monotonic() < until, "workers outlive their client"
            time.sleep(0.01)
        return self.said.read_text()


def send(process: int, number: signal.Signals) -> bool:
    """Send a signal; say whether there was someone to get it."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


@dataclass
class Siege:
    """A run that is killed again and again until it is done in spite of it."""

    folder: Path
    draw: random.Random
    kills: int = 0
    blocks_done_again: int = 0
    ghosts: list[int] = field(default_factory=list)

    def marked(self) -> dict[str, set[tuple[int, ...]]]:
        """Return the blocks of the image that have a mark, by output."""
        marked: dict[str, set[tuple[int, ...]]] = {}
        for name in OUTPUTS:
            folder = f"{self.folder}/{name}.ome.zarr.convolume"
            file = RunFile.read(folder)
            journal = None if file is None else Journal(folder, file.run, file.units)
            marked[name] = {mark.index for mark in journal.marks() if mark.level == 0} if journal else set()
        return marked

    def begun(self) -> set[tuple[int, ...]]:
        """Return the blocks of which there are files, whole or half."""
        files = [file for name in OUTPUTS for file in self.folder.glob(f"{name}.ome.zarr/0/c/*/*/*")]
        return {(int(file.parts[-3]), int(file.parts[-2]), int(file.name.partition(".")[0])) for file in files}

    def disturb(self, attempt: Attempt) -> None:
        """Kill or stop one process: at any moment from the start of the attempt, or while blocks are under way."""
        if self.draw.random() < SHARE_AMONG_BLOCKS:
            attempt.wait_for_blocks()
            time.sleep(self.draw.uniform(0, LATEST_BLOCK_S))
        else:
            time.sleep(self.draw.uniform(0.2, LATEST_S))
        kind = self.draw.choice(KINDS)
        pause_s, which, workers = self.draw.uniform(0, 1), self.draw.randrange(WORKERS), attempt.workers()
        victim = workers[which % len(workers)] if workers and "client" not in kind else attempt.process.pid
        if "paused" in kind:
            hit = send(victim, signal.SIGSTOP)
            time.sleep(pause_s)
            send(victim, signal.SIGCONT)
        elif kind == "ghost" and victim != attempt.process.pid and send(victim, signal.SIGSTOP):
            # It comes back from the dead when another client has taken over.
            attempt.stopped.append(victim)
            self.ghosts.append(victim)
            hit = send(attempt.process.pid, signal.SIGKILL)
        else:
            hit = attempt.process.poll() is None and send(victim, signal.SIGKILL)
        self.kills += hit

    def carry_out(self, workflow: Path, most_kills: int) -> None:
        """Run until it is done."""
        while True:
            before = self.marked()
            done = set.intersection(*before.values())
            attempt, ghosts = Attempt.start(workflow), self.ghosts
            self.ghosts = []
            wakings = [Timer(self.draw.uniform(0, WAKE_S), send, (ghost, signal.SIGCONT)) for ghost in ghosts]
            for waking in wakings:
                waking.start()
            if is_disturbed := self.kills < most_kills:
                self.disturb(attempt)
            for waking in wakings:
                waking.join()
            output = attempt.end()
            # A worker that is killed while it starts ends the attempt, and so does a kill of the client.
            assert attempt.process.returncode in ({0, 3, -signal.SIGKILL} if is_disturbed else {0}), output
            told = re.search(r"^filter: 0 of (\d+) block", output, re.MULTILINE)
            if told is not None:
                # Of what is marked nothing is done again. A worker that came back before this attempt had taken the
                # outputs may have marked the one block that it had in hand.
                left = len(GRID) - len(done)
                assert left - len(ghosts) <= int(told[1]) <= left
            if attempt.process.returncode == 0:
                return
            if (self.folder / f"{OUTPUTS[-1]}.ome.zarr/zarr.json").exists() and self.is_closed():
                return
            after = self.marked()
            lost = (self.begun() | set.union(*after.values())) - set.intersection(*after.values())
            self.blocks_done_again += len(lost)
            assert len(lost) <= WORKERS, "more is done again than was in flight"

    def is_closed(self) -> bool:
        """Say whether the run was killed after its very end."""
        files = [RunFile.read(f"{self.folder}/{name}.ome.zarr.convolume") for name in OUTPUTS]
        return all(file is not None and file.state == "finished" for file in files)


@pytest.fixture
def sessions() -> Iterator[None]:
    """Leave no process behind, whatever happened."""
    yield
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == 1 and b"spawn_main" in command and str(sys.executable).encode() in command:
            send(int(folder.name), signal.SIGKILL)


def besiege(folder: Path, undisturbed: Undisturbed, seed: int, kills: int) -> Siege:
    """Carry out one run under so many kills at most, and look at all that it left."""
    folder.mkdir()
    siege = Siege(folder, random.Random(seed))  # noqa: S311 (reproducible is what it must be)
    workflow = write_workflow(folder, undisturbed.folder)
    siege.carry_out(workflow, kills)
    found = levels_of(folder)
    assert found.keys() == undisturbed.levels.keys()
    for name, level in found.items():
        np.testing.assert_array_equal(level, undisturbed.levels[name], f"seed {seed}, {name}")
    for name in OUTPUTS:
        assert convolume.runner.verify(str(folder / f"{name}.ome.zarr"), config={"cluster": "in_process"}).is_whole
        beside = {file.name for file in (folder / f"{name}.ome.zarr.convolume").iterdir()}
        assert beside == {"run.json", "plan.json", "all.marks"}, f"seed {seed}"
    assert not [file for file in folder.rglob("*") if file.name.endswith(LEFTOVERS)], f"seed {seed}"
    return siege


def all_sieges(tmp_path: Path, undisturbed: Undisturbed, first_seed: int, kills: int) -> None:
    """Besiege run after run until so many kills have hit."""
    done, seed = 0, first_seed
    while done < kills:
        siege = besiege(tmp_path / str(seed), undisturbed, seed, min(5, kills - done))
        print(f"seed {seed}: {siege.kills} kills, {siege.blocks_done_again} blocks done again")  # noqa: T201 (shown where it fails)
        done, seed = done + siege.kills, seed + 1
    assert done >= kills


@pytest.mark.usefixtures("sessions")
def test_twenty_kills(tmp_path: Path, undisturbed: Undisturbed) -> None:
    """The same in every run of these tests."""
    all_sieges(tmp_path, undisturbed, first_seed=0, kills=20)


@pytest.mark.long
@pytest.mark.usefixtures("sessions")
def test_five_hundred_kills(tmp_path: Path, undisturbed: Undisturbed) -> None:
    """Under ``pytest -m long``; seeds of its own."""
    all_sieges(tmp_path, undisturbed, first_seed=1000, kills=500)
