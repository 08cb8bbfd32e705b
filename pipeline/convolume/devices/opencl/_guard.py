"""Which of its default programs a device may compile: tried once, in a process of its own, and remembered on disk."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from convolume.devices._cache import cache_folder, programs_digest, write_json

if TYPE_CHECKING:
    from convolume.devices.opencl._jobs import Numbers, Traits
    from convolume.records import DeviceInfo

__all__ = ["FAMILIES", "FirstTrials", "Guard", "Record", "lock_of", "vector_sizes"]

Template = Literal["generic", "strip", "walk"]

FAMILIES = tuple(f"{template} {sums}" for template in ("generic", "strip", "walk") for sums in ("float32", "float64"))
# Every processor that OpenCL is made for has such vectors: what runs before anything was tried is made for them.
SAFE_BYTES = 16
# A process may die of something else, such as the machine being switched off; seldom twice of the same.
FATAL_DEATHS = 2
COMMAND = (sys.executable, "-m", "convolume.devices.opencl._first_trials")
LIMIT_S = 60.0
# The process touches its lock before every trial: one that is so old was left behind.
STALE_S = 2 * LIMIT_S
LOOK_EVERY_S = 0.2

_logger = logging.getLogger("convolume")
# They outlive what began them; Python complains of those that are forgotten while they run.
_started: list[subprocess.Popen[bytes]] = []


class Guard:
    """What may be compiled for a device; this one trusts the compiler.

    Parameters
    ----------
    info : DeviceInfo
        The device.
    traits : Traits
        What its programs are made for where nothing speaks against it.
    """

    def __init__(self, info: DeviceInfo, traits: Traits) -> None:
        self.info, self.traits = info, traits

    @property
    def is_settled(self) -> bool:
        """Say whether it is known what may be compiled."""
        return True

    def allowed(self, template: Template, numbers: Numbers) -> Traits | None:
        """Return what a program of a family may be made for now; None where it may not be made."""
        return self._traits_of(template, numbers)

    def expected(self, template: Template, numbers: Numbers) -> Traits | None:
        """Return what it may be made for when everything is tried, as far as that is known."""
        return self._traits_of(template, numbers)

    def wait(self) -> None:
        """Return when it is known what may be compiled."""

    def _traits_of(self, template: Template, numbers: Numbers) -> Traits | None:
        del template, numbers
        return self.traits


@dataclass
class Record:
    """What is known of a device's families, as it stands on disk.

    Parameters
    ----------
    settled : dict of str to int
        For each family the bytes of the widest vectors that work; 0 where none do.
    refused : dict of str to str
        Reasons, by family and bytes.
    deaths : dict of str to int
        How often a process died in a trial, by family and bytes.
    trying : str
        Family and bytes of the trial that began and has not ended; empty between trials.
    """

    settled: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    trying: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what is on disk; nothing where that is missing or broken."""
        with suppress(OSError, ValueError, TypeError):
            record = cls(**json.loads(path.read_text(encoding="utf-8")))
            if all(isinstance(each, dict) for each in (record.settled, record.refused, record.deaths)):
                return record
        return cls()

    def write(self, path: Path) -> None:
        """Put it on disk."""
        write_json(path, asdict(self))

    @property
    def is_complete(self) -> bool:
        """Say whether nothing is left to try."""
        return all(isinstance(self.settled.get(label), int) for label in FAMILIES)


def vector_sizes(traits: Traits) -> list[int]:
    """Return the bytes of vectors to try, widest first.

    Examples
    --------
    >>> from convolume.devices.opencl._jobs import Traits
    >>> vector_sizes(Traits(on_cpu=True, vector_bytes=64, loose_pointers=True))
    [64, 32, 16]
    """
    sizes = [traits.vector_bytes]
    while sizes[-1] // 2 >= SAFE_BYTES:
        sizes.append(sizes[-1] // 2)
    return sizes


class FirstTrials(Guard):
    """What may be compiled, by trials of every family in a process beside this one.

    Until they have ended, here or in another process, the generic program alone is made, for the narrowest vectors; so
    nobody waits. What is found stays on disk, for device, driver, vectors and programs; where nothing can be written,
    every process tries for itself. `path` is that of the record, `process` the one that tries, if it is this one's.
    """

    def __init__(self, info: DeviceInfo, traits: Traits) -> None:
        super().__init__(info, traits)
        self.path = _folder() / f"{_key(info, traits)}.json"
        self._record, self._at_start = Record.read(self.path), Record()
        self._is_settled = False
        self.process: subprocess.Popen[bytes] | None = None
        self._looking, self._look_again = threading.Lock(), 0.0
        self._settle()

    @property
    def is_settled(self) -> bool:
        """Say whether it is known what may be compiled; begin to find out where nobody does."""
        if not self._is_settled and time.monotonic() >= self._look_again and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._look_again = time.monotonic() + LOOK_EVERY_S
                self._looking.release()
        return self._is_settled

    def allowed(self, template: Template, numbers: Numbers) -> Traits | None:
        """Return what a program may be made for now."""
        if self.is_settled:
            return self._traits_of(template, numbers)
        narrow = replace(self.traits, vector_bytes=min(SAFE_BYTES, self.traits.vector_bytes))
        return narrow if template == "generic" else None

    def wait(self) -> None:
        """Return when the trials have ended."""
        while not self.is_settled:
            time.sleep(LOOK_EVERY_S / 4)

    def _traits_of(self, template: Template, numbers: Numbers) -> Traits | None:
        vector_bytes = self._record.settled.get(f"{template} {numbers.sum}", self.traits.vector_bytes)
        if not vector_bytes and template != "generic":
            return None
        return replace(self.traits, vector_bytes=vector_bytes or SAFE_BYTES)

    def _settle(self) -> None:
        if self._record.is_complete:
            self._is_settled = True
            for trial, reason in self._record.refused.items():
                _logger.info("%s: no programs of %s bytes: %s", self.info.name, trial, reason)

    def _look(self) -> None:
        self._record = Record.read(self.path)
        self._settle()
        if self._is_settled or (self.process is not None and self.process.poll() is None):
            return
        if self.process is None:
            if _is_taken(lock_of(self.path)):
                self._start()
        elif self._record != self._at_start:
            # It died in a trial, and said so on disk before.
            self._start()
        else:
            self._trust(f"exit code {self.process.returncode}")

    def _start(self) -> None:
        self._at_start = self._record
        request = json.dumps({"info": asdict(self.info), "path": str(self.path)})
        try:
            self.process = _spawned(request)
        except OSError as error:
            self._trust(str(error))

    def _trust(self, reason: str) -> None:
        """Go on as if everything worked: a filter that is slow for ever is worse than a compiler that might die."""
        _logger.warning(
            "%s: its programs are tried in a process of their own, which went wrong (%s); they are used untried",
            self.info.name,
            reason,
        )
        lock_of(self.path).unlink(missing_ok=True)
        self._is_settled = True


def _spawned(request: str) -> subprocess.Popen[bytes]:
    """Return the process that tries; it outlives this one, and keys that are pressed in its terminal."""
    process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _started.append(process)
    if process.stdin is not None:
        # One that could not begin does not read.
        with suppress(OSError), process.stdin as stdin:
            stdin.write(request.encode())
    return process


def _key(info: DeviceInfo, traits: Traits) -> str:
    told: tuple[Any, ...] = (info.platform, info.name, info.driver, traits, info.has_float64, programs_digest())
    return sha256(repr(told).encode()).hexdigest()[:24]


def lock_of(path: Path) -> Path:
    """Return the lock of a record: who has it tries."""
    return path.with_suffix(".lock")


def _is_taken(lock: Path) -> bool:
    """Take a lock; say whether that went well. One that was left behind is taken over, by one of those who see it."""
    with suppress(OSError):
        if time.time() - lock.stat().st_mtime > STALE_S:
            lock.unlink()
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError:
        return False
    return True


def _folder() -> Path:
    """Return the folder of records: the user's, or one of this process where that cannot be written."""
    with suppress(OSError, RuntimeError):
        folder = cache_folder() / "trials"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    own = Path(tempfile.mkdtemp(prefix="convolume-trials-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own
