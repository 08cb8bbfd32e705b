"""A source, a sink, a journal and a device that fail on demand: at the n-th call of all, once or from then on.

Examples
--------
>>> fuse = Fuse(at_call=2, error=lambda: OSError(5, "Input/output error"), times=1)
>>> fuse.passes("read")
>>> fuse.passes("write")
Traceback (most recent call last):
OSError: [Errno 5] Input/output error
>>> fuse.passes("write")
>>> fuse.calls
3
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convolume.devices import Device
from convolume.execution.journal import Journal
from convolume.execution.ownership import Claim
from convolume.stores import Identity, Sink, Source
from convolume.stores._interfaces import nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from convolume.devices import Pass, Voxels
    from convolume.execution.journal import Coverage, Mark
    from convolume.numerics import Precision
    from convolume.regions import Region
    from convolume.stencil import Stencil
    from convolume.stores._interfaces import Advance, Windows

__all__ = [
    "FailingClaim",
    "FailingDevice",
    "FailingJournal",
    "FailingSink",
    "FailingSource",
    "Fuse",
    "HungError",
    "time_limit",
]


@dataclass
class Fuse:
    """Counts the calls of all that hold it, and raises at the n-th, as often as it was told to.

    Parameters
    ----------
    at_call : int
        The first call that fails, counted from 1; 0 lets all pass.
    error : callable
        Makes what is raised.
    times : int
        So many calls fail, one after the other.
    kinds : collection of str
        Only calls of these names count: ``read``, ``write``, ``correlate``, ``append``, …; all where none is named.
    """

    at_call: int
    error: Callable[[], Exception]
    times: int = 1
    kinds: frozenset[str] = frozenset()
    calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def passes(self, kind: str) -> None:
        """Count a call, and fail if it is its turn."""
        if self.kinds and kind not in self.kinds:
            return
        with self._lock:
            self.calls += 1
            is_turn = 0 < self.at_call <= self.calls < self.at_call + self.times
        if is_turn:
            raise self.error()


class FailingSource(Source):
    """A source whose reads go through a fuse."""

    def __init__(self, inner: Source, fuse: Fuse) -> None:
        self.inner, self.fuse = inner, fuse
        self.path, self.info = inner.path, inner.info
        self.crosses_processes = inner.crosses_processes

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the inner one says."""
        return self.inner.metadata

    def prepare(self) -> None:
        """Prepare, or fail."""
        self.fuse.passes("prepare")
        self.inner.prepare()

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Read, or fail."""
        self.fuse.passes("read")
        return self.inner.read(region)

    def signature(self) -> str:
        """Return what the inner one says."""
        return self.inner.signature()

    def files(self, region: Region) -> tuple[str, ...]:
        """Return those of the inner one."""
        return self.inner.files(region)

    def identity(self) -> Identity:
        """Say it, or fail."""
        self.fuse.passes("identity")
        return self.inner.identity()


class FailingSink(Sink):
    """A sink whose calls go through a fuse."""

    def __init__(self, inner: Sink, fuse: Fuse) -> None:
        self.inner, self.fuse = inner, fuse
        self.path, self.levels, self.write_unit = inner.path, inner.levels, inner.write_unit
        self.crosses_processes = inner.crosses_processes

    def check(self) -> None:
        """Check; nothing has begun that could fail."""
        self.inner.check()

    def create(self) -> None:
        """Create, or fail."""
        self.fuse.passes("create")
        self.inner.create()

    def write(self, level: int, region: Region, voxels: npt.NDArray[Any]) -> int:
        """Write, or fail."""
        self.fuse.passes("write")
        return self.inner.write(level, region, voxels)

    def read(self, level: int, region: Region) -> npt.NDArray[Any]:
        """Read, or fail."""
        self.fuse.passes("read back")
        return self.inner.read(level, region)

    def finish(self, provenance: Mapping[str, Any], windows: Windows, advance: Advance = nothing) -> None:
        """Finish, or fail."""
        self.fuse.passes("finish")
        self.inner.finish(provenance, windows, advance)


@dataclass(frozen=True)
class FailingClaim(Claim):
    """A claim whose looks at who owns an output go through a fuse."""

    fuse: Fuse = field(kw_only=True)

    def check(self) -> None:
        """Check, or fail."""
        self.fuse.passes("check")
        super().check()

    def forget(self) -> None:
        """Forget, or fail."""
        self.fuse.passes("forget")
        super().forget()


@dataclass(frozen=True)
class FailingJournal(Journal):
    """A journal whose calls, and its claim's, go through a fuse: before they do anything, and when it is done."""

    fuse: Fuse = field(kw_only=True)

    @classmethod
    def of(cls, journal: Journal, fuse: Fuse) -> FailingJournal:
        """Return the same journal with a fuse."""
        claim = journal.claim
        failing = claim and FailingClaim(claim.output, claim.folder, claim.number, claim.token, fuse=fuse)
        return cls(journal.folder, journal.run, journal.units, failing, fuse=fuse)

    def append(self, mark: Mark) -> None:
        """Append, or fail, or fail though it is appended."""
        self.fuse.passes("append")
        super().append(mark)
        self.fuse.passes("appended")

    def marks(self) -> Iterator[Mark]:
        """Yield marks, or fail before the first or behind the last."""
        self.fuse.passes("marks")
        yield from super().marks()
        self.fuse.passes("all marks")

    def merge(self, coverage: Coverage) -> None:
        """Merge, or fail, or fail though it is merged."""
        self.fuse.passes("merge")
        super().merge(coverage)
        self.fuse.passes("merged")

    def clear(self) -> None:
        """Clear, or fail, or fail though it is cleared."""
        self.fuse.passes("clear")
        super().clear()
        self.fuse.passes("cleared")


class FailingDevice(Device):
    """A device whose computations go through a fuse."""

    def __init__(self, inner: Device, fuse: Fuse) -> None:
        self.inner, self.fuse, self.info = inner, fuse, inner.info

    def correlate(
        self, padded: npt.NDArray[Any], stencil: Stencil, out: npt.NDArray[Any], precision: Precision
    ) -> None:
        """Compute, or fail."""
        self.fuse.passes("correlate")
        self.inner.correlate(padded, stencil, out, precision)

    def correlate_passes(self, voxels: Voxels, passes: Sequence[Pass], out: Voxels, precision: Precision) -> bool:
        """Compute or decline, or fail."""
        self.fuse.passes("correlate")
        return self.inner.correlate_passes(voxels, passes, out, precision)


class HungError(BaseException):
    """Something took longer than it may; no ``except Exception`` keeps it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `HungError` in the main thread where what is inside takes longer.

    Examples
    --------
    >>> with time_limit(10.0):
    ...     1 + 1
    2
    """

    def ring(_number: int, _frame: Any) -> None:
        message = f"not done after {seconds} s"
        raise HungError(message)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
