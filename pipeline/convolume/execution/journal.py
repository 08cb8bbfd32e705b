"""The journal of an output: a mark for every block that is done, with the digests of its voxels.

A mark is a line that is appended after the block's data, to a file that belongs to one process. A line carries a
checksum that begins with the run's name, so that neither half a line nor a line of another run is taken for a mark.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from zlib_ng import zlib_ng

from convolume.execution.patience import patiently
from convolume.records import BlockRecord
from convolume.regions import BlockGrid, Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convolume.execution.ownership import Claim

__all__ = ["Coverage", "Journal", "Mark", "check_claims", "leave_marks", "voxel_digest"]

_ENDING = ".marks"
_MERGED = f"all{_ENDING}"
# With the process's number, what tells this process from all others that ever wrote here.
_STARTED = time.time_ns()


@dataclass(frozen=True, slots=True)
class Mark:
    """One block of one level is written.

    Parameters
    ----------
    level : int
        0 is the image itself, the others are its pyramid.
    index : tuple of int
        The block's place in the grid of its level.
    region : Region
        Its voxels.
    digests : tuple of int
        CRC-32 of the voxels of every file that the block lies in, in the order of the grid, see `voxel_digest`.
    record : BlockRecord, optional
        What the block took, for the run's record; of level 0 only.
    """

    level: int
    index: tuple[int, ...]
    region: Region
    digests: tuple[int, ...]
    record: BlockRecord | None = None

    def line(self, run: str) -> bytes:
        r"""Return the mark as a line of a run's journal.

        Examples
        --------
        >>> Mark(0, (1,), Region((4,), (8,)), (7, 10)).line("a run")
        b'f19bee50 {"level":0,"index":[1],"start":[4],"stop":[8],"digests":"00000007 0000000a"}\n'
        """
        values: dict[str, Any] = {
            "level": self.level,
            "index": self.index,
            "start": self.region.start,
            "stop": self.region.stop,
            "digests": " ".join(f"{digest:08x}" for digest in self.digests),
        }
        if self.record is not None:
            values["record"] = asdict(self.record)
        text = json.dumps(values, separators=(",", ":")).encode()
        return b"%08x %s\n" % (_checksum(run, text), text)

    @classmethod
    def from_line(cls, line: bytes, run: str) -> Self | None:
        """Return the mark that a line holds; None for a torn line, a damaged one, or one of another run."""
        checksum, _, text = line[:-1].partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % _checksum(run, text):
            return None
        values = json.loads(text)
        record = values.get("record")
        return cls(
            level=values["level"],
            index=tuple(values["index"]),
            region=Region(tuple(values["start"]), tuple(values["stop"])),
            digests=tuple(int(digest, 16) for digest in values["digests"].split()),
            record=None if record is None else BlockRecord(**{name: _frozen(each) for name, each in record.items()}),
        )


@dataclass(frozen=True, slots=True)
class Journal:
    """The marks of one output under one run; small, and sent to the workers.

    Parameters
    ----------
    folder : str
        Where the files lie, beside the output.
    run : str
        The run's name: marks of others do not count.
    units : tuple of tuple of int
        Extents of what lies in one file, for every level.
    claim : Claim, optional
        Whoever writes holds it; None to read.
    """

    folder: str
    run: str
    units: tuple[tuple[int, ...], ...]
    claim: Claim | None = None

    def mark(
        self,
        level: int,
        index: tuple[int, ...],
        region: Region,
        voxels: npt.NDArray[Any],
        record: BlockRecord | None = None,
    ) -> None:
        """Mark a block whose voxels are written; see `append`."""
        files = BlockGrid(region.shape, self.units[level])
        digests = tuple(voxel_digest(voxels[part.slices]) for _, part in files)
        self.append(Mark(level, index, region, digests, record))

    def append(self, mark: Mark) -> None:
        """Leave a mark, in this process's file.

        Raises
        ------
        RunError
            Another run has taken the output over.
        OSError
            The file system refuses.
        """
        if self.claim is not None:
            self.claim.check()
        name = f"{socket.gethostname()}-{os.getpid()}-{_STARTED:x}{_ENDING}"
        with Path(self.folder, name).open("ab", buffering=0) as file:
            # A line that a full disk cut short must not take this one with it.
            torn = b"\n" if file.tell() and not _ends_whole(file.name) else b""
            line = torn + mark.line(self.run)
            if file.write(line) != len(line):
                message = f"{file.name}: a mark was cut short; is the disk full?"
                raise OSError(message)

    def marks(self) -> Iterator[Mark]:
        """Yield all marks, those of a block that was done twice too."""
        for file in sorted(Path(self.folder).glob(f"*{_ENDING}")):
            with file.open("rb") as lines:
                for line in lines:
                    if (mark := Mark.from_line(line, self.run)) is not None:
                        yield mark

    def merge(self, coverage: Coverage) -> None:
        """Put all marks into one file, each block once, and tell `coverage`, which knows of none, of them."""
        merged, part = Path(self.folder, _MERGED), Path(self.folder, f"{_MERGED}.part")
        with part.open("wb") as lines:
            lines.writelines(mark.line(self.run) for mark in self.marks() if coverage.add(mark))
        part.replace(merged)
        for file in Path(self.folder).glob(f"*{_ENDING}"):
            if file != merged:
                file.unlink()

    def clear(self) -> None:
        """Forget all marks."""
        for file in Path(self.folder).glob(f"*{_ENDING}*"):
            file.unlink(missing_ok=True)


@dataclass
class Coverage:
    """Which blocks of an output have a mark.

    Parameters
    ----------
    shapes : tuple of tuple of int
        Extents of every level.
    units : tuple of tuple of int
        Extents of what one writer owns, a level each: every block begins with one.
    """

    shapes: tuple[tuple[int, ...], ...]
    units: tuple[tuple[int, ...], ...]
    voxels: list[int] = field(init=False)
    _begun: list[npt.NDArray[np.bool_]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.voxels = [0] * len(self.shapes)
        counts = [
            tuple(-(-n // u) for n, u in zip(shape, unit, strict=True))
            for shape, unit in zip(self.shapes, self.units, strict=True)
        ]
        self._begun = [np.zeros(count, bool) for count in counts]

    def add(self, mark: Mark) -> bool:
        """Take note of a mark; say whether it is the first of its block."""
        begun, place = self._begun[mark.level], self._place(mark.level, mark.region)
        is_new = not begun[place]
        begun[place] = True
        self.voxels[mark.level] += is_new * mark.region.size_voxels
        return is_new

    def holds(self, level: int, region: Region) -> bool:
        """Say whether a block has a mark."""
        return bool(self._begun[level][self._place(level, region)])

    def missing_voxels(self, level: int) -> int:
        """Return how many voxels of a level no mark speaks for."""
        return prod(self.shapes[level]) - self.voxels[level]

    def _place(self, level: int, region: Region) -> tuple[int, ...]:
        return tuple(a // u for a, u in zip(region.start, self.units[level], strict=True))


def check_claims(journals: Iterable[Journal | None]) -> None:
    """Refuse to write what another run has taken over.

    Raises
    ------
    RunError
        It has one of these outputs, or who has them cannot be read.
    """
    for journal in journals:
        if journal is not None and journal.claim is not None:
            patiently(journal.folder, "whose the output is cannot be read", journal.claim.check)


def leave_marks(
    journals: Iterable[Journal | None], record: BlockRecord, region: Region, results: Iterable[npt.NDArray[Any]]
) -> None:
    """Mark a block of the image as done in the journal of every output that has one; its data are written."""
    for journal, voxels in zip(journals, results, strict=False):
        if journal is not None:
            mark = partial(journal.mark, 0, record.index, region, voxels, record)
            patiently(journal.folder, "a mark cannot be left", mark)


def voxel_digest(voxels: npt.NDArray[Any]) -> int:
    """Return the CRC-32 of voxels in C order, as zlib and gzip count it, ten times as fast.

    Examples
    --------
    >>> f"{voxel_digest(np.frombuffer(b'123456789', np.uint8)):08x}"
    'cbf43926'
    """
    if voxels.flags.c_contiguous:
        return zlib_ng.crc32(voxels.data)
    digest = 0
    for part in voxels:
        digest = zlib_ng.crc32(np.ascontiguousarray(part).data, digest)
    return digest


def _checksum(run: str, text: bytes) -> int:
    return zlib_ng.crc32(text, zlib_ng.crc32(run.encode()))


def _ends_whole(path: str) -> bool:
    with Path(path).open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
