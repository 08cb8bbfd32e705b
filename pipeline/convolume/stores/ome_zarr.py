"""OME-Zarr: 0.4 (Zarr v2) and 0.5 (Zarr v3) are read, 0.5 is written."""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError, RunError
from convolume.image import ImageInfo
from convolume.regions import Region
from convolume.stores._axes import check_dtype, with_options
from convolume.stores._chunk_files import ChunkFiles
from convolume.stores._interfaces import Sink, SinkOptions, Source, SourceOptions, Written
from convolume.stores._layout import level_infos, write_unit
from convolume.stores._ome_metadata import check_written, read_image, written_attributes
from convolume.stores._paths import check_creatable
from convolume.stores._zarr_arrays import ZarrArray, create_array
from convolume.stores._zarr_files import WrittenArrays, remove_leftovers
from convolume.stores._zarr_metadata import METADATA_FILES, ArrayLayout, attributes, node_kind, read_layout, write_group
from convolume.stores.zarr import ZarrSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

__all__ = ["OmeZarrSink", "create_sink", "journal_folder", "open_source", "open_written", "recognises"]

PRECEDENCE = 10
SUFFIXES = (".ome.zarr", ".zarr")


def recognises(path: str) -> bool:
    """Say whether a Zarr group is there."""
    return node_kind(path) == "group"


def open_source(path: str, options: SourceOptions) -> Source:
    """Open one level of an OME-Zarr image.

    Raises
    ------
    InputError
        The group is no image (a plate, a bioformats2raw series, labels, …), or the level is not there.
    """
    image = read_image(path, options.level)
    array_path = str(Path(path, image.dataset))
    layout = read_layout(array_path)
    axes = with_options(path, layout.shape, image.axes, options)
    channel_count = next((n for axis, n in zip(axes, layout.shape, strict=True) if axis.kind == "channel"), 1)
    info = ImageInfo(
        shape=layout.shape,
        dtype=check_dtype(path, layout.dtype),
        axes=axes,
        chunks=layout.chunks,
        shards=layout.shards,
        channels=image.channels if len(image.channels) == channel_count else (),
    )
    # Our own outputs are whole when they open: what is missing there was all fill value.
    is_ours = attributes(path).get("convolume", {}).get("finished") is True
    is_strict = options.missing == "error" and not is_ours
    files = ChunkFiles.of(array_path, layout.shards or layout.chunks)
    return ZarrSource(path, info, array_path, files, is_strict=is_strict)


def create_sink(path: str, image: ImageInfo, options: SinkOptions) -> Sink:
    """Return a sink that writes OME-Zarr 0.5."""
    return OmeZarrSink(path, image, options)


def journal_folder(path: str) -> str:
    """Return the folder for the marks of an output."""
    return f"{path}.convolume"


def open_written(path: str) -> Written:
    """Return the levels of an output of this package, finished or not."""
    return WrittenArrays(path)


class OmeZarrSink(Sink):
    """An OME-Zarr 0.5 image in the making: one Zarr v3 array a level, its metadata when it is finished."""

    def __init__(self, path: str, image: ImageInfo, options: SinkOptions) -> None:
        self.path = path
        self.image = image
        self.options = options
        check_dtype(path, np.dtype(image.dtype))
        self.levels = level_infos(path, image, options)
        self.write_unit = write_unit(self.levels[0])

    @property
    def journal_folder(self) -> str:
        """``<output>.convolume``, beside the output: readers of Zarr warn of foreign members inside."""
        return journal_folder(self.path)

    @property
    def exists(self) -> bool:
        """Say whether something is there, finished or not."""
        return Path(self.path).exists()

    def __reduce__(self) -> tuple[type[OmeZarrSink], tuple[str, ImageInfo, SinkOptions], dict[str, Any]]:
        """Pickle what the levels are computed from, not the levels."""
        return OmeZarrSink, (self.path, self.image, self.options), {"io_threads": self.io_threads}

    def check(self) -> None:
        """Refuse a path where something is, or where nothing can be made."""
        check_written(self.path, self.levels)
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
            create_array(path, ArrayLayout(values.shape, values.dtype, chunks, None, None))
            array = ZarrArray(path, io_threads=self.io_threads)
            array.read(Region((0,) * values.ndim, (1,) * values.ndim))
            began = perf_counter()
            array.write(Region.whole(values.shape), values)
            return perf_counter() - began, int(values.nbytes)
        return None

    def create(self) -> None:
        """Make the empty arrays, in a group that says it is not finished; they appear together."""
        self.check()
        if self.options.if_exists == "resume" and self.exists:
            self.remove_leftovers()
            return
        self.remove()
        with self._beside("new") as folder:
            self._make_arrays(folder)
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

    def _make_arrays(self, folder: Path) -> None:
        write_group(str(folder), {"convolume": {"finished": False}})
        for number, level in enumerate(self.levels):
            names = tuple(axis.name for axis in level.axes)
            chunks = level.chunks or level.shape
            layout = ArrayLayout(level.shape, np.dtype(level.dtype), chunks, level.shards, names)
            create_array(str(folder / str(number)), layout)

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

    def finish(self, provenance: Mapping[str, Any], windows: tuple[tuple[float, float, float, float], ...]) -> None:
        """Write the OME metadata; from now on the image opens."""
        write_group(self.path, written_attributes(self.path, self.levels, provenance, windows))

    def _array(self, level: int) -> ZarrArray:
        return ZarrArray(str(Path(self.path, str(level))), io_threads=self.io_threads)


def _is_zarr(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).is_file() for name in METADATA_FILES)


def _is_aligned(info: ImageInfo, region: Region) -> bool:
    unit = write_unit(info)
    starts = all(a % u == 0 for a, u in zip(region.start, unit, strict=True))
    stops = all(b % u == 0 or b == n for b, u, n in zip(region.stop, unit, info.shape, strict=True))
    return starts and stops and Region.whole(info.shape).contains(region)
