"""The first series of a TIFF file, read by region: mapped, page by page, or tile by tile."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError, RunError
from convolume.stores._decoded import PIECES
from convolume.stores._faults import UNREADABLE
from convolume.stores._files import check_chunk, file_identity, load_extra
from convolume.stores._identity import Identity, spread
from convolume.stores._tiff_checks import why_page_too_short, why_part_too_short, why_series_too_short
from convolume.stores._tiff_metadata import TiffMetadata, metadata_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import numpy.typing as npt

    # From the bytes of a part, its number and JPEG's tables, to its voxels in five axes and where it begins.
    Decoder = Callable[[bytes, int, bytes | None], tuple[npt.NDArray[Any], tuple[int, ...]]]

__all__ = ["TiffLevel", "opened"]

# Compressions whose tables stand beside the parts of a page.
_JPEG = (6, 7, 33007, 34892)
# RGB, and YCbCr, which is decoded to it.
_COLOURED = (2, 6)


def opened(path: str) -> TiffSeries:
    """Return the table of pages of a file, read once in each process, and again when a file of the series was replaced.

    Raises
    ------
    InputError
        tifffile is not installed, or the file is damaged.
    """
    series = _opened(path, file_identity(path), os.getpid())
    if series.other_files and series.identity != str(Identity.of("", series.files)):
        _opened.cache_clear()
        series = _opened(path, file_identity(path), os.getpid())
    return series


@lru_cache(maxsize=8)
def _opened(path: str, identity: str, process: int) -> TiffSeries:  # noqa: ARG001  # tells readers apart
    return TiffSeries(path)


@dataclass(frozen=True)
class TiffLevel:
    """One level of the series, in the file's order of axes."""

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: tuple[int, ...] | None
    """Extents of what is decoded at a time; None where the file is mapped."""


class TiffSeries:
    """The first series of a TIFF file; the file is open only while it is read, by one thread at a time.

    `other_files` are those that pages of an OME-TIFF are said to lie in, `files` all or a sample of them, and
    `identity` is a text that changes with these.
    """

    def __init__(self, path: str) -> None:
        tifffile = load_extra(path, "tifffile", "tiff")
        try:
            with tifffile.TiffFile(path) as file:
                series = file.series[0]
                self.metadata: TiffMetadata = metadata_of(file)
                self.other_files = tuple(str(Path(path).parent / name) for name in self.metadata.other_files)
                self.has_colours = "S" in series.axes and series.keyframe.photometric in _COLOURED
                self._levels = tuple(series.levels)
                self.levels = tuple(_described(level, in_one_file=not self.other_files) for level in self._levels)
                self._decoders = tuple(_decoder(level.keyframe) for level in self._levels)
                count = len(file.series)
                faults = (
                    why_series_too_short(file, level, is_mapped=described.pieces is None)
                    for level, described in zip(self._levels, self.levels, strict=True)
                )
                why_short = next(filter(None, faults), None)
        except (tifffile.TiffFileError, *UNREADABLE) as error:
            message = f"{path}: is no TIFF file that can be read ({error})"
            raise InputError(message) from error
        if why_short:
            message = f"{path}: is no whole TIFF file: {why_short}; copy it again"
            raise InputError(message)
        for level, described in zip(self._levels, self.levels, strict=True):
            if described.pieces is not None:
                check_chunk(path, described.pieces, described.dtype.itemsize)
                _check_codec(path, tifffile, level.keyframe)
        self._path = path
        files = (path, *self.other_files)
        self.files = tuple(files[number] for number in spread(len(files)))
        self.identity = str(Identity.of("", self.files))
        self._byteorder = file.byteorder
        self._lock = threading.Lock()
        self.notes = (f"{path}: holds {count} series; the first is read",) if count > 1 else ()

    def read(self, level: int, slices: tuple[slice, ...], cache_bytes: int) -> npt.NDArray[Any]:
        """Return a part of a level, in the file's order of axes; of decoded pieces so many bytes are kept.

        Raises
        ------
        RunError
            The file is damaged.
        """
        try:
            if self.levels[level].pieces is None:
                return self._read_mapped(level, slices)
            return self._read_pages(level, slices, cache_bytes)
        except UNREADABLE as error:
            message = f"{self._path}: a page cannot be read; the file is damaged or cut short ({error})"
            raise RunError(message) from error

    def _read_mapped(self, level: int, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read pages that lie uncompressed, one behind the other."""
        found = self.levels[level]
        stored = found.dtype.newbyteorder(self._byteorder)
        offset = self._levels[level].dataoffset
        pages = np.memmap(self._path, dtype=stored, mode="r", offset=offset, shape=found.shape)
        return np.array(pages[slices], dtype=found.dtype)

    def _read_pages(self, level: int, slices: tuple[slice, ...], cache_bytes: int) -> npt.NDArray[Any]:
        found, series = self.levels[level], self._levels[level]
        outer_ndim = _outer_ndim(series)
        outer = found.shape[:outer_ndim]
        wanted = [range(n)[cut] for n, cut in zip(found.shape, slices, strict=True)]
        voxels = np.zeros(tuple(map(len, wanted)), found.dtype)
        for index in np.ndindex(*voxels.shape[:outer_ndim]):
            place = tuple(axis[i] for axis, i in zip(wanted[:outer_ndim], index, strict=True))
            number = int(np.ravel_multi_index(place, outer)) if place else 0
            self._read_page(level, number, slices[outer_ndim:], voxels[index], cache_bytes)
        return voxels

    def _read_page(
        self, level: int, number: int, slices: tuple[slice, ...], voxels: npt.NDArray[Any], cache_bytes: int
    ) -> None:
        """Put the part of a page where it belongs; what the file leaves out reads as zeros, as in tifffile."""
        name = (self._path, self.identity, level, number)
        keyframe, shape = self._levels[level].keyframe, self.levels[level].shape
        inner = shape[len(shape) - len(slices) :]
        if not keyframe.is_tiled:
            whole = PIECES.get(name, partial(self._page, level, number), cache_bytes)
            voxels[...] = whole.reshape(inner)[slices]
            return
        placed_slices = tuple(
            slice(0, 1) if axis is None else slices[axis] for axis in _axes_of_page(inner, keyframe.shaped)
        )
        target = voxels.reshape(tuple(cut.stop - cut.start for cut in placed_slices))
        for tile, start in _tiles(keyframe, placed_slices):
            decoded = PIECES.get((*name, tile), partial(self._tile, level, number, tile), cache_bytes)
            _copy_common(decoded, start, target, placed_slices)

    def _page(self, level: int, number: int) -> npt.NDArray[Any]:
        keyframe = self._levels[level].keyframe
        whole = np.zeros(keyframe.shaped, self.levels[level].dtype)
        with self._page_open(level, number) as page:
            if page is None:
                return whole
            if why := why_page_too_short(page, page.parent.filehandle.size):
                raise ValueError(why)
            strips, tables = [_encoded(page, part) for part in range(prod(keyframe.chunked))], page.jpegtables
        # Threads decode at the same time.
        for part, encoded in enumerate(strips):
            if encoded is not None:
                decoded, start = self._decoders[level](encoded, part, tables)
                whole[tuple(slice(a, a + n) for a, n in zip(start, decoded.shape, strict=True))] = decoded
        return whole

    def _tile(self, level: int, number: int, tile: int) -> npt.NDArray[Any]:
        """Return a tile, in five axes."""
        keyframe, encoded, tables = self._levels[level].keyframe, None, None
        with self._page_open(level, number) as page:
            if page is not None:
                if why := why_part_too_short(page, tile, page.parent.filehandle.size):
                    raise ValueError(why)
                encoded, tables = _encoded(page, tile), page.jpegtables
        if encoded is None:
            return np.zeros((1, *_tile_shape(keyframe)), self.levels[level].dtype)
        return self._decoders[level](encoded, tile, tables)[0]

    @contextmanager
    def _page_open(self, level: int, number: int) -> Iterator[Any]:
        """Give a page of which the file is open; None where the file has no such page."""
        with self._lock:
            main = self._levels[0].keyframe.parent.filehandle
            main.open()
            try:
                page = self._levels[level].pages[number]
                if page is None or page.parent.filehandle is main:
                    yield page
                    return
                # A series may lie in several files.
                page.parent.filehandle.open()
                try:
                    yield page
                finally:
                    page.parent.filehandle.close()
            finally:
                main.close()


def _check_codec(path: str, tifffile: ModuleType, keyframe: Any) -> None:
    """Refuse pages that nothing here decodes."""
    try:
        if keyframe.compression != tifffile.COMPRESSION.NONE:
            tifffile.TIFF.DECOMPRESSORS[keyframe.compression]
        if keyframe.predictor != tifffile.PREDICTOR.NONE:
            tifffile.TIFF.UNPREDICTORS[keyframe.predictor]
    except KeyError as error:
        how = getattr(keyframe.compression, "name", keyframe.compression)
        message = f"{path}: its pages are coded by {how}, which needs imagecodecs: pip install 'convolume[tiff]'"
        raise InputError(message) from error


def _encoded(page: Any, part: int) -> bytes | None:
    """Return a strip or tile as the file holds it; None for one that is left out."""
    handle = page.parent.filehandle
    handle.seek(page.dataoffsets[part])
    return handle.read(page.databytecounts[part]) or None


def _decoder(keyframe: Any) -> Decoder:
    """Return what decodes the parts of a series' pages; it is made while the file is open."""
    decode, is_jpeg = keyframe.decode, keyframe.compression in _JPEG
    header = keyframe.jpegheader if is_jpeg else None

    def decoded(encoded: bytes, part: int, tables: bytes | None) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
        jpeg = {"jpegtables": tables, "jpegheader": header} if is_jpeg else {}
        voxels, start, shape = decode(encoded, part, **jpeg)
        return np.asarray(voxels).reshape((1, *shape)), start

    return decoded


def _described(series: Any, *, in_one_file: bool) -> TiffLevel:
    shape = tuple(series.shape)
    dtype = np.dtype(series.dtype).newbyteorder("=")
    if in_one_file and series.dataoffset is not None:
        return TiffLevel(series.axes, shape, dtype, None)
    outer_ndim, keyframe = _outer_ndim(series), series.keyframe
    inner = shape[outer_ndim:]
    if keyframe.is_tiled:
        tile = (1, *_tile_shape(keyframe))
        of_axis = dict(zip(_axes_of_page(inner, keyframe.shaped), tile, strict=True))
        inner = tuple(of_axis.get(axis, 1) for axis in range(len(inner)))
    return TiffLevel(series.axes, shape, dtype, (1,) * outer_ndim + inner)


def _outer_ndim(series: Any) -> int:
    """Return how many leading axes count pages; the others lie within one."""
    page_voxels = prod(series.keyframe.shape)
    for ndim in range(len(series.shape) + 1):
        if prod(series.shape[ndim:]) == page_voxels:
            return ndim
    message = f"pages of {series.keyframe.shape} do not make up a volume of {series.shape}"
    raise ValueError(message)


def _tile_shape(keyframe: Any) -> tuple[int, int, int, int]:
    """Return depth, length, width and contiguous samples of a tile."""
    samples = keyframe.samplesperpixel if keyframe.planarconfig == 1 else 1
    return (max(1, keyframe.tiledepth), keyframe.tilelength, keyframe.tilewidth, samples)


def _axes_of_page(inner: tuple[int, ...], shaped: tuple[int, ...]) -> tuple[int | None, ...]:
    """Return, for each of the five axes of a page, which axis of the series' it is; None where it is of one voxel."""
    long = [axis for axis, extent in enumerate(inner) if extent > 1]
    if [inner[axis] for axis in long] != [extent for extent in shaped if extent > 1]:
        message = f"pages of {shaped} do not make up axes of {inner}"
        raise ValueError(message)
    left = iter(long)
    return tuple(next(left) if extent > 1 else None for extent in shaped)


def _tiles(keyframe: Any, slices: tuple[slice, ...]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the number and the first voxel of every tile that a part of a page touches."""
    tile = (1, *_tile_shape(keyframe))
    counts = tuple(-(-n // t) for n, t in zip(keyframe.shaped, tile, strict=True))
    touched = tuple(range(cut.start // t, -(-cut.stop // t)) for cut, t in zip(slices, tile, strict=True))
    for place in np.ndindex(*map(len, touched)):
        index = tuple(axis[i] for axis, i in zip(touched, place, strict=True))
        start = tuple(i * t for i, t in zip(index, tile, strict=True))
        yield int(np.ravel_multi_index(index, counts)), start


def _copy_common(
    piece: npt.NDArray[Any], start: tuple[int, ...], target: npt.NDArray[Any], slices: tuple[slice, ...]
) -> None:
    """Copy what a piece that begins at `start` and the part of the page that `slices` name have in common."""
    into, of = [], []
    for first, extent, cut in zip(start, piece.shape, slices, strict=True):
        low, high = max(first, cut.start), min(first + extent, cut.stop)
        into.append(slice(low - cut.start, high - cut.start))
        of.append(slice(low - first, high - first))
    target[tuple(into)] = piece[tuple(of)]
