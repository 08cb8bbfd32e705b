"""Voxels in and out of Zarr arrays: tensorstore where it can, zarr-python for what it refuses, one interface.

tensorstore writes each file beside its place and renames it, so that a killed process leaves no torn chunk.
It aborts a process that was forked after its first use: there, zarr-python serves.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from convolume.arrays import new_array
from convolume.errors import InputError
from convolume.stores._faults import fault
from convolume.stores._files import check_chunk
from convolume.stores._zarr_metadata import codec_names, document_of, hidden_array, read_layout

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.regions import Region
    from convolume.stores._zarr_metadata import ArrayLayout

__all__ = ["ZarrArray"]

# What tensorstore reads, in the words of Zarr v3 and v2.
_USUAL_CODECS = frozenset("blosc bytes bz2 crc32c gzip sharding_indexed transpose zlib zstd".split())  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class ZarrArray:
    """One array on disk, opened when first used in each process; it pickles as its path.

    Parameters
    ----------
    path : str
        The array's folder.
    cache_bytes : int
        Decoded chunks that this process keeps, all arrays with this setting together.
    io_threads : int, optional
        Threads that read, decode and copy; None is as many as there are cores.
    """

    path: str
    cache_bytes: int = 0
    io_threads: int | None = None

    def check(self) -> None:
        """Refuse voxels that were coded with what no library here knows; for the usual codecs nothing is opened.

        Raises
        ------
        InputError
            Names the codecs.
        """
        if not _USUAL_CODECS.issuperset(_codecs(self.path)):
            self._engine()

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region in the machine's byte order.

        Raises
        ------
        RunError
            A chunk is damaged or cannot be read; a `PassingError` where that may pass.
        """
        engine = self._engine()
        try:
            return engine.read(region.slices)
        except (ValueError, RuntimeError, OSError) as error:
            what = f"{self.path}: voxels {region} cannot be read"
            raise fault(what, error, "the file is damaged, or not there any more") from error

    def write(self, region: Region, voxels: npt.NDArray[Any]) -> None:
        """Write voxels of the array's dtype to a region of whole shards.

        Raises
        ------
        RunError
            The file system refuses (full disk, no permission), for good or for now; see `convolume.errors`.
        """
        engine = self._engine()
        try:
            engine.write(region.slices, voxels)
        except (ValueError, RuntimeError, OSError) as error:
            what = f"{self.path}: voxels {region} cannot be written"
            raise fault(what, error, "is the disk full?") from error

    def _engine(self) -> _Engine:
        return _opened(self.path, self.cache_bytes, self.io_threads, os.getpid(), _stamp(self.path))


class _Engine(Protocol):
    def read(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]: ...

    def write(self, slices: tuple[slice, ...], voxels: npt.NDArray[Any]) -> None: ...


class _TensorStore:
    def __init__(self, path: str, layout: ArrayLayout, cache_bytes: int, io_threads: int | None) -> None:
        # Waiting for the disk after each chunk costs 20 % of writing; what protects a run is the rename.
        kvstore = {"driver": "file", "path": path, "file_io_sync": False}
        spec: dict[str, Any] = {"driver": "zarr3" if layout.zarr_format == 3 else "zarr", "kvstore": kvstore}  # noqa: PLR2004  # Zarr's own number
        if (hidden := hidden_array(path)) is not None:
            spec |= {"metadata": hidden, "assume_metadata": True}
        context = _context(cache_bytes, io_threads, os.getpid())
        tensorstore = import_module("tensorstore")
        self._array = tensorstore.open(spec, context=context, open=True).result()
        self._in_memory = partial(tensorstore.array, context=context, copy=False, write=True)

    def read(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        part = self._array[slices]
        # Its own arrays are of small pages, which the system clears one by one: 25 % more time.
        voxels = new_array(part.shape, part.dtype.numpy_dtype)
        self._in_memory(voxels).write(part).result()
        return voxels

    def write(self, slices: tuple[slice, ...], voxels: npt.NDArray[Any]) -> None:
        self._array[slices].write(voxels).result()


class _ZarrPython:
    def __init__(self, path: str, layout: ArrayLayout) -> None:
        zarr = import_module("zarr")
        if (hidden := hidden_array(path)) is None:
            self._array = zarr.open_array(path, mode="r+")
        else:
            place = zarr.storage.StorePath(zarr.storage.LocalStore(path))
            self._array = zarr.Array(zarr.AsyncArray(hidden, place))
        self._dtype = layout.dtype

    def read(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        return np.asarray(self._array[slices]).astype(self._dtype, copy=False)

    def write(self, slices: tuple[slice, ...], voxels: npt.NDArray[Any]) -> None:
        self._array[slices] = voxels


@lru_cache(maxsize=256)
def _opened(path: str, cache_bytes: int, io_threads: int | None, process: int, stamp: tuple[int, ...]) -> _Engine:  # noqa: ARG001  # the last two tell handles apart
    """Open an array once in each process, and again when its metadata file was replaced."""
    layout = read_layout(path)
    check_chunk(path, layout.chunks, layout.dtype.itemsize)
    refusal = "it cannot be used after a fork"
    if not _FORK.happened:
        try:
            return _TensorStore(path, layout, cache_bytes, io_threads)
        except (ValueError, NotImplementedError) as error:
            refusal = str(error).partition(" [tensorstore_spec=")[0]
    try:
        return _ZarrPython(path, layout)
    except (ValueError, KeyError, TypeError, NotImplementedError, ImportError) as error:
        coded = ", ".join(_codecs(path)) or "none"
        message = (
            f"{path}: cannot be opened (codecs: {coded}). zarr-python says: {error}; tensorstore says: {refusal}. "
            "Store the image with other codecs, such as blosc, or install the package that brings these to zarr-python"
        )
        raise InputError(message) from error


def _codecs(path: str) -> tuple[str, ...]:
    try:
        return codec_names(document_of(path))
    except (KeyError, TypeError, AttributeError) as error:
        message = f"{path}: this Zarr array's codecs are not understood ({type(error).__name__}: {error})"
        raise InputError(message) from error


@lru_cache(maxsize=4)
def _context(cache_bytes: int, io_threads: int | None, process: int) -> Any:  # noqa: ARG001  # one for each process
    # Open arrays hold their context's cache: let go of those whose settings nobody asks for any more.
    _opened.cache_clear()
    threads = {"limit": io_threads or "shared"}
    return import_module("tensorstore").Context(
        {
            "cache_pool": {"total_bytes_limit": cache_bytes},
            "data_copy_concurrency": threads,
            "file_io_concurrency": threads,
        }
    )


def _stamp(path: str) -> tuple[int, ...]:
    for name in ("zarr.json", ".zarray"):
        try:
            status = Path(path, name).stat()
        except OSError:
            continue
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
    return ()


class _Fork:
    """Remembers whether this process was forked from one that had tensorstore's threads."""

    happened = False

    def mark(self) -> None:
        self.happened = self.happened or "tensorstore" in sys.modules


_FORK = _Fork()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_FORK.mark)
