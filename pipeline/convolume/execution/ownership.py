"""Who writes an output: one run at a time, told by numbered files of which the last counts.

To take an output over is to make the file of the next number, which only one can. So there is no lock that a dead
process could keep, and a process that comes back from the dead sees that it is not the last any more.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import psutil

from convolume.errors import InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SILENT_S", "Claim", "Owner", "check_free", "kept_alive", "write_whole"]

HEARTBEAT_S = 10.0
# An owner on another machine that gave no sign for so long is dead.
SILENT_S = 120.0
# The system counts a process's start in hundredths of a second, from a clock that may be set.
_SAME_START_S = 2.0


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that writes an output.

    `machine` changes when a machine starts anew; `started_s` is the time at which the process began.
    """

    token: str
    host: str
    machine: str
    pid: int
    started_s: float
    since: str
    released: bool = False

    @classmethod
    def this_process(cls) -> Self:
        """Return this process as a new owner."""
        started_s = psutil.Process().create_time()
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        return cls(uuid4().hex, socket.gethostname(), _machine(), os.getpid(), started_s, since)

    def is_alive(self, silent_s: float) -> bool:
        """Say whether the owner may still write: its process is there, or gave a sign where it cannot be seen."""
        if self.released:
            return False
        if self.machine != _machine():
            return silent_s < SILENT_S
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started_s) < _SAME_START_S
            return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True, slots=True)
class Claim:
    """A run's right to write one output; small, and sent to the workers."""

    output: str
    folder: str
    number: int
    token: str

    @classmethod
    def take(cls, output: str, folder: str) -> Claim:
        """Take an output: nobody has it, or who had it is dead.

        Raises
        ------
        InputError
            Another run is writing it.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        number = check_free(output, folder) + 1
        owner = Owner.this_process()
        claim = cls(output, folder, number, owner.token)
        if not _make(claim._file, owner):
            # Someone was quicker; who it was is known now.
            check_free(output, folder)
            message = f"{output}: another run took it at this moment; run again"
            raise InputError(message)
        return claim

    def is_held(self) -> bool:
        """Say whether the output still belongs to this run."""
        owner = _owner(self._file)
        return owner is not None and owner.token == self.token and not owner.released and not self._next.exists()

    def check(self) -> None:
        """Refuse to write what another run has taken over.

        Raises
        ------
        StorageError
            The output belongs to another run, or to none any more.
        OSError
            Whose it is cannot be read.
        """
        if not self.is_held():
            message = f"{self.output}: another run has taken it over, and this one leaves it alone"
            # Whatever else this run tries will fail too.
            raise StorageError(message)

    def beat(self) -> None:
        """Give a sign of life to those who cannot see this process."""
        if self.is_held():
            os.utime(self._file)

    def release(self) -> None:
        """Let the next run take the output at once."""
        if self.is_held() and (owner := _owner(self._file)) is not None:
            write_whole(self._file, json.dumps({**asdict(owner), "released": True}))

    def forget(self) -> None:
        """Remove what told of owners, where the output is finished."""
        for file in _files(self.folder):
            file.unlink(missing_ok=True)

    @property
    def _file(self) -> Path:
        return _numbered(self.folder, self.number)

    @property
    def _next(self) -> Path:
        return _numbered(self.folder, self.number + 1)


def check_free(output: str, folder: str) -> int:
    """Refuse an output that another run is writing; return the number of the last one that did, 0 if there was none.

    Raises
    ------
    InputError
        Says who writes it, and since when.
    """
    files = _files(folder)
    if not files:
        return 0
    owner = _owner(files[-1])
    if owner is not None and owner.is_alive(_silent_s(files[-1])):
        message = (
            f"{output}: is being written by process {owner.pid} on {owner.host}, since {owner.since}; wait for it or "
            "stop it, or choose another path"
        )
        raise InputError(message)
    return _number(files[-1])


@contextmanager
def kept_alive(claims: tuple[Claim, ...]) -> Iterator[None]:
    """Give signs of life while the block runs, and release the claims when it is left, however it is left."""
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(HEARTBEAT_S):
            for claim in claims:
                with suppress(OSError):
                    claim.beat()

    thread = threading.Thread(target=beat, name="convolume heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        for claim in claims:
            with suppress(OSError):
                claim.release()


def write_whole(file: Path, text: str) -> None:
    """Write a small file so that it is there whole, or as it was before."""
    temporary = file.with_name(f"{file.name}.{uuid4().hex}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _make(file: Path, owner: Owner) -> bool:
    """Make an owner's file, whole, unless there is one; say whether it was made."""
    text = json.dumps(asdict(owner), indent=2)
    temporary = file.with_name(f"{file.name}.{owner.token}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        try:
            file.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            with suppress(FileExistsError), file.open("x", encoding="utf-8") as made:
                made.write(text)
                return True
            return False
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _owner(file: Path) -> Owner | None:
    try:
        return Owner(**json.loads(file.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _files(folder: str) -> list[Path]:
    """Return the owners' files, the last one last."""
    return sorted(Path(folder).glob("owner-*.json"), key=_number)


def _numbered(folder: str, number: int) -> Path:
    return Path(folder, f"owner-{number:04}.json")


def _number(file: Path) -> int:
    return int(file.stem.partition("-")[2])


def _silent_s(file: Path) -> float:
    """Return for how long a file was not touched, by the clock of the disk that it lies on."""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part") as probe:
            return Path(probe.name).stat().st_mtime - file.stat().st_mtime
    except OSError:
        return time.time() - file.stat().st_mtime


@cache
def _machine() -> str:
    """Return what tells this machine, since it was started, from others; containers have processes of their own."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
