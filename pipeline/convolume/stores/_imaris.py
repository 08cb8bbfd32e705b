"""Imaris files: a dataset for each level, time point and channel, padded to whole chunks; together one image."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import count
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError
from convolume.image import Channel, ImageInfo, default_axes
from convolume.regions import Region
from convolume.stores._axes import check_dtype, with_options
from convolume.stores._hdf5_files import LIBRARY_BYTES, Hdf5File, attribute, opened, read_chunked
from convolume.stores._hdf5_metadata import text_of
from convolume.stores._interfaces import Source, SourceOptions
from convolume.stores._tiff_metadata import UNITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from convolume.image import Axis

__all__ = ["ImarisSource", "is_imaris", "open_image"]

INFO = "/DataSetInfo"
IMAGE = f"{INFO}/Image"
# Imaris counts its axes from x on.
NUMBERS = {"x": 0, "y": 1, "z": 2}


def is_imaris(file: Hdf5File) -> bool:
    """Say whether an HDF5 file is laid out as Imaris does."""
    return file.group(_place(0, 0, 0)) is not None


def open_image(file: Hdf5File, options: SourceOptions) -> Source:
    """Open one resolution level of an Imaris file.

    Raises
    ------
    InputError
        The level is not there, or does not tell its extents.
    """
    path, level = file.path, options.level
    levels = _count(lambda number: _place(number, 0, 0), file)
    if level >= levels:
        message = f"{path}: level {level} is not there; this image has {levels} (0 to {levels - 1})"
        raise InputError(message)
    times = _count(lambda number: _place(level, number, 0), file)
    channels = _count(lambda number: _place(level, 0, number), file)
    node = file.dataset(_data(level, 0, 0))
    extents = _extents(file, level, node.shape)
    shape = (times, channels, *extents)
    info = ImageInfo(
        shape=shape,
        dtype=check_dtype(path, node.dtype.newbyteorder("=")),
        axes=with_options(path, shape, _axes(file, extents), options),
        chunks=(1, 1, *node.chunks) if node.chunks else None,
        channels=_channels(file, channels),
    )
    return ImarisSource(path, info, level)


class ImarisSource(Source):
    """One level of an Imaris file, which is open while it is read."""

    library_bytes = LIBRARY_BYTES

    def __init__(self, path: str, info: ImageInfo, level: int) -> None:
        self.path = path
        self.info = info
        self.level = level

    @property
    def decoded_chunks(self) -> tuple[tuple[int, int], ...] | None:
        """The chunks; None where datasets lie in one piece."""
        return tuple((extent, 0) for extent in self.info.chunks) if self.info.chunks else None

    def check_whole(self, region: Region) -> None:
        """Refuse an image of which a time point or a channel is missing, or is another one's."""
        with opened(self.path) as file:
            self._check_datasets(file, region)

    def _check_datasets(self, file: Hdf5File, region: Region) -> None:
        for time, channel, name in self._datasets(region):
            node = file.dataset(name)
            fits = len(node.shape) == len(NUMBERS) and all(map(int.__ge__, node.shape, self.info.shape[2:]))
            if not fits or node.dtype.name != self.info.dtype:
                message = (
                    f"{self.path}: channel {channel} of time point {time} is {node.dtype} {node.shape}, and the image "
                    f"{self.info.dtype} {self.info.shape[2:]}; write it again"
                )
                raise InputError(message)

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region; each chunk that it touches is decoded."""
        within = Region(region.start[2:], region.stop[2:])
        layout = (self.info.shape[2:], self.info.chunks[2:]) if self.info.chunks else None
        voxels = np.empty(region.shape, self.info.dtype)
        for time, channel, name in self._datasets(region):
            part = read_chunked(self.path, name, layout, within, self.info.dtype, self.cache_bytes)
            voxels[time - region.start[0], channel - region.start[1]] = part
        return voxels

    def signature(self) -> str:
        """Return the format and the level: all else stands in the file."""
        return f"imaris level {self.level}"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the file."""
        del region
        return (self.path,)

    def _datasets(self, region: Region) -> Iterator[tuple[int, int, str]]:
        times, channels, *_ = region.slices
        for time in range(times.start, times.stop):
            for channel in range(channels.start, channels.stop):
                yield time, channel, _data(self.level, time, channel)


def _place(level: int, time: int, channel: int) -> str:
    return f"/DataSet/ResolutionLevel {level}/TimePoint {time}/Channel {channel}"


def _data(level: int, time: int, channel: int) -> str:
    return f"{_place(level, time, channel)}/Data"


def _count(place: Callable[[int], str], file: Hdf5File) -> int:
    """Return how many groups there are, numbered from 0 on."""
    return next(number for number in count() if file.group(place(number)) is None)


def _extents(file: Hdf5File, level: int, stored: tuple[int, ...]) -> tuple[int, ...]:
    """Return the extents without what fills up chunks: of the whole image, or of a level where it tells them."""
    found = tuple(_number(file, IMAGE, name) for name in "ZYX") if level == 0 else (None,)
    if None in found:
        found = tuple(_number(file, _place(level, 0, 0), f"ImageSize{name}") for name in "ZYX")
    extents = tuple(int(n) for n in found if n is not None)
    if len(extents) == len(stored) == len(NUMBERS) and all(1 <= n <= m for n, m in zip(extents, stored, strict=True)):
        return extents
    told = "does not say its extents" if None in found else f"says that its extents are {extents}"
    message = (
        f"{file.path}: level {level} {told}, and {stored} are stored, which fill up chunks; "
        f"read them as they are by `dataset: {_data(level, 0, 0)}`"
    )
    raise InputError(message)


def _axes(file: Hdf5File, extents: tuple[int, ...]) -> tuple[Axis, ...]:
    """Return the axes; the corners of the whole image are told, from which each level's voxel size follows."""
    unit = UNITS.get((_text(file, IMAGE, "Unit") or "um").lower())
    axes = list(default_axes(len("tczyx")))
    for position, extent in enumerate(extents, len("tc")):
        number = NUMBERS[axes[position].name]
        low, high = (_number(file, IMAGE, f"{end}{number}") for end in ("ExtMin", "ExtMax"))
        if unit is not None and low is not None and high is not None and high > low:
            step = (high - low) / extent
            # Imaris tells where the outer faces are, an axis where the first voxel's centre is.
            axes[position] = replace(axes[position], unit=unit, spacing=step, translation=low + step / 2)
    return tuple(axes)


def _channels(file: Hdf5File, channels: int) -> tuple[Channel, ...]:
    names = [_text(file, f"{INFO}/Channel {number}", "Name") for number in range(channels)]
    if not any(names):
        return ()
    return tuple(Channel(name or f"Channel {number}") for number, name in enumerate(names))


def _text(file: Hdf5File, group: str, name: str) -> str | None:
    node = file.group(group)
    return None if node is None else text_of(attribute(node, name))


def _number(file: Hdf5File, group: str, name: str) -> float | None:
    with suppress(ValueError):
        number = float(_text(file, group, name) or "nan")
        return number if isfinite(number) else None
    return None
