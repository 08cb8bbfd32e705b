"""Stores hold images: sources are read by region, sinks are written by region; one file a format.

A member module offers any of

- ``recognises(path: str) -> bool``: cheap, opens as little as it can, never raises for foreign files;
- ``PRECEDENCE: int``: formats with a lower number are asked first;
- ``HOLDS_DATASETS: bool``: whether ``options.dataset`` means anything to it; without it, the option is refused;
- ``open_source(path: str, options: SourceOptions) -> Source``: the whole image of ``options.level``; channel, time
  point and region are selected here, for all formats alike;
- ``create_sink(path: str, image: ImageInfo, options: SinkOptions) -> Sink``, and ``SUFFIXES``: endings
  (or, for names such as ``memory:result``, beginnings) of output paths that this format writes; ``FORMATS``, where it
  does so for some values of ``options.format`` only;
- ``journal_folder(path: str) -> str`` and ``open_written(path: str, layouts) -> Written``: where the marks of an
  output's blocks stand, and what a run wrote, or began to write, to be verified by them; and
  ``gathered_at(path: str) -> str``, where blocks lie before an output that is one file stands at its path.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume.errors import InputError
from convolume.regions import Region
from convolume.registry import load_member, member_names
from convolume.stores._identity import Identity
from convolume.stores._interfaces import (
    DEFAULT_CACHE_BYTES,
    Format,
    IfExists,
    Layout,
    Sink,
    SinkOptions,
    Source,
    SourceOptions,
    Written,
)
from convolume.stores._paths import check_creatable, check_disk_space, same_or_nested
from convolume.stores._probe import probe_storage
from convolume.stores._selection import select

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import numpy.typing as npt

    from convolume.image import ImageInfo

__all__ = [
    "DEFAULT_CACHE_BYTES",
    "Format",
    "Identity",
    "IfExists",
    "Layout",
    "Sink",
    "SinkOptions",
    "Source",
    "SourceOptions",
    "Written",
    "check_creatable",
    "check_disk_space",
    "create_sink",
    "format_at",
    "formats_of",
    "gathered_at",
    "journal_folder",
    "open_source",
    "open_written",
    "probe_storage",
    "read_array",
    "same_or_nested",
]


# Of images that are often written one a plane.
_IMAGE_ENDINGS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")


def open_source(path: str, options: SourceOptions | None = None) -> Source:
    """Open an image in whichever format it has; no voxel is read.

    Parameters
    ----------
    path : str
        A folder, a file, or a name such as ``memory:result``.
    options : SourceOptions, optional
        Level, channel, time point and region; axes and voxel size where the format carries none.

    Raises
    ------
    InputError
        Nothing is there, no format knows it, or the options do not fit it.
    """
    path, options = _without_slash(path), options or SourceOptions()
    for member in _members_with("recognises"):
        if member.recognises(path):
            _check_dataset(path, member, options)
            source = select(member.open_source(path, options), options)
            source.check_whole(Region.whole(source.info.shape))
            return source
    if gathered_at(path):
        message = f"{path}: was left by a run that did not finish; run its workflow again"
    elif ":" not in path and not Path(path).exists():
        message = f"{path}: there is no such file or folder"
    else:
        known = ", ".join(name for name in member_names("stores"))
        message = f"{path}: none of the formats that are known ({known}) is found there{_series_there(path)}"
    raise InputError(message)


def _series_there(path: str) -> str:
    """Return how the images of a folder are read, or those beside an image, where there are any."""
    place = Path(path)
    with suppress(OSError):
        folder, files = (place, place.iterdir()) if place.is_dir() else (place.parent, iter([place]))
        ending = next((file.suffix for file in files if file.suffix.lower() in _IMAGE_ENDINGS), "")
        if ending:
            return f"; a series of images is read by a pattern, such as '{folder / f'*{ending}'}'"
    return ""


def create_sink(path: str, image: ImageInfo, options: SinkOptions | None = None) -> Sink:
    """Return the sink that will hold `image` at `path`; nothing is written yet.

    Raises
    ------
    InputError
        No format writes to such a path, or the format cannot hold such an image.
    """
    path, options = _without_slash(path), options or SinkOptions()
    members = _members_with("create_sink")
    fitting = [member for member in members if path.endswith(member.SUFFIXES) or path.startswith(member.SUFFIXES)]
    for member in fitting:
        if options.format in formats_of(member):
            sink: Sink = member.create_sink(path, image, options)
            return sink
    if fitting:
        message = f"{path}: cannot be written as `format: {options.format}`; leave `format` out, or write to a folder"
        raise InputError(message)
    endings = dict.fromkeys(suffix for member in members for suffix in member.SUFFIXES)
    message = f"{path}: no format writes to such a path; give it one of these: {', '.join(endings)}"
    raise InputError(message)


def gathered_at(path: str) -> str:
    """Return where blocks are gathered of an output that will be one file; an empty text where none are."""
    path = _without_slash(path)
    found = (member.gathered_at(path) for member in _members_with("gathered_at") if path.endswith(member.SUFFIXES))
    return next(filter(None, found), "")


def format_at(path: str) -> str:
    """Return the name of the format that knows what is at `path`; an empty text where none does.

    Examples
    --------
    >>> format_at("sample:mni152-t1"), format_at("no/such/file")
    ('sample', '')
    """
    path = _without_slash(path)
    known = (member.__name__ for member in _members_with("recognises") if member.recognises(path))
    return next(known, "").rpartition(".")[2]


def formats_of(member: ModuleType) -> tuple[str, ...]:
    """Return the values of ``options.format`` that a member's sink takes: the default one where it has no choice."""
    return getattr(member, "FORMATS", (SinkOptions().format,))


def journal_folder(path: str) -> str | None:
    """Return the folder for the marks of an output; None where its format keeps none.

    Examples
    --------
    >>> journal_folder("edges.ome.zarr"), journal_folder("memory:edges")
    ('edges.ome.zarr.convolume', None)
    """
    path = _without_slash(path)
    for member in _members_with("journal_folder"):
        if path.endswith(member.SUFFIXES):
            folder: str = member.journal_folder(path)
            return folder
    return None


def open_written(path: str, layouts: Sequence[Layout] = ()) -> Written:
    """Open what a run of this package wrote, or began to write, to look at it block by block.

    Parameters
    ----------
    path : str
        The output.
    layouts : sequence of (shape, unit)
        Of every level, and of what one writer owned, for formats that do not tell.

    Raises
    ------
    InputError
        No such output is there.
    """
    path = _without_slash(path)
    for member in _members_with("open_written"):
        if member.recognises(path) or (gathered_at(path) and path.endswith(member.SUFFIXES)):
            written: Written = member.open_written(path, layouts)
            return written
    message = f"{path}: there is no output of a run"
    raise InputError(message)


def read_array(path: str) -> npt.NDArray[Any]:
    """Return the whole array of a file: ``.npy``, or any format that is an image; made for kernel files.

    Raises
    ------
    InputError
        There is no such file, or it holds no array.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "kernel.npy")
    >>> np.save(file, np.ones((3, 3)))
    >>> read_array(str(file)).shape
    (3, 3)
    """
    if path.endswith(".npy"):
        array: npt.NDArray[Any] = load_member("stores", "npy").read_npy(path)
        return array
    source = open_source(path)
    return source.read(Region.whole(source.info.shape))


def _check_dataset(path: str, member: ModuleType, options: SourceOptions) -> None:
    if options.dataset is not None and not getattr(member, "HOLDS_DATASETS", False):
        named = f"the dataset {options.dataset!r} is named"
        message = f"{path}: {named}, and this is no file of datasets, as HDF5 is; leave it out"
        raise InputError(message)


def _without_slash(path: str) -> str:
    return path.rstrip("/") or path


def _members_with(function: str) -> list[ModuleType]:
    modules = [load_member("stores", name) for name in member_names("stores")]
    return sorted((m for m in modules if hasattr(m, function)), key=lambda m: m.PRECEDENCE)
