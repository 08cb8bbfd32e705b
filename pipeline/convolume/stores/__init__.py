"""Stores hold images: sources are read by region, sinks are written by region; one file a format.

A member module offers any of

- ``recognises(path: str) -> bool``: cheap, opens as little as it can, never raises for foreign files;
- ``PRECEDENCE: int``: formats with a lower number are asked first;
- ``open_source(path: str, options: SourceOptions) -> Source``;
- ``create_sink(path: str, image: ImageInfo, options: SinkOptions) -> Sink``, and ``SUFFIXES``: endings
  of output paths that this format writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from convolume.errors import InputError
from convolume.registry import load_member, member_names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    import numpy.typing as npt

    from convolume.image import ImageInfo
    from convolume.regions import Region

__all__ = ["Sink", "SinkOptions", "Source", "SourceOptions", "create_sink", "open_source"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a user may say of an input beside its path.

    `axes` (such as ``"zyx"``) and `spacing` (one entry a space axis, in `unit`) are for formats that do not
    carry them, and win over what the file says. `channel` is a position or a name.
    """

    level: int = 0
    channel: int | str | None = None
    time: int | None = None
    region: tuple[tuple[str, int, int], ...] = ()
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    unit: str | None = None


class Source(ABC):
    """An image that is read by region. It keeps a path, pickles small and reopens in each process."""

    path: str
    info: ImageInfo

    @abstractmethod
    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region that lies inside the image, in the image's dtype.

        The array may be a view or a cache's: it is never written.
        """


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """How an output is stored; None takes a good default for the image's shape."""

    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    pyramid: bool = True
    if_exists: Literal["error", "overwrite"] = "error"


class Sink(ABC):
    """An image that is written by region, in whole shards, and becomes visible when it is finished.

    It keeps a path, pickles small and reopens in each process. Level 0 is the image, the others are its pyramid;
    `levels` and `write_unit` (the shard, or the chunk where there are no shards) are known before
    anything is written.
    """

    path: str
    levels: tuple[ImageInfo, ...]
    write_unit: tuple[int, ...]

    @abstractmethod
    def check(self) -> None:
        """Refuse, before anything is written, what could not be created (it exists, no permission).

        Raises
        ------
        InputError
            Says what stands in the way and what to do.
        """

    @abstractmethod
    def create(self) -> None:
        """Make the empty arrays; what is there does not open as an image yet."""

    @abstractmethod
    def write(self, level: int, region: Region, voxels: npt.NDArray[Any]) -> int:
        """Write whole shards of one level; return the number of uncompressed bytes."""

    @abstractmethod
    def read(self, level: int, region: Region) -> npt.NDArray[Any]:
        """Return voxels that were written."""

    @abstractmethod
    def finish(self, provenance: Mapping[str, Any], windows: tuple[tuple[float, float, float, float], ...]) -> None:
        """Write the metadata that makes the image visible, last of all.

        Parameters
        ----------
        provenance : mapping
            JSON-like: workflow, plan, versions, device, input.
        windows : tuple of (min, max, start, end)
            Display window of each channel, fresh from the result.
        """


def open_source(path: str, options: SourceOptions | None = None) -> Source:
    """Open an image in whichever format it has; no voxel is read.

    Raises
    ------
    InputError
        Nothing is there, no format knows it, or the options do not fit it.
    """
    for member in _members_with("recognises"):
        if member.recognises(path):
            source: Source = member.open_source(path, options or SourceOptions())
            return source
    message = f"{path}: no such image, or none of the formats that are known ({', '.join(member_names('stores'))})"
    raise InputError(message)


def create_sink(path: str, image: ImageInfo, options: SinkOptions | None = None) -> Sink:
    """Return the sink that will hold `image` at `path`; nothing is written yet.

    Raises
    ------
    InputError
        No format writes to such a path.
    """
    for member in _members_with("create_sink"):
        if path.endswith(member.SUFFIXES) or path.startswith(member.SUFFIXES):
            sink: Sink = member.create_sink(path, image, options or SinkOptions())
            return sink
    endings = [suffix for member in _members_with("create_sink") for suffix in member.SUFFIXES]
    message = f"{path}: no format writes to such a path; end it with one of {', '.join(endings)}"
    raise InputError(message)


def _members_with(function: str) -> list[ModuleType]:
    modules = [load_member("stores", name) for name in member_names("stores")]
    return sorted((m for m in modules if hasattr(m, function)), key=lambda m: m.PRECEDENCE)
