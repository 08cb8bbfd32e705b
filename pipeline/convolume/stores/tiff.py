"""TIFF stacks: a file of many pages is one volume, read page by page."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError, RunError
from convolume.image import ImageInfo
from convolume.stores._axes import (
    canonical_order,
    check_dtype,
    check_one_level,
    named_axes,
    region_of_file,
    with_options,
)
from convolume.stores._faults import UNREADABLE
from convolume.stores._files import check_chunk, file_identity, load_extra
from convolume.stores._interfaces import Source, SourceOptions
from convolume.stores._tiff_metadata import axis_names, spacing_of_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from convolume.image import Axis
    from convolume.regions import Region

__all__ = ["TiffSource", "open_source", "recognises"]

PRECEDENCE = 21
ENDINGS = (".tif", ".tiff", ".btf", ".tf8")
# Bytes that one byte can stand for: uncompressed bits, LZW and deflate; of others the largest that is known is zstd's.
MOST_EXPANSION = {1: 8, 5: 2**12, 8: 2**12, 32946: 2**12}
MOST_EXPANSION_OF_OTHERS = 2**16
MOST_LEFT_OUT_BYTES = 2**26


def recognises(path: str) -> bool:
    """Say whether a file with TIFF's ending is there."""
    return path.lower().endswith(ENDINGS) and Path(path).is_file()


def open_source(path: str, options: SourceOptions) -> Source:
    """Open the first series of a TIFF file.

    Raises
    ------
    InputError
        tifffile is not installed, the file is damaged, or its axes are not understood.
    """
    check_one_level(path, options)
    stack = _opened(path, file_identity(path), os.getpid())
    names = axis_names(path, stack.axes, stack.shape, options.axes)
    axes = tuple(_placed(axis, stack.spacing) for axis in named_axes(path, names))
    axes = with_options(path, stack.shape, axes, options)
    order = canonical_order(names)
    info = ImageInfo(
        shape=tuple(stack.shape[axis] for axis in order),
        dtype=check_dtype(path, stack.dtype),
        axes=tuple(axes[axis] for axis in order),
        notes=stack.notes,
    )
    return TiffSource(path, info, order)


def _placed(axis: Axis, spacing: Mapping[str, tuple[float, str]]) -> Axis:
    step, unit = spacing.get(axis.name, (1.0, None))
    return replace(axis, spacing=step, unit=unit)


class TiffSource(Source):
    """One volume in a TIFF file, which each process opens for itself."""

    cache_bytes = 0

    def __init__(self, path: str, info: ImageInfo, order: tuple[int, ...]) -> None:
        self.path = path
        self.info = info
        self.order = order

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region; each page that it touches is decoded."""
        place = region_of_file(region, self.order)
        voxels = _opened(self.path, file_identity(self.path), os.getpid()).read(place.slices)
        return voxels.transpose(self.order).astype(self.info.dtype, order="C", copy=False)

    def signature(self) -> str:
        """Return the format: all else stands in the file."""
        return "tiff"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the file."""
        del region
        return (self.path,)


class _Stack:
    """The first series of a TIFF file; the file is open only while it is read, by one thread at a time."""

    def __init__(self, path: str) -> None:
        tifffile = load_extra(path, "tifffile", "tiff")
        try:
            with tifffile.TiffFile(path) as file:
                self._file = file
                self._series = file.series[0]
                self.spacing = spacing_of_file(file)
                count = len(file.series)
                why_short = _why_too_short(file, self._series) if count else "it holds no image"
        except (tifffile.TiffFileError, *UNREADABLE) as error:
            message = f"{path}: is no TIFF file that can be read ({error})"
            raise InputError(message) from error
        if why_short:
            message = f"{path}: is no whole TIFF file: {why_short}; copy it again"
            raise InputError(message)
        self._path = path
        self._lock = threading.Lock()
        self.axes: str = self._series.axes
        self.shape: tuple[int, ...] = tuple(self._series.shape)
        self.dtype = np.dtype(self._series.dtype).newbyteorder("=")
        if self._series.dataoffset is None:
            check_chunk(path, tuple(self._series.keyframe.shape), self.dtype.itemsize)
        self.notes = (f"{path}: holds {count} series; the first is read",) if count > 1 else ()

    def read(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return a part of the series, in the file's order of axes."""
        with self._lock:
            self._file.filehandle.open()
            try:
                return self._read_mapped(slices) if self._series.dataoffset is not None else self._read_pages(slices)
            except UNREADABLE as error:
                message = f"{self._path}: a page cannot be read; the file is damaged or cut short ({error})"
                raise RunError(message) from error
            finally:
                self._file.filehandle.close()

    def _read_mapped(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read pages that lie uncompressed, one behind the other."""
        dtype = self.dtype.newbyteorder(self._file.byteorder)
        offset = self._series.dataoffset
        pages = np.memmap(self._path, dtype=dtype, mode="r", offset=offset, shape=self.shape)
        return np.array(pages[slices], dtype=self.dtype)

    def _read_pages(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        outer_ndim = self._outer_ndim()
        outer, inner = self.shape[:outer_ndim], self.shape[outer_ndim:]
        wanted = [range(n)[cut] for n, cut in zip(self.shape, slices, strict=True)]
        voxels = np.zeros(tuple(map(len, wanted)), self.dtype)
        for index in np.ndindex(*voxels.shape[:outer_ndim]):
            place = tuple(axis[i] for axis, i in zip(wanted[:outer_ndim], index, strict=True))
            page = self._series.pages[int(np.ravel_multi_index(place, outer)) if place else 0]
            # A page that the file leaves out reads as zeros, as in tifffile.
            if page is not None:
                if why := _why_page_too_short(page, self._file.filehandle.size):
                    raise ValueError(why)
                voxels[index] = page.asarray(maxworkers=1).reshape(inner)[slices[outer_ndim:]]
        return voxels

    def _outer_ndim(self) -> int:
        """Return how many leading axes count pages; the others lie within one."""
        page_voxels = prod(self._series.keyframe.shape)
        for ndim in range(len(self.shape) + 1):
            if prod(self.shape[ndim:]) == page_voxels:
                return ndim
        message = f"{self._path}: pages of {self._series.keyframe.shape} do not make up a volume of {self.shape}"
        raise InputError(message)


def _why_too_short(file: Any, series: Any) -> str | None:
    """Return what is missing of a series that the file promises; of its pages, the first is looked at."""
    if series.dataoffset is not None:
        promised_bytes = series.dataoffset + prod(series.shape) * np.dtype(series.dtype).itemsize
        present_bytes = file.filehandle.size
        return None if promised_bytes <= present_bytes else f"{present_bytes} bytes where {promised_bytes} are promised"
    page = series.pages[0]
    return None if page is None else _why_page_too_short(page, file.filehandle.size)


def _why_page_too_short(page: Any, file_bytes: int) -> str | None:
    """Return why a page cannot hold its voxels, so that no memory is taken for what a header merely claims."""
    keyframe = page.keyframe
    part_count, part_bytes = prod(keyframe.chunked), prod(keyframe.chunks) * keyframe.dtype.itemsize
    if part_count > len(page.dataoffsets):
        return f"a page has {len(page.dataoffsets)} parts where its shape {keyframe.shape} asks for {part_count}"
    expansion = MOST_EXPANSION.get(int(keyframe.compression), MOST_EXPANSION_OF_OTHERS)
    if max(page.databytecounts, default=0) > file_bytes:
        return f"a part of a page is {max(page.databytecounts)} bytes long, and the file {file_bytes}"
    stored_bytes = sum(page.databytecounts)
    # Parts that are left out read as zeros.
    left_out_bytes = min(part_bytes, MOST_LEFT_OUT_BYTES) * sum(count == 0 for count in page.databytecounts)
    if part_count * part_bytes > stored_bytes * expansion + left_out_bytes:
        return f"a page of shape {keyframe.shape} cannot lie in {stored_bytes} bytes"
    return None


@lru_cache(maxsize=8)
def _opened(path: str, identity: str, process: int) -> _Stack:  # noqa: ARG001  # the last two tell readers apart
    """Read the table of pages once in each process, and again when the file was replaced."""
    return _Stack(path)
