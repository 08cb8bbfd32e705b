"""Decoded chunks that a process keeps, so that halos are not decoded again, for formats whose library keeps none."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy.typing as npt

    from convolume.regions import BlockGrid, Region

__all__ = ["CHUNKS", "ChunkCache", "Chunked"]


@dataclass(frozen=True, slots=True)
class Chunked:
    """An image whose chunks are decoded as a whole.

    Parameters
    ----------
    key : hashable
        Names the image, and changes when it is replaced.
    grid : BlockGrid
        Its chunks.
    dtype : str
        NumPy's name of the dtype.
    decode : callable
        Returns the voxels of a whole chunk.
    """

    key: Hashable
    grid: BlockGrid
    dtype: str
    decode: Callable[[Region], npt.NDArray[Any]]


class ChunkCache:
    """The chunks that were used last, up to a number of bytes; threads may share it.

    Examples
    --------
    >>> from convolume.regions import BlockGrid, Region
    >>> line = np.arange(10)
    >>> image = Chunked("line", BlockGrid((10,), (4,)), "int64", lambda part: line[part.slices])
    >>> ChunkCache().read(image, Region((3,), (6,)), 100)
    array([3, 4, 5])
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, npt.NDArray[Any]] = OrderedDict()
        self._kept_bytes = 0

    def read(self, image: Chunked, region: Region, most_bytes: int) -> npt.NDArray[Any]:
        """Return the voxels of a region; of its chunks, those that are not kept are decoded.

        Parameters
        ----------
        image : Chunked
            What is read.
        region : Region
            A part of it.
        most_bytes : int
            Of the chunks that are kept afterwards, of all images.
        """
        self._let_go(most_bytes)
        units = image.grid.block_shape
        spans = [range(a // n, -(-b // n)) for a, b, n in zip(region.start, region.stop, units, strict=True)]
        voxels = np.empty(region.shape, image.dtype)
        for index in product(*spans):
            place = image.grid.region(index)
            key = (image.key, image.grid, index)
            chunk = self._get(key)
            if chunk is None:
                chunk = image.decode(place)
                self._keep(key, chunk, most_bytes)
            common = region.intersection(place)
            voxels[common.relative_to(region.start).slices] = chunk[common.relative_to(place.start).slices]
        return voxels

    def _get(self, key: Hashable) -> npt.NDArray[Any] | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: Hashable, chunk: npt.NDArray[Any], most_bytes: int) -> None:
        with self._lock:
            if key not in self._kept and chunk.nbytes <= most_bytes:
                self._kept[key] = chunk
                self._kept_bytes += chunk.nbytes
        self._let_go(most_bytes)

    def _let_go(self, most_bytes: int) -> None:
        with self._lock:
            while self._kept_bytes > most_bytes:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes


CHUNKS = ChunkCache()
if hasattr(os, "register_at_fork"):
    # A child may have been born while another thread held the lock.
    os.register_at_fork(after_in_child=CHUNKS.reset)
