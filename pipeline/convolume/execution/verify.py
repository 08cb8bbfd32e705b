"""Looking at an output again: every block is read and compared with the mark that was left when it was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convolume import stores
from convolume.clusters import Task
from convolume.errors import ConvolumeError, InputError
from convolume.execution.journal import Coverage, Journal, voxel_digest
from convolume.execution.run_file import RunFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.clusters import Cluster
    from convolume.execution.journal import Mark
    from convolume.regions import Region
    from convolume.stores import Written

__all__ = ["Flaw", "Verdict", "verify"]


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with one file of a block: it is ``damaged`` or ``missing``."""

    what: str
    level: int
    index: tuple[int, ...]
    place: str
    file: str
    cause: str

    def __str__(self) -> str:
        """Return it as a line."""
        return f"{self.what}: level {self.level}, block {self.index}, {self.place}: {self.file} ({self.cause})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out for one output.

    `unmarked_voxels` are those of all levels that no mark speaks for: a run that is not finished has some.
    """

    path: str
    block_count: int
    flaws: tuple[Flaw, ...]
    unmarked_voxels: int

    @property
    def is_whole(self) -> bool:
        """Say whether every voxel is what was written."""
        return not self.flaws and not self.unmarked_voxels


def verify(path: str, cluster: Cluster) -> Verdict:
    """Read every block of an output, those of its pyramid too, and compare it with its mark.

    Parameters
    ----------
    path : str
        The output, finished or not.
    cluster : Cluster
        Where blocks are read; a bounded number at a time.

    Raises
    ------
    InputError
        There is no output, or it has no marks.
    """
    folder = stores.journal_folder(path)
    file = None if folder is None else RunFile.read(folder)
    written = stores.open_written(path, tuple(zip(file.shapes, file.units, strict=True)) if file else ())
    if folder is None or file is None:
        message = f"{path}: has no marks to be compared with; a run leaves them in {folder}, which stays beside it"
        raise InputError(message)
    coverage = Coverage(file.shapes, file.units)
    count, flaws = 0, []
    for found in cluster.map_unordered(_tasks(written, Journal(folder, file.run, file.units), coverage)):
        count += 1
        flaws += found
    unmarked = sum(coverage.missing_voxels(level) for level in range(len(file.shapes)))
    return Verdict(path, count, tuple(sorted(flaws, key=lambda flaw: (flaw.level, flaw.index, flaw.file))), unmarked)


def _tasks(written: Written, journal: Journal, coverage: Coverage) -> Iterator[Task]:
    for mark in journal.marks():
        if coverage.add(mark):
            yield Task(f"verify level {mark.level}", mark.index, flaws_of, (written, mark))


def flaws_of(written: Written, mark: Mark) -> list[Flaw]:
    """Return what is wrong with a block, file by file; nothing where its voxels are those that were written."""
    flaws = []
    files = written.units(mark.level, mark.region)
    for (file, region), digest in zip(files, mark.digests, strict=True):
        cause = _difference(written, mark.level, region, digest)
        if cause:
            what = "damaged" if Path(file).exists() else "missing"
            flaws.append(Flaw(what, mark.level, mark.index, f"voxels {region}", file, cause))
    return flaws


def _difference(written: Written, level: int, region: Region, digest: int) -> str:
    try:
        found = voxel_digest(written.read(level, region))
    except ConvolumeError:
        return "it cannot be decoded"
    return "" if found == digest else f"its digest is {found:08x}, and {digest:08x} was written"
