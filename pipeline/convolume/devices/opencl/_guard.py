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

__all__ = [
    "FAMILIES",
    "FirstTrials",
    "Guard",
    "Known",
    "Record",
    "Template",
    "give_up",
    "guard_of",
    "lock_of",
    "vector_sizes",
]

Template = Literal["strip", "walk", "box"]

TEMPLATES: tuple[Literal["generic"] | Template, ...] = ("generic", "strip", "walk", "box")
FAMILIES = tuple(f"{template} {sums}" for template in TEMPLATES for sums in ("float32", "float64"))
# Nothing is tried where this is set: the compiler is trusted.
VARIABLE = "CONVOLUME_TRUST_COMPILER"
# Every processor that OpenCL is made for has such vectors: what runs before anything was tried is made for them.
SAFE_BYTES = 16
# A process may die of something else, such as the machine being switched off; seldom twice of the same.
FATAL_DEATHS = 2
COMMAND = (sys.executable, "-m", "convolume.devices.opencl._first_trials")
LIMIT_S = 60.0
# The process touches its lock before every trial: one that is so old was left behind.
STALE_S = 2 * LIMIT_S
LOOK_EVERY_S = 0.2
# A process that is ended takes some milliseconds to be gone.
PATIENCE_AT_EXIT_S = 0.1

_logger = logging.getLogger("convolume")


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

    def generic(self, numbers: Numbers) -> Traits:
        """Return what the generic program is made for now: there is always one."""
        del numbers
        return self.traits

    def allowed(self, template: Template, numbers: Numbers) -> Traits | None:
        """Return what a program of a family may be made for now; None where it may not be made."""
        return self.expected(template, numbers)

    def expected(self, template: Template, numbers: Numbers) -> Traits | None:
        """Return what it may be made for when everything is tried, as far as that is known."""
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
    is_finished : bool
        Whether the process that tries has done all that it was to do.
    """

    settled: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    trying: str = ""
    is_finished: bool = False

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
        return self.is_finished and all(isinstance(self.settled.get(label), int) for label in FAMILIES)


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


class Known(Guard):
    """What may be compiled, by a record; families that it does not name may be."""

    def __init__(self, info: DeviceInfo, traits: Traits, record: Record) -> None:
        super().__init__(info, traits)
        self._record = record

    def generic(self, numbers: Numbers) -> Traits:
        """Return what the generic program is made for; vectors that every processor has, where none were found."""
        return replace(self.traits, vector_bytes=self._vector_bytes("generic", numbers) or SAFE_BYTES)

    def expected(self, template: Template, numbers: Numbers) -> Traits | None:
        """Return what a program of a family may be made for."""
        vector_bytes = self._vector_bytes(template, numbers)
        return replace(self.traits, vector_bytes=vector_bytes) if vector_bytes else None

    def _vector_bytes(self, template: str, numbers: Numbers) -> int:
        return self._record.settled.get(f"{template} {numbers.sum}", self.traits.vector_bytes)


class FirstTrials(Known):
    """What may be compiled, by trials of every family in a process beside this one, which ends with it.

    Until they have ended, here or in another process, the generic program alone is made, for the narrowest vectors; so
    nobody waits. What is found stays on disk, for device, driver, vectors and programs; where nothing can be written,
    every process tries for itself. `path` is that of the record, `process` the one that tries, if it is this one's;
    it is ended with this one, and ends by itself where this one is killed: its standard input is closed then.
    """

    def __init__(self, info: DeviceInfo, traits: Traits) -> None:
        self.path = _folder() / f"{_key(info, traits)}.json"
        super().__init__(info, traits, Record.read(self.path))
        self._at_start = Record()
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

    def generic(self, numbers: Numbers) -> Traits:
        """Return what the generic program is made for now."""
        if self.is_settled:
            return super().generic(numbers)
        return replace(self.traits, vector_bytes=min(SAFE_BYTES, self.traits.vector_bytes))

    def allowed(self, template: Template, numbers: Numbers) -> Traits | None:
        """Return what a program may be made for now."""
        return self.expected(template, numbers) if self.is_settled else None

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
        try:
            self.process = _spawned(self.info, self.path)
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


def guard_of(info: DeviceInfo, traits: Traits) -> Guard:
    """Return what guards the devices of runs: first trials, unless the user trusts the compiler."""
    guard = Guard if os.environ.get(VARIABLE, "0") != "0" else FirstTrials
    return guard(info, traits)


def _spawned(info: DeviceInfo, path: Path) -> subprocess.Popen[bytes]:
    """Return the process that tries; keys that are pressed in the terminal of this one do not reach it."""
    process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Whatever it opens, it tries nothing in yet another process.
        env={**os.environ, VARIABLE: "1"},
        start_new_session=True,
    )
    atexit.register(_end, process, path)
    if process.stdin is not None:
        request = json.dumps({"info": asdict(info), "path": str(path)})
        # One that could not begin does not read.
        with suppress(OSError):
            process.stdin.write(f"{request}\n".encode())
            process.stdin.flush()
    return process


def _end(process: subprocess.Popen[bytes], path: Path) -> None:
    """End a process that tries."""
    if process.poll() is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_AT_EXIT_S)
        give_up(path)
    if process.stdin is not None:
        process.stdin.close()


def give_up(path: Path) -> None:
    """Leave trials to others; what is being tried has done no harm."""
    record = Record.read(path)
    if not record.is_complete:
        with suppress(OSError):
            record.trying = ""
            record.write(path)
            lock_of(path).unlink()


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
