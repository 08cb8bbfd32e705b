"""``lazy:NAME``: dask arrays of this process by name, as sources of runs that go through ``map_overlap``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError
from convolume.image import ImageInfo
from convolume.stores._axes import check_dtype, check_one_level, with_options
from convolume.stores._interfaces import Source, SourceOptions

if TYPE_CHECKING:
    import dask.array as da
    import numpy.typing as npt

    from convolume.regions import Region

__all__ = ["PRECEDENCE", "LazySource", "drop", "open_source", "put", "recognises"]

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

    def identity(self) -> str:
        """Return the name of the array's graph."""
        return str(self.array.name)
