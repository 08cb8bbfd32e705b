"""What all sinks of Zarr share: arrays that are made, written and read by level; metadata are each format's own."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError, RunError
from convolume.regions import Region
from convolume.stores._axes import check_dtype
from convolume.stores._interfaces import Sink
from convolume.stores._layout import level_infos, write_unit
from convolume.stores._paths import check_creatable
from convolume.stores._zarr_arrays import ZarrArray
from convolume.stores._zarr_documents import NEWER_FORMAT, create_array
from convolume.stores._zarr_files import remove_leftovers
from convolume.stores._zarr_metadata import METADATA_FILES, ArrayLayout

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from convolume.image import ImageInfo
    from convolume.stores._interfaces import SinkOptions

__all__ = ["ZarrSink", "journal_folder"]


def journal_folder(path: str) -> str:
    """Return the folder for the marks of an output."""
    return f"{path}.convolume"


class ZarrSink(Sink):
    """An image in the making: one Zarr array a level, and metadata that open it when it is finished."""

    zarr_format: int = NEWER_FORMAT

    def __init__(self, path: str, image: ImageInfo, options: SinkOptions) -> None:
        self.path = path
        self.image = image
        self.options = options
        check_dtype(path, np.dtype(image.dtype))
        self.levels = self._level_infos()
        self.write_unit = write_unit(self.levels[0])

    def _level_infos(self) -> tuple[ImageInfo, ...]:
        return level_infos(self.path, self.image, self.options)

    @property
    def journal_folder(self) -> str:
        """``<output>.convolume``, beside the output: readers of Zarr warn of foreign members inside."""
        return journal_folder(self.path)

    @property
    def exists(self) -> bool:
        """Say whether something is there, finished or not."""
        return Path(self.path).exists()

    def __reduce__(self) -> tuple[type[ZarrSink], tuple[str, ImageInfo, SinkOptions], dict[str, Any]]:
        """Pickle what the levels are computed from, not the levels."""
        return type(self), (self.path, self.image, self.options), {"io_threads": self.io_threads}

    def check(self) -> None:
        """Refuse a path where something is, or where nothing can be made."""
        folder = Path(self.path)
        if folder.is_symlink():
            message = f"{self.path}: is a link; write the path of the place that it leads to"
            raise InputError(message)
        if folder.exists() and self.options.if_exists != "resume":
            self._check_existing(folder)
        check_creatable(self.path)

    def _check_existing(self, folder: Path) -> None:
        if not _is_zarr(folder):
            what = "a folder that is no Zarr hierarchy" if folder.is_dir() else "a file"
            message = f"{self.path}: is {what}, and is never overwritten; choose another path"
            raise InputError(message)
        if self.options.if_exists != "overwrite":
            message = f"{self.path}: exists already; choose another path, or `if_exists: overwrite`"
            raise InputError(message)

    def probe(self, voxels: npt.NDArray[Any]) -> tuple[float, int] | None:
        """Write an array as the finest level will be, in a folder of its own, and remove it."""
        folder = next(parent for parent in Path(self.path).absolute().parents if parent.is_dir())
        level = self.levels[0]
        values = voxels.astype(level.dtype, copy=False)
        chunks = tuple(min(c, n) for c, n in zip(level.chunks or level.shape, values.shape, strict=True))
        with suppress(OSError), TemporaryDirectory(prefix=".convolume-probe-", dir=folder) as scratch:
            path = str(Path(scratch, "probe"))
            create_array(path, ArrayLayout(values.shape, values.dtype, chunks, zarr_format=self.zarr_format))
            array = ZarrArray(path, io_threads=self.io_threads)
            array.read(Region((0,) * values.ndim, (1,) * values.ndim))
            began = perf_counter()
            array.write(Region.whole(values.shape), values)
            return perf_counter() - began, int(values.nbytes)
        return None

    def create(self) -> None:
        """Make the empty arrays, under metadata that say it is not finished; they appear together."""
        self.check()
        if self.options.if_exists == "resume" and self.exists:
            self.remove_leftovers()
            return
        self.remove()
        with self._beside("new") as folder:
            self._make(folder)
            folder.rename(self.path)

    def remove(self) -> None:
        """Take away what is there: it is renamed first, so that a killed process leaves no half of it."""
        if self.exists:
            with self._beside("old") as folder:
                Path(self.path).rename(folder)

    def remove_leftovers(self) -> None:
        """Remove what a killed process had not written to its end."""
        remove_leftovers(self.path)

    @contextmanager
    def _beside(self, name: str) -> Iterator[Path]:
        """Give a place on the same disk for a folder that is not to be seen, and clear it afterwards."""
        beside = Path(self.journal_folder)
        beside.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside / name, ignore_errors=True)
        try:
            yield beside / name
        finally:
            shutil.rmtree(beside / name, ignore_errors=True)
            with suppress(OSError):  # a run keeps its marks there
                beside.rmdir()

    @abstractmethod
    def _make(self, folder: Path) -> None:
        """Make the empty arrays in a folder, and metadata that say they are not finished."""

    def _layout(self, level: int) -> ArrayLayout:
        info = self.levels[level]
        names = tuple(axis.name for axis in info.axes)
        chunks = info.chunks or info.shape
        return ArrayLayout(info.shape, np.dtype(info.dtype), chunks, info.shards, names, self.zarr_format)

    def write(self, level: int, region: Region, voxels: npt.NDArray[Any]) -> int:
        """Write whole shards of one level."""
        info = self.levels[level]
        if voxels.dtype != np.dtype(info.dtype) or voxels.shape != region.shape or not _is_aligned(info, region):
            message = (
                f"{self.path}: {voxels.dtype} {voxels.shape} at {region} of level {level} is not made of whole units "
                f"{write_unit(info)} of a {info.dtype} image {info.shape}; blocks and shards do not match"
            )
            raise RunError(message)
        self._array(level).write(region, voxels)
        return int(voxels.nbytes)

    def read(self, level: int, region: Region) -> npt.NDArray[Any]:
        """Return voxels that were written."""
        return self._array(level).read(region)

    def _array_path(self, level: int) -> str:
        return f"{self.path}/{level}"

    def _array(self, level: int) -> ZarrArray:
        return ZarrArray(self._array_path(level), io_threads=self.io_threads)


def _is_zarr(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).is_file() for name in METADATA_FILES)


def _is_aligned(info: ImageInfo, region: Region) -> bool:
    unit = write_unit(info)
    starts = all(a % u == 0 for a, u in zip(region.start, unit, strict=True))
    stops = all(b % u == 0 or b == n for b, u, n in zip(region.stop, unit, info.shape, strict=True))
    return starts and stops and Region.whole(info.shape).contains(region)
