"""``lazy:NAME``: dask arrays of this process by name, as sources of runs that go through ``map_overlap``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from convolume.errors import InputError
from convolume.image import ImageInfo
from convolume.regions import Region
from convolume.stores._axes import check_dtype, check_one_level, with_options
from convolume.stores._interfaces import Source, SourceOptions

if TYPE_CHECKING:
    import dask.array as da
    import numpy.typing as npt

__all__ = ["PRECEDENCE", "LazySource", "chunks_of", "drop", "holding", "open_source", "put", "recognises"]

PRECEDENCE = 1

_ARRAYS: dict[str, tuple[da.Array, ImageInfo]] = {}


def put(name: str, array: da.Array, info: ImageInfo | None = None) -> None:
    """Make a dask array an image that ``lazy:name`` opens; nothing is computed.

    Parameters
    ----------
    name : str
        Replaces an image of the same name.
    array : dask.array.Array
        At most (t, c, z, y, x), with known shape.
    info : ImageInfo, optional
        Axes and voxel size; without it, the axes are the last of (t, c, z, y, x).

    Raises
    ------
    InputError
        The shape is not known, or the dtype cannot be filtered.
    """
    path = f"lazy:{name}"
    if any(np.isnan(extent) for extent in array.shape):
        message = f"{path}: the array's shape {array.shape} is not known: call `compute_chunk_sizes()` on it first"
        raise InputError(message)
    dtype = check_dtype(path, array.dtype)
    if info is None:
        info = ImageInfo(array.shape, dtype, with_options(path, array.shape, None, SourceOptions()))
    _ARRAYS[name] = (array, info)


def drop(name: str) -> None:
    """Forget ``lazy:name``; nothing happens if there is no such image."""
    _ARRAYS.pop(name, None)


def recognises(path: str) -> bool:
    """Say whether this is the name of a lazy array."""
    return path.startswith("lazy:")


def open_source(path: str, options: SourceOptions) -> LazySource:
    """Open a dask array that was put here."""
    check_one_level(path, options)
    name = path.removeprefix("lazy:")
    if name not in _ARRAYS:
        message = f"{path}: there is no such lazy array (there are: {', '.join(_ARRAYS) or 'none'})"
        raise InputError(message)
    array, info = _ARRAYS[name]
    return LazySource(path, array, info.with_(axes=with_options(path, info.shape, info.axes, options)))


class LazySource(Source):
    """A dask array; a region is computed when it is read."""

    def __init__(self, path: str, array: da.Array, info: ImageInfo) -> None:
        self.path, self.array, self.info = path, array, info

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Compute one region here: inside a task, the cluster would wait for itself."""
        voxels: npt.NDArray[Any] = self.array[region.slices].compute(scheduler="synchronous")
        return voxels

    def signature(self) -> str:
        """Return the name of the array's graph."""
        return str(self.array.name)


def holding(source: Source) -> LazySource:
    """Return a source whose graph holds the array itself: it outlives its name, and travels to other processes."""
    import dask.array as da  # noqa: PLC0415 - loaded for lazy results only

    voxels = source.read(Region.whole(source.info.shape))
    array = da.from_array(voxels, chunks=chunks_of(source), name=f"read array-{uuid4().hex[:8]}")
    return LazySource(source.path, array, source.info)


def chunks_of(source: Source) -> tuple[int, ...]:
    """Return the chunks of a lazy result: those of the source, or 128 voxels along each space axis."""
    info = source.info
    if isinstance(source, LazySource):
        return tuple(max(chunks, default=1) for chunks in source.array.chunks)
    unit = info.shards or info.chunks
    return unit or tuple(
        min(128, n) if axis.kind == "space" else 1 for n, axis in zip(info.shape, info.axes, strict=True)
    )
