"""Runs on one machine know of each other."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import convolume
from convolume.execution import neighbours
from convolume.execution.neighbours import Share, announced, neighbours_note
from convolume.execution.ownership import Owner
from convolume.records import DeviceInfo
from convolume.stores import memory

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
CARD = DeviceInfo("Fast Card", "opencl", "nvidia/0", "gpu", memory_bytes=1000 * MIB)
# Says what it may take, says so, and waits to be told to end.
OTHER = """
import sys
from convolume.execution.neighbours import Share, announced
with announced(Share(*map(int, sys.argv[1:3]), ("nvidia/0", "nvidia/1"))):
    print("announced", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a cache of its own, and the machine a memory that is known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(neighbours, "machine_memory_bytes", lambda: 4000 * MIB)
    return tmp_path / "convolume" / "runs"


def other(host_mib: int, device_mib: int) -> subprocess.Popen[str]:
    """Start a process that announces a run."""
    command = [sys.executable, "-c", OTHER, str(host_mib * MIB), str(device_mib * MIB)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert started.stdout is not None
    assert started.stdout.readline() == "announced\n"
    return started


def test_a_run_alone_is_told_of_nobody(folder: Path) -> None:
    """And leaves nothing."""
    with announced(Share(MIB)):
        assert len(list(folder.iterdir())) == 1
    assert list(folder.iterdir()) == []
    assert neighbours_note(Share(MIB), CARD) == ()


def test_what_two_runs_may_take_together_is_told() -> None:
    """Of the machine, and of a card that both use."""
    lacks = "; that is more than there is: wait for it, or give each less `memory:`"
    with other(2000, 600) as process:
        told = {
            (host, device, name): neighbours_note(Share(host * MIB, device * MIB, (name,)), CARD)
            for host, device, name in [
                (1000, 0, "cpu/0"),
                (1000, 300, "nvidia/1"),
                (1000, 300, "nvidia/2"),
                (2001, 300, "nvidia/2"),
                (1000, 401, "nvidia/0"),
            ]
        }
        process.communicate()
    where = f"another run is under way on this machine, in process {process.pid}: with this one up to "
    assert {case: note.removeprefix(where) for case, (note,) in told.items()} == {
        (1000, 0, "cpu/0"): "3,000 of 4,000 MiB of its memory",
        (1000, 300, "nvidia/1"): "3,000 of 4,000 MiB of its memory, and 900 of 1,000 MiB of Fast Card's",
        (1000, 300, "nvidia/2"): "3,000 of 4,000 MiB of its memory",
        (2001, 300, "nvidia/2"): f"4,001 of 4,000 MiB of its memory{lacks}",
        (1000, 401, "nvidia/0"): f"3,000 of 4,000 MiB of its memory, and 1,001 of 1,000 MiB of Fast Card's{lacks}",
    }


def test_a_killed_run_is_forgotten(folder: Path) -> None:
    """It could not take back what it said; nor could one before the machine started anew, or one that left no sense."""
    with other(1, 0) as process:
        process.kill()
    before = replace(Owner.this_process(), machine="before it started anew")
    (folder / "before.json").write_text(json.dumps({"owner": asdict(before), "share": asdict(Share(MIB))}))
    (folder / "nonsense.json").write_text("{}")
    elsewhere = replace(before, host="another")
    (folder / "elsewhere.json").write_text(json.dumps({"owner": asdict(elsewhere), "share": asdict(Share(MIB))}))
    assert neighbours_note(Share(MIB), CARD) == ()
    assert [file.name for file in folder.iterdir()] == ["elsewhere.json"]


def test_plans_and_records_tell_of_other_runs() -> None:
    """All of them in one sentence."""
    memory.put("ones", np.ones((8, 8), np.float32))
    workflow = {
        "input": {"path": "memory:ones"},
        "outputs": {"same": {"path": "memory:same", "if_exists": "overwrite"}},
    }
    with other(100, 0) as first, other(100, 0) as second:
        notes = convolume.plan(workflow, config={"cluster": "in_process"}).notes, convolume.run(workflow).notes
        first.communicate()
        second.communicate()
    for (note,) in notes:
        assert note.startswith("2 other runs are under way on this machine, in processes ")
        assert {str(first.pid), str(second.pid)} == set(note.partition("processes ")[2].partition(":")[0].split(", "))
    assert convolume.plan(workflow, config={"cluster": "in_process"}).notes == ()


def test_no_run_fails_for_want_of_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be told is not."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with announced(Share(MIB)):
        assert neighbours_note(Share(MIB), CARD) == ()
