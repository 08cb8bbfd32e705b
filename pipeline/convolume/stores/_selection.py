"""A part of a source: one channel, one time point, a box; the same for every format."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convolume.errors import InputError, did_you_mean
from convolume.regions import Region
from convolume.stores._interfaces import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from convolume.image import ImageInfo
    from convolume.stores._interfaces import SourceOptions

__all__ = ["SelectedSource", "select"]


def select(source: Source, options: SourceOptions) -> Source:
    """Return the part of `source` that the options name, as a source of its own.

    Axes with a selected channel or time point keep their place, with length 1; a crop moves the translation.

    Raises
    ------
    InputError
        The channel, the time point, an axis or a part of the region is not there.
    """
    box = Region.whole(source.info.shape)
    for name, start, stop in options.region:
        box = _cropped(source, box, name, start, stop)
    if options.time is not None:
        box = _one(source, box, _axis_of_kind(source, "time", "time point"), options.time, "time point")
    if options.channel is not None:
        position = _channel_position(source, options.channel)
        box = _one(source, box, _axis_of_kind(source, "channel", "channel"), position, "channel")
    return source if box == Region.whole(source.info.shape) else SelectedSource(source, box)


class SelectedSource(Source):
    """A box of another source, seen as an image."""

    def __init__(self, whole: Source, box: Region) -> None:
        self.whole = whole
        self.box = box
        self.path = whole.path
        self.info = _info_of_box(whole.info, box)
        self.crosses_processes = whole.crosses_processes
        self.staged_bytes = whole.staged_bytes
        self.library_bytes = whole.library_bytes

    @property
    def cache_bytes(self) -> int:
        """Decoded chunks that a process keeps."""
        return self.whole.cache_bytes

    @cache_bytes.setter
    def cache_bytes(self, value: int) -> None:
        self.whole.cache_bytes = value

    @property
    def io_threads(self) -> int | None:
        """Threads that decode."""
        return self.whole.io_threads

    @io_threads.setter
    def io_threads(self, value: int | None) -> None:
        self.whole.io_threads = value

    @property
    def decoded_chunks(self) -> tuple[tuple[int, int], ...] | None:
        """The whole's chunks, among which the box begins somewhere."""
        chunks = self.whole.decoded_chunks
        if chunks is None:
            return None
        starts = self.box.start
        return tuple((extent, (origin + a) % extent) for (extent, origin), a in zip(chunks, starts, strict=True))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the whole says beside its info."""
        return self.whole.metadata

    def prepare(self) -> None:
        """Prepare the whole."""
        self.whole.prepare()

    def check_whole(self, region: Region) -> None:
        """Check a region of the box."""
        self.whole.check_whole(region.shifted(self.box.start))

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region of the box."""
        return self.whole.read(region.shifted(self.box.start))

    def signature(self) -> str:
        """Return the whole's signature and the box."""
        return f"{self.whole.signature()} {self.box}"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the whole's files in which a region of the box lies: what is not read may change."""
        return self.whole.files(region.shifted(self.box.start))

    def __reduce__(self) -> tuple[type[SelectedSource], tuple[Source, Region]]:
        """Pickle what cannot be computed again."""
        return SelectedSource, (self.whole, self.box)


def _info_of_box(info: ImageInfo, box: Region) -> ImageInfo:
    axes = tuple(
        replace(axis, translation=axis.translation + start * axis.spacing)
        for axis, start in zip(info.axes, box.start, strict=True)
    )
    channels = info.channels
    for axis, start, stop in zip(info.axes, box.start, box.stop, strict=True):
        if axis.kind == "channel":
            channels = channels[start:stop]
    chunks = None if info.chunks is None else tuple(min(c, n) for c, n in zip(info.chunks, box.shape, strict=True))
    return info.with_(shape=box.shape, axes=axes, channels=channels, chunks=chunks, shards=None)


def _narrowed(box: Region, axis: int, start: int, stop: int) -> Region:
    return Region((*box.start[:axis], start, *box.start[axis + 1 :]), (*box.stop[:axis], stop, *box.stop[axis + 1 :]))


def _cropped(source: Source, box: Region, name: str, start: int, stop: int) -> Region:
    names = [axis.name for axis in source.info.axes]
    if name not in names:
        message = f"{source.path}: region: there is no axis {name!r} (there are: {', '.join(names)})"
        raise InputError(message)
    axis = names.index(name)
    length = source.info.shape[axis]
    if not 0 <= start < stop <= length:
        message = (
            f"{source.path}: region: {name} from {start} to {stop} does not lie in the image, "
            f"whose {name} goes from 0 to {length} (the end is not included)"
        )
        raise InputError(message)
    return _narrowed(box, axis, start, stop)


def _axis_of_kind(source: Source, kind: str, what: str) -> int:
    for position, axis in enumerate(source.info.axes):
        if axis.kind == kind:
            return position
    names = "".join(axis.name for axis in source.info.axes)
    message = f"{source.path}: a {what} is asked for, and the image's axes, {names!r}, hold none; leave it out"
    raise InputError(message)


def _one(source: Source, box: Region, axis: int, position: int, what: str) -> Region:
    if not box.start[axis] <= position < box.stop[axis]:
        message = (
            f"{source.path}: {what} {position} is not there; there are {box.stop[axis] - box.start[axis]} "
            f"({box.start[axis]} to {box.stop[axis] - 1})"
        )
        raise InputError(message)
    return _narrowed(box, axis, position, position + 1)


def _channel_position(source: Source, channel: int | str) -> int:
    if isinstance(channel, int):
        return channel
    names = [each.name for each in source.info.channels]
    if channel not in names:
        known = f"there are: {', '.join(names)}" if names else "this image's channels have no names: give a position"
        message = f"{source.path}: there is no channel {channel!r}{did_you_mean(channel, names)} ({known})"
        raise InputError(message)
    return names.index(channel)
