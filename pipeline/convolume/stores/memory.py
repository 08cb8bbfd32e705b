"""Images in this process's memory, by name: ``memory:brain``; for tests and for arrays that are at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convolume.arrays import new_array
from convolume.errors import InputError, did_you_mean
from convolume.image import ImageInfo
from convolume.stores._axes import check_dtype, with_options
from convolume.stores._interfaces import Advance, Sink, SinkOptions, Source, SourceOptions, Windows, nothing
from convolume.stores._layout import level_infos, write_unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from convolume.regions import Region

__all__ = ["MemorySink", "MemorySource", "create_sink", "drop", "get", "open_source", "put", "recognises"]

PRECEDENCE = 0
SUFFIXES = ("memory:",)


@dataclass(slots=True)
class _Image:
    levels: list[npt.NDArray[Any]]
    infos: tuple[ImageInfo, ...]
    finished: bool = True
    provenance: Mapping[str, Any] | None = None
    windows: tuple[tuple[float, float, float, float], ...] = ()


_IMAGES: dict[str, _Image] = {}


def put(name: str, array: npt.NDArray[Any], info: ImageInfo | None = None) -> None:
    """Make an array an image that ``memory:name`` opens; it is not copied.

    Parameters
    ----------
    name : str
        Replaces an image of the same name.
    array : ndarray
        At most (t, c, z, y, x).
    info : ImageInfo, optional
        Axes and voxel size; without it, the axes are the last of (t, c, z, y, x).

    Examples
    --------
    >>> import numpy as np
    >>> put("ones", np.ones((4, 5)))
    >>> get("ones").shape
    (4, 5)
    >>> drop("ones")
    """
    dtype = check_dtype(f"memory:{name}", array.dtype)
    if info is None:
        info = ImageInfo(array.shape, dtype, with_options(f"memory:{name}", array.shape, None, SourceOptions()))
    if (info.shape, info.dtype) != (array.shape, dtype):
        message = f"memory:{name}: the array is {dtype} {array.shape}, and its info says {info.dtype} {info.shape}"
        raise InputError(message)
    _IMAGES[name] = _Image([array], (info,))


def get(name: str, level: int = 0) -> npt.NDArray[Any]:
    """Return the array of one level of ``memory:name``, itself and not a copy."""
    return _finished(f"memory:{name}").levels[level]


def drop(name: str) -> None:
    """Forget ``memory:name``; nothing happens if there is no such image."""
    _IMAGES.pop(name, None)


def recognises(path: str) -> bool:
    """Say whether this is a name in memory."""
    return path.startswith("memory:")


def open_source(path: str, options: SourceOptions) -> Source:
    """Open an image that was put into memory, or that a finished run left there."""
    image = _finished(path)
    if not 0 <= options.level < len(image.levels):
        message = f"{path}: level {options.level} is not there; there are {len(image.levels)} (from 0)"
        raise InputError(message)
    info = image.infos[options.level]
    info = info.with_(axes=with_options(path, info.shape, info.axes, options))
    return MemorySource(path, info, options.level)


def create_sink(path: str, image: ImageInfo, options: SinkOptions) -> Sink:
    """Return a sink that keeps an image in memory."""
    return MemorySink(path, image, options)


def _finished(path: str) -> _Image:
    image = _image(path)
    if not image.finished:
        message = f"{path}: the run that should make this image did not finish"
        raise InputError(message)
    return image


def _image(path: str) -> _Image:
    name = path.removeprefix("memory:")
    if name not in _IMAGES:
        message = f"{path}: no such image in this process's memory{did_you_mean(name, _IMAGES)}"
        raise InputError(message)
    return _IMAGES[name]


class MemorySource(Source):
    """An array in this process; regions are views of it."""

    crosses_processes = False
    cache_bytes = 0

    def __init__(self, path: str, info: ImageInfo, level: int) -> None:
        self.path = path
        self.info = info
        self.level = level

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return a view of the array."""
        return _finished(self.path).levels[self.level][region.slices]

    def signature(self) -> str:
        """Return the array's address in memory: another array is another image."""
        array = _finished(self.path).levels[self.level]
        return f"{self.path} level {self.level} at {array.__array_interface__['data'][0]}"


class MemorySink(Sink):
    """Arrays in this process, one a level."""

    crosses_processes = False

    def __init__(self, path: str, image: ImageInfo, options: SinkOptions) -> None:
        self.path = path
        self.levels = level_infos(path, image, options)
        self.write_unit = write_unit(self.levels[0])
        self.overwrites = options.if_exists == "overwrite"

    def check(self) -> None:
        """Refuse a name that is taken, unless it may be overwritten."""
        name = self.path.removeprefix("memory:")
        if name in _IMAGES and _IMAGES[name].finished and not self.overwrites:
            message = f"{self.path}: exists already; choose another name, or `if_exists: overwrite`"
            raise InputError(message)

    def create(self) -> None:
        """Make the empty arrays."""
        arrays = [new_array(level.shape, level.dtype) for level in self.levels]
        _IMAGES[self.path.removeprefix("memory:")] = _Image(arrays, self.levels, finished=False)

    def write(self, level: int, region: Region, voxels: npt.NDArray[Any]) -> int:
        """Copy voxels into the array of a level."""
        _image(self.path).levels[level][region.slices] = voxels
        return int(voxels.nbytes)

    def read(self, level: int, region: Region) -> npt.NDArray[Any]:
        """Return a view of what was written."""
        return _image(self.path).levels[level][region.slices]

    def finish(self, provenance: Mapping[str, Any], windows: Windows, advance: Advance = nothing) -> None:
        """Let the image be opened."""
        del advance  # it is done at once
        image = _image(self.path)
        image.provenance, image.windows, image.finished = provenance, windows, True
