"""Outputs that are one file: blocks are gathered in an OME-Zarr beside it, and the file is written from that."""

from __future__ import annotations

import os
import shutil
from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from convolume.errors import InputError
from convolume.regions import Region
from convolume.stores._axes import CANONICAL
from convolume.stores._faults import fault
from convolume.stores._interfaces import Sink, Written, nothing
from convolume.stores._layout import units_of
from convolume.stores._paths import check_creatable
from convolume.stores._zarr_files import WrittenArrays
from convolume.stores.ome_zarr import OmeZarrSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from convolume.image import ImageInfo
    from convolume.stores._interfaces import Advance, IfExists, Layout, SinkOptions, Source, Windows

__all__ = ["SingleFileSink", "WrittenFile", "gathered_at", "in_canonical_order", "journal_folder"]

# Of the gathered image so much is in hand while the file is written, if planes are not larger.
_SLAB_BYTES = 2**27


def journal_folder(path: str) -> str:
    """Return the folder for the marks of an output; its blocks are gathered there, too."""
    return f"{path}.convolume"


def gathered_at(path: str) -> str:
    """Return where blocks are gathered for a file; an empty text where none are."""
    gathered = _gathered_path(path)
    return gathered if Path(gathered).exists() else ""


def _gathered_path(path: str) -> str:
    return f"{journal_folder(path)}/gathered.ome.zarr"


class SingleFileSink(Sink):
    """An image in the making that will be one file.

    Files of one piece cannot be written by many processes, nor gone on with: so blocks are gathered as those of any
    other output are, and `finish` writes the file beside its place, which it takes in one step.
    """

    def __init__(self, path: str, image: ImageInfo, options: SinkOptions) -> None:
        self.path = path
        self.image = image
        self.options = options
        if_exists: IfExists = "resume" if options.if_exists == "resume" else "overwrite"
        self._gathered = OmeZarrSink(_gathered_path(path), image, replace(options, if_exists=if_exists))
        self.levels = self._gathered.levels
        self.write_unit = self._gathered.write_unit

    def __reduce__(self) -> tuple[type[SingleFileSink], tuple[str, ImageInfo, SinkOptions], dict[str, Any]]:
        """Pickle what the levels are computed from, not the levels."""
        return type(self), (self.path, self.image, self.options), {"io_threads": self.io_threads}

    @property
    def disk_bytes(self) -> int:
        """Bytes of all levels, gathered and in the file."""
        return 2 * self.size_bytes

    @property
    def journal_folder(self) -> str:
        """``<output>.convolume``, beside the output."""
        return journal_folder(self.path)

    @property
    def exists(self) -> bool:
        """Say whether something is there, finished or not."""
        return Path(self.path).exists() or self._gathered.exists

    def check(self) -> None:
        """Refuse a path where something is, or where nothing can be made."""
        file = Path(self.path)
        if file.is_symlink():
            message = f"{self.path}: is a link; write the path of the place that it leads to"
            raise InputError(message)
        if file.exists() and not file.is_file():
            message = f"{self.path}: is a folder, and is never overwritten; choose another path"
            raise InputError(message)
        if file.exists() and self.options.if_exists == "error":
            message = f"{self.path}: exists already; choose another path, or `if_exists: overwrite`"
            raise InputError(message)
        check_creatable(self.path)

    def probe(self, voxels: npt.NDArray[Any]) -> tuple[float, int] | None:
        """Write voxels as they are gathered."""
        return self._gathered.probe(voxels)

    def create(self) -> None:
        """Make the empty arrays that blocks are gathered in."""
        self.check()
        if self.options.if_exists == "resume" and self.exists:
            self.remove_leftovers()
            return
        self.remove()
        self._gathered.create()

    def remove(self) -> None:
        """Take away what is there, the file last."""
        self._gathered.remove()
        Path(self.path).unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove what a killed process had not written to its end; and what was gathered, once the file is there."""
        if Path(self.path).exists():
            self._gathered.remove()
            shutil.rmtree(self._gathered.journal_folder, ignore_errors=True)
            with suppress(OSError):  # a run keeps its marks there
                Path(self.journal_folder).rmdir()
        else:
            self._gathered.remove_leftovers()

    def write(self, level: int, region: Region, voxels: npt.NDArray[Any]) -> int:
        """Gather whole shards of one level."""
        self._gathered.io_threads = self.io_threads
        return self._gathered.write(level, region, voxels)

    def read(self, level: int, region: Region) -> npt.NDArray[Any]:
        """Return voxels that were written, from the file where they are not gathered any more."""
        if not self._gathered.exists:
            return _read(self._opened(level), self.levels[level].shape, region)
        self._gathered.io_threads = self.io_threads
        return self._gathered.read(level, region)

    @property
    def finish_steps(self) -> int:
        """Slabs that the file is written in."""
        return sum(1 for level in range(len(self.levels)) for _ in self._slab_regions(level, outermost="tc"))

    def finish(self, provenance: Mapping[str, Any], windows: Windows, advance: Advance = nothing) -> None:
        """Write the file; from now on the image opens."""
        if not self._gathered.exists:
            return  # a run that was killed at its very end had written it
        # What has such an ending is removed when a run goes on.
        part = Path(self.journal_folder, f"{Path(self.path).name}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb+") as file:
                self._write(file, provenance, windows, advance)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            what = f"{self.path}: cannot be written"
            raise fault(what, error, "is the disk full?") from error

    @abstractmethod
    def _write(
        self,
        file: BinaryIO,
        provenance: Mapping[str, Any],
        windows: Windows,
        advance: Advance,
    ) -> None:
        """Write the whole file, at its end too where it is compressed."""

    @abstractmethod
    def _opened(self, level: int) -> Source:
        """Open one level of the finished file."""

    def _slabs(self, level: int, advance: Advance, *, outermost: str) -> Iterator[npt.NDArray[Any]]:
        """Yield the voxels of a level in slabs (z, y, x), each of some planes, along z first.

        Parameters
        ----------
        level : int
            Its number.
        advance : callable
            Is called when a slab has been used.
        outermost : str
            ``"tc"`` where all channels of a time point come together, ``"ct"`` where all time points of a channel do.
        """
        for region in self._slab_regions(level, outermost=outermost):
            extents = dict(zip((axis.name for axis in self.levels[level].axes), region.shape, strict=True))
            yield self.read(level, region).reshape(tuple(extents.get(name, 1) for name in "zyx"))
            advance()

    def _slab_regions(self, level: int, *, outermost: str) -> Iterator[Region]:
        info = self.levels[level]
        extents = dict(zip((axis.name for axis in info.axes), info.shape, strict=True))
        plane_bytes = prod(extents.get(name, 1) for name in "yx") * np.dtype(info.dtype).itemsize
        chunk = dict(zip(extents, info.chunks or info.shape, strict=True)).get("z", 1)
        count = max(1, min(chunk, _SLAB_BYTES // plane_bytes))
        for outer in product(*(range(extents.get(name, 1)) for name in outermost)):
            place = {name: (at, at + 1) for name, at in zip(outermost, outer, strict=True)}
            for start in range(0, extents.get("z", 1), count):
                place["z"] = (start, min(start + count, extents.get("z", 1)))
                bounds = [place.get(name, (0, n)) for name, n in extents.items()]
                yield Region(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))


def _read(source: Source, shape: tuple[int, ...], region: Region) -> npt.NDArray[Any]:
    """Read a region of an image of that shape from its file, which may tell more or fewer axes of one voxel."""
    long = iter([bounds for n, *bounds in zip(shape, region.start, region.stop, strict=True) if n > 1])
    bounds = [(0, 1) if n == 1 else next(long) for n in source.info.shape]
    found = source.read(Region(tuple(start for start, _ in bounds), tuple(stop for _, stop in bounds)))
    return found.reshape(region.shape)


def in_canonical_order(path: str, image: ImageInfo) -> None:
    """Refuse an image whose axes are not some of (t, c, z, y, x), in this order.

    Raises
    ------
    InputError
        Names its axes.
    """
    names = "".join(axis.name for axis in image.axes)
    if set(names) - set(CANONICAL) or list(names) != sorted(names, key=CANONICAL.index):
        message = f"{path}: files of this format hold (t, c, z, y, x) in this order, and this image has {names!r}"
        raise InputError(message)


@dataclass(frozen=True, slots=True)
class WrittenFile(Written):
    """A file that a run wrote, or what it has gathered for it.

    Parameters
    ----------
    path : str
        The file.
    open_level : callable
        Opens a level of the file.
    layouts : sequence of (shape, unit)
        Of every level, and of what one writer owned.
    """

    path: str
    open_level: Callable[[str, int], Source]
    layouts: Sequence[Layout]

    def read(self, level: int, region: Region) -> npt.NDArray[Any]:
        """Return voxels of one level."""
        if (gathered := self._gathered()) is not None:
            return gathered.read(level, region)
        return _read(self.open_level(self.path, level), self.layouts[level][0], region)

    def units(self, level: int, region: Region) -> Iterator[tuple[str, Region]]:
        """Yield every unit of a region of whole ones: its file and its place."""
        if (gathered := self._gathered()) is not None:
            yield from gathered.units(level, region)
            return
        for _, place in units_of(*self.layouts[level], region):
            yield self.path, place

    def _gathered(self) -> WrittenArrays | None:
        is_whole = Path(self.path).exists()
        gathered = gathered_at(self.path)
        return WrittenArrays(gathered) if gathered and not is_whole else None
