"""Plain Zarr arrays, v3 and v2: images whose axes and voxel size the user may have to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convolume.image import Axis, ImageInfo
from convolume.stores._axes import KINDS, check_dtype, check_one_level, named_axes, with_options
from convolume.stores._chunk_files import ChunkFiles
from convolume.stores._interfaces import Source, SourceOptions
from convolume.stores._zarr_arrays import ZarrArray
from convolume.stores._zarr_metadata import attributes, digest, node_kind, read_layout

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.regions import Region
    from convolume.stores._zarr_metadata import ArrayLayout

__all__ = ["ZarrSource", "open_source", "recognises"]

PRECEDENCE = 11


def recognises(path: str) -> bool:
    """Say whether a Zarr array is there."""
    return node_kind(path) == "array"


def open_source(path: str, options: SourceOptions) -> Source:
    """Open an array; its axes are what the user says, else its dimension names, else the last of (t, c, z, y, x)."""
    check_one_level(path, options)
    layout = read_layout(path)
    names = _dimension_names(path, layout)
    axes = _axes(path, names)
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
    return ZarrSource(path, info, path, files, is_strict=options.missing == "error")


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
