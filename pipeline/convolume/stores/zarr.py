"""Plain Zarr arrays: v3 and v2 are read, the user may have to tell axes and voxel size; v3 is written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convolume.errors import InputError
from convolume.image import Axis, ImageInfo
from convolume.stores._axes import KINDS, check_dtype, check_one_level, named_axes, with_options
from convolume.stores._chunk_files import ChunkFiles
from convolume.stores._interfaces import Source, nothing
from convolume.stores._layout import level_infos
from convolume.stores._zarr_arrays import ZarrArray
from convolume.stores._zarr_documents import array_document, write_document, write_group
from convolume.stores._zarr_files import WrittenArrays
from convolume.stores._zarr_metadata import HIDDEN_ARRAY, attributes, digest, node_kind, read_layout
from convolume.stores._zarr_sink import ZarrSink, journal_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from convolume.regions import Region
    from convolume.stores._interfaces import Advance, Layout, Sink, SinkOptions, SourceOptions, Windows, Written
    from convolume.stores._zarr_metadata import ArrayLayout

__all__ = ["PlainZarrSink", "ZarrSource", "create_sink", "journal_folder", "open_source", "open_written", "recognises"]

PRECEDENCE = 11
SUFFIXES = (".zarr",)
FORMATS = ("zarr",)


def recognises(path: str) -> bool:
    """Say whether a Zarr array is there."""
    return node_kind(path) == "array"


def open_source(path: str, options: SourceOptions) -> Source:
    """Open an array; its axes are what the user says, else its dimension names, else the last of (t, c, z, y, x).

    Where this package wrote it, their voxel size is there too.
    """
    check_one_level(path, options)
    layout = read_layout(path)
    ZarrArray(path).check()
    names = _dimension_names(path, layout)
    ours = _ours(path)
    axes = _written_axes(path, ours) or _axes(path, names)
    unknown = bool(names) and axes is None and options.axes is None
    info = ImageInfo(
        shape=layout.shape,
        dtype=check_dtype(path, layout.dtype),
        axes=with_options(path, layout.shape, axes, options),
        chunks=layout.chunks,
        shards=layout.shards,
    )
    if unknown:
        taken = "".join(axis.name for axis in info.axes)
        info = info.with_(notes=(f"{path}: its dimensions are named {', '.join(names)}; {taken} are taken",))
    files = ChunkFiles.of(path, layout.shards or layout.chunks)
    # Our own outputs are whole when they open: what is missing there was all fill value.
    is_strict = options.missing == "error" and ours.get("finished") is not True
    return ZarrSource(path, info, path, files, is_strict=is_strict)


def create_sink(path: str, image: ImageInfo, options: SinkOptions) -> Sink:
    """Return a sink that writes one Zarr v3 array."""
    return PlainZarrSink(path, image, options)


def open_written(path: str, _layouts: Sequence[Layout]) -> Written:
    """Return the array that a run of this package wrote; one that is not finished is a group to others."""
    return WrittenArrays(path)


def _ours(path: str) -> dict[str, Any]:
    ours = attributes(path).get("convolume")
    return ours if isinstance(ours, dict) else {}


def _written_axes(path: str, ours: dict[str, Any]) -> tuple[Axis, ...] | None:
    """Return the axes that this package wrote, with their voxel size."""
    if "axes" not in ours:
        return None
    try:
        return tuple(
            Axis(axis["name"], axis["type"], axis["unit"], float(axis["spacing"]), float(axis["translation"]))
            for axis in ours["axes"]
            if axis["type"] in KINDS.values()
        )
    except (KeyError, TypeError, ValueError) as error:
        message = (
            f"{path}: its axes, in its attribute `convolume`, are not understood ({type(error).__name__}: {error})"
        )
        raise InputError(message) from error


def _dimension_names(path: str, layout: ArrayLayout) -> tuple[str, ...]:
    # xarray writes the names into the attributes where Zarr v2 has no place for them.
    names = layout.dimension_names or attributes(path).get("_ARRAY_DIMENSIONS") or ()
    return tuple(str(name) for name in names if name is not None)


def _axes(path: str, names: tuple[str, ...]) -> tuple[Axis, ...] | None:
    lower = [name.lower() for name in names]
    return named_axes(path, lower) if lower and set(lower) <= set(KINDS) and len(set(lower)) == len(lower) else None


class ZarrSource(Source):
    """One Zarr array on disk that is read as an image.

    Parameters
    ----------
    path : str
        What the user calls the image: the array itself, or the group that holds its levels.
    info : ImageInfo
        The image.
    array_path : str
        The array's folder.
    chunk_files : ChunkFiles
        The files of the array's voxels.
    is_strict : bool
        Whether they must be there; else those that are missing are fill value.
    """

    def __init__(
        self, path: str, info: ImageInfo, array_path: str, chunk_files: ChunkFiles, *, is_strict: bool
    ) -> None:
        self.path = path
        self.info = info
        self.array_path = array_path
        self.chunk_files = chunk_files
        self.is_strict = is_strict

    def check_whole(self, region: Region) -> None:
        """Refuse an image of which files are missing."""
        if self.is_strict:
            self.chunk_files.check_before(self.path, region)

    @property
    def decoded_chunks(self) -> tuple[tuple[int, int], ...]:
        """The chunks, those inside of shards."""
        return tuple((extent, 0) for extent in self.info.chunks or self.info.shape)

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region."""
        voxels = ZarrArray(self.array_path, self.cache_bytes, self.io_threads).read(region)
        if self.is_strict:
            self.chunk_files.check_read(region)
        return voxels

    def signature(self) -> str:
        """Return a digest of the metadata files."""
        return f"zarr {digest(*dict.fromkeys([self.path, self.array_path]))}"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the files of chunks or shards, a sample of them where there are many."""
        return self.chunk_files.sample(region)


class PlainZarrSink(ZarrSink):
    """A Zarr v3 array in the making: where its metadata will stand, an empty group keeps them until it is finished."""

    def _level_infos(self) -> tuple[ImageInfo, ...]:
        return level_infos(self.path, self.image, replace(self.options, pyramid=False))

    def _array_path(self, level: int) -> str:
        del level
        return self.path

    def _make(self, folder: Path) -> None:
        hidden = array_document(self._layout(0))
        write_group(str(folder), {"convolume": {"finished": False, HIDDEN_ARRAY: hidden}})

    def finish(self, provenance: Mapping[str, Any], windows: Windows, advance: Advance = nothing) -> None:
        """Put the array's metadata in the place of the group's; from now on it opens."""
        del windows, advance  # Zarr has no place for them, and it is done at once
        axes = [
            {"name": a.name, "type": a.kind, "unit": a.unit, "spacing": a.spacing, "translation": a.translation}
            for a in self.image.axes
        ]
        ours = {"finished": True, "axes": axes, **provenance}
        write_document(self.path, "zarr.json", {**array_document(self._layout(0)), "attributes": {"convolume": ours}})
