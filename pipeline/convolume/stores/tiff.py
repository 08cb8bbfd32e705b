"""TIFF stacks and OME-TIFF: a file of many pages is one volume, with levels where it has them; OME-TIFF is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from convolume.errors import InputError
from convolume.image import ImageInfo
from convolume.stores._axes import COLOURS, canonical_order, check_dtype, named_axes, region_of_file, with_options
from convolume.stores._files import check_there, load_extra
from convolume.stores._interfaces import Advance, Layout, Sink, SinkOptions, Source, SourceOptions, Windows, Written
from convolume.stores._single_file import (
    SingleFileSink,
    WrittenFile,
    gathered_at,
    in_canonical_order,
    journal_folder,
)
from convolume.stores._tiff_metadata import axis_names, written_metadata
from convolume.stores._tiff_series import opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from convolume.image import Axis
    from convolume.regions import Region

__all__ = [
    "TiffSink",
    "TiffSource",
    "create_sink",
    "gathered_at",
    "journal_folder",
    "open_source",
    "open_written",
    "recognises",
]

PRECEDENCE = 21
ENDINGS = (".tif", ".tiff", ".btf", ".tf8")
SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff")
# What OME-TIFF does not have, and what holds its values, or most of them.
NOT_WRITTEN = {"bool": "uint8", "float16": "float32", "int64": "float64", "uint64": "float64"}
TILE = (256, 256)
# A plane is in hand as a whole while the file is written.
MOST_PLANE_BYTES = 2**32
# From this size on offsets need eight bytes; a little room is left for what is not voxels.
LARGE_BYTES = 2**32 - 2**25


def recognises(path: str) -> bool:
    """Say whether a file with TIFF's ending is there."""
    return path.lower().endswith(ENDINGS) and Path(path).is_file()


def open_source(path: str, options: SourceOptions) -> Source:
    """Open one level of the first series of a TIFF file.

    Raises
    ------
    InputError
        tifffile is not installed, the file is damaged, its axes are not understood, or the level is not there.
    """
    series = opened(path)
    if not 0 <= options.level < len(series.levels):
        count = len(series.levels)
        there = f"there are {count} (0 to {count - 1})" if count > 1 else "this image has one level, 0"
        message = f"{path}: level {options.level} is not there; {there}"
        raise InputError(message)
    finest, level = series.levels[0], series.levels[options.level]
    names = axis_names(path, level.axes, level.shape, options.axes)
    axes = tuple(
        _placed(axis, series.metadata.spacing, fine, here)
        for axis, fine, here in zip(named_axes(path, names), finest.shape, level.shape, strict=True)
    )
    axes = with_options(path, level.shape, axes, options)
    order = canonical_order(names)
    shape = tuple(level.shape[axis] for axis in order)
    channel_count = dict(zip(names, level.shape, strict=True)).get("c", 1)
    channels = series.metadata.channels
    if len(channels) != channel_count:
        channels = COLOURS[:channel_count] if series.has_colours and options.axes is None else ()
    info = ImageInfo(
        shape=shape,
        dtype=check_dtype(path, level.dtype),
        axes=tuple(axes[axis] for axis in order),
        chunks=tuple(min(level.pieces[axis], level.shape[axis]) for axis in order) if level.pieces else None,
        channels=channels,
        notes=series.notes,
    )
    return TiffSource(path, info, order, options.level, is_strict=options.missing == "error")


def _placed(axis: Axis, spacing: Mapping[str, tuple[float, str]], finest: int, here: int) -> Axis:
    """Return an axis with its step, of a coarser level the finest one's times what it has fewer voxels."""
    step, unit = spacing.get(axis.name, (1.0, None))
    return replace(axis, spacing=step * _ratio(finest, here), unit=unit)


def _ratio(finest: int, here: int) -> float:
    """Return how many of the finest voxels one of a coarser level covers: a power of 2 where sizes were halved."""
    halved, ratio = finest, 1
    while halved > here:
        halved, ratio = -(-halved // 2), 2 * ratio
    return ratio if halved == here else finest / here


def create_sink(path: str, image: ImageInfo, options: SinkOptions) -> Sink:
    """Return a sink that writes one OME-TIFF file."""
    return TiffSink(path, image, options)


def open_written(path: str, layouts: Sequence[Layout]) -> Written:
    """Return a file that a run wrote, or what it has gathered for it."""
    return WrittenFile(path, _finished, layouts)


def _finished(path: str, level: int) -> Source:
    return open_source(path, SourceOptions(level=level))


class TiffSource(Source):
    """One level of a volume in a TIFF file, which each process opens for itself.

    Parameters
    ----------
    path : str
        The file.
    info : ImageInfo
        The image.
    order : tuple of int
        Which axis of the file each axis of the image is.
    level : int
        Its number.
    is_strict : bool
        Whether other files, in which an OME-TIFF says that pages lie, must be there; else their voxels are 0.
    """

    def __init__(self, path: str, info: ImageInfo, order: tuple[int, ...], level: int, *, is_strict: bool) -> None:
        self.path = path
        self.info = info
        self.order = order
        self.level = level
        self.is_strict = is_strict

    @property
    def decoded_chunks(self) -> tuple[tuple[int, int], ...] | None:
        """Tiles, or whole pages; None where the file is mapped."""
        return tuple((extent, 0) for extent in self.info.chunks) if self.info.chunks else None

    def check_whole(self, region: Region) -> None:
        """Refuse an image of several files of which some are not there, whose voxels tifffile would make up."""
        del region
        if self.is_strict:
            check_there(self.path, "it", opened(self.path).other_files)

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region; each page or tile that it touches is decoded, unless it is kept."""
        place = region_of_file(region, self.order)
        voxels = opened(self.path).read(self.level, place.slices, self.cache_bytes)
        return voxels.transpose(self.order).astype(self.info.dtype, order="C", copy=False)

    def signature(self) -> str:
        """Return the format and the level: all else stands in the file."""
        return f"tiff level {self.level}"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the file and those that pages are said to lie in, a sample of them where there are many."""
        del region
        return opened(self.path).files


class TiffSink(SingleFileSink):
    """An OME-TIFF file in the making: compressed tiles, and levels of fewer rows and columns below each page."""

    def __init__(self, path: str, image: ImageInfo, options: SinkOptions) -> None:
        in_canonical_order(path, image)
        names = "".join(axis.name for axis in image.axes)
        if not names.endswith("yx"):
            message = f"{path}: OME-TIFF holds planes (y, x), and this image has {names!r}; write an OME-Zarr"
            raise InputError(message)
        if image.dtype in NOT_WRITTEN:
            instead = NOT_WRITTEN[image.dtype]
            message = f"{path}: OME-TIFF has no voxels of {image.dtype}; give the output `dtype: {instead}`"
            raise InputError(message)
        load_extra(path, "tifffile", "tiff")
        # Every level has a page for each page of the finest one.
        super().__init__(path, image, replace(options, pyramid_axes="yx"))
        self._check_planes()

    def _check_planes(self) -> None:
        extents = dict(zip((axis.name for axis in self.image.axes), self.image.shape, strict=True))
        plane_bytes = extents.get("y", 1) * extents.get("x", 1) * np.dtype(self.image.dtype).itemsize
        if plane_bytes > MOST_PLANE_BYTES:
            message = (
                f"{self.path}: a plane takes {plane_bytes / 2**30:.3g} GiB, and at most {MOST_PLANE_BYTES / 2**30:.3g} "
                "GiB are written as TIFF; write an OME-Zarr"
            )
            raise InputError(message)

    def _write(
        self,
        file: BinaryIO,
        provenance: Mapping[str, Any],
        windows: Windows,
        advance: Advance,
    ) -> None:
        del windows  # OME-TIFF tells none
        tifffile = load_extra(self.path, "tifffile", "tiff")
        how = {"photometric": "minisblack", "tile": TILE, "compression": "zlib", "compressionargs": {"level": 1}}
        is_large = sum(level.size_bytes for level in self.levels) > LARGE_BYTES
        with tifffile.TiffWriter(file, bigtiff=is_large, byteorder="<", ome=True) as writer:
            for number, level in enumerate(self.levels):
                metadata = written_metadata(self.path, level, provenance) if number == 0 else None
                writer.write(
                    self._tiles(number, advance),
                    shape=level.shape,
                    dtype=np.dtype(level.dtype).newbyteorder("<"),
                    subifds=len(self.levels) - 1 if number == 0 else None,
                    subfiletype=1 if number else 0,
                    metadata=metadata,
                    **how,
                )

    def _tiles(self, level: int, advance: Advance) -> Iterator[npt.NDArray[Any]]:
        rows, columns = TILE
        for slab in self._slabs(level, advance, outermost="tc"):
            for plane in slab:
                for row in range(0, plane.shape[0], rows):
                    for column in range(0, plane.shape[1], columns):
                        tile = plane[row : row + rows, column : column + columns]
                        lacking = [(0, full - n) for full, n in zip(TILE, tile.shape, strict=True)]
                        yield np.pad(tile, lacking)

    def _opened(self, level: int) -> Source:
        return _finished(self.path, level)
