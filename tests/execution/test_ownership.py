"""One run at a time writes an output; a dead one is told from a living one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from convolume.errors import InputError
from convolume.execution import ownership
from convolume.execution.ownership import SILENT_S, Claim, Owner, kept_alive

if TYPE_CHECKING:
    from pathlib import Path

# Takes an output, says so, and waits for its death.
TAKER = """
import sys, time
from convolume.execution.ownership import Claim
Claim.take("out.zarr", sys.argv[1])
print("taken", flush=True)
time.sleep(60)
"""


def taken_elsewhere(folder: Path) -> subprocess.Popen[str]:
    """Let another process take the output."""
    taker = subprocess.Popen([sys.executable, "-c", TAKER, str(folder)], stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert taker.stdout is not None
    assert taker.stdout.readline() == "taken\n"
    return taker


def left_by(folder: Path, owner: Owner, silent_s: float = 0.0) -> None:
    """Leave an owner's file that was last touched some time ago."""
    file = folder / "owner-0001.json"
    file.write_text(json.dumps(asdict(owner)))
    then = time.time() - silent_s
    os.utime(file, (then, then))


def test_a_living_owner_is_not_disturbed_and_a_dead_one_is_followed(tmp_path: Path) -> None:
    """By any other process; a killed one that its parent has not waited for is dead too."""
    taker = taken_elsewhere(tmp_path)
    with taker:
        message = (
            rf"^out\.zarr: is being written by process {taker.pid} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\S*; "
            "wait for it or stop it, or choose another path$"
        )
        with pytest.raises(InputError, match=message):
            Claim.take("out.zarr", str(tmp_path))
        taker.kill()
        while not os.waitid(os.P_PID, taker.pid, os.WEXITED | os.WNOWAIT):
            pass
        assert Claim.take("out.zarr", str(tmp_path)).is_held()


def test_a_released_output_is_free_at_once(tmp_path: Path) -> None:
    """And whoever had it has it no more."""
    first = Claim.take("out.zarr", str(tmp_path))
    with pytest.raises(InputError, match=f"by process {os.getpid()} on"):
        Claim.take("out.zarr", str(tmp_path))
    with kept_alive((first,)):
        assert first.is_held()
    assert not first.is_held()
    second = Claim.take("out.zarr", str(tmp_path))
    assert (second.is_held(), first.is_held(), second.number) == (True, False, 2)
    second.forget()
    assert not second.is_held()
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_another_process_got_again(tmp_path: Path) -> None:
    """A process is known by its number and by its start."""
    owner = replace(Owner.this_process(), started_s=time.time() - 1e6)
    left_by(tmp_path, owner)
    assert Claim.take("out.zarr", str(tmp_path)).number == 2


@pytest.mark.parametrize(("silent_s", "alive"), [(SILENT_S / 2, True), (SILENT_S * 2, False)])
def test_an_owner_on_another_machine_is_known_by_its_silence(tmp_path: Path, silent_s: float, *, alive: bool) -> None:
    """Its processes cannot be seen from here."""
    left_by(tmp_path, replace(Owner.this_process(), machine="elsewhere", host="elsewhere"), silent_s)
    if alive:
        with pytest.raises(InputError, match=re.escape(f"by process {os.getpid()} on elsewhere, since ")):
            Claim.take("out.zarr", str(tmp_path))
    else:
        assert Claim.take("out.zarr", str(tmp_path)).is_held()


def test_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are given while a run goes on."""
    monkeypatch.setattr(ownership, "HEARTBEAT_S", 0.01)
    claim = Claim.take("out.zarr", str(tmp_path))
    file = tmp_path / "owner-0001.json"
    os.utime(file, (0, 0))
    with kept_alive((claim,)):
        until = time.monotonic() + 30
        while file.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert file.stat().st_mtime > 0


@pytest.mark.parametrize("links", [True, False])
def test_of_many_only_one_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool) -> None:
    """On file systems without links too."""
    if not links:

        def refuse(_file: Path, _target: Path) -> None:
            raise PermissionError

        monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    begin, claims = threading.Barrier(8), []

    def take() -> None:
        begin.wait()
        with contextlib.suppress(InputError):
            claims.append(Claim.take("out.zarr", str(tmp_path)))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim.is_held() for claim in claims) == 1
