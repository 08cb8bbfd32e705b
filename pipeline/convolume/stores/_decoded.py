"""Decoded pieces of images (chunks, pages, tiles) that a process keeps, so that halos are not decoded again.

It is for formats whose library keeps none.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.stores._layout import units_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy.typing as npt

    from convolume.regions import Region
    from convolume.stores._interfaces import Layout

__all__ = ["PIECES", "Chunked", "DecodedPieces"]


class DecodedPieces:
    """Pieces by what they are called; what was used longest ago goes first. Each is decoded once at a time.

    Examples
    --------
    >>> import numpy as np
    >>> pieces = DecodedPieces()
    >>> [pieces.get(name, lambda: np.zeros(100), 1000).shape for name in "abab"]
    [(100,), (100,), (100,), (100,)]
    >>> pieces.decoded_count  # there is room for one of 800 bytes
    4
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        self._pieces: OrderedDict[Hashable, Future[npt.NDArray[Any]]] = OrderedDict()
        self._lock = threading.Lock()
        self._held_bytes = 0
        self.decoded_count = 0

    def get(self, name: Hashable, decode: Callable[[], npt.NDArray[Any]], most_bytes: int) -> npt.NDArray[Any]:
        """Return a piece, which is not to be written.

        Parameters
        ----------
        name : hashable
            What tells the piece from all others.
        decode : callable
            Gives the piece; it is called where the piece is not there.
        most_bytes : int
            What all pieces together may take afterwards.
        """
        with self._lock:
            self._let_go(most_bytes)
            piece = self._pieces.get(name)
            is_mine = piece is None
            if piece is None:
                piece = self._pieces[name] = Future()
                self.decoded_count += 1
            self._pieces.move_to_end(name)
        if is_mine:
            self._decode(name, piece, decode, most_bytes)
        return piece.result()

    def _decode(
        self,
        name: Hashable,
        piece: Future[npt.NDArray[Any]],
        decode: Callable[[], npt.NDArray[Any]],
        most_bytes: int,
    ) -> None:
        try:
            voxels = decode()
        except BaseException as error:  # noqa: BLE001  # whoever waits for the piece gets it
            with self._lock:
                del self._pieces[name]
            piece.set_exception(error)
            return
        with self._lock:
            piece.set_result(voxels)
            self._held_bytes += voxels.nbytes
            self._let_go(most_bytes)

    def _let_go(self, most_bytes: int) -> None:
        while self._held_bytes > most_bytes:
            # One that is still being decoded may be older.
            oldest = next(name for name, piece in self._pieces.items() if piece.done())
            self._held_bytes -= self._pieces.pop(oldest).result().nbytes


PIECES = DecodedPieces()
"""Those of all images that this process reads."""
if hasattr(os, "register_at_fork"):
    # A child may have been born while another thread held the lock, or decoded a piece.
    os.register_at_fork(after_in_child=PIECES.reset)


@dataclass(frozen=True, slots=True)
class Chunked:
    """An image whose chunks are decoded as a whole.

    Parameters
    ----------
    name : hashable
        Tells the image from all others, and changes when it is replaced.
    layout : (shape, chunk)
        Extents of the image and of a chunk.
    dtype : str
        NumPy's name of the dtype.
    decode : callable
        Returns the voxels of a whole chunk.

    Examples
    --------
    >>> from convolume.regions import Region
    >>> line = np.arange(10)
    >>> Chunked("line", ((10,), (4,)), "int64", lambda part: line[part.slices]).read(Region((3,), (6,)), 100)
    array([3, 4, 5])
    """

    name: Hashable
    layout: Layout
    dtype: str
    decode: Callable[[Region], npt.NDArray[Any]]

    def read(self, region: Region, most_bytes: int) -> npt.NDArray[Any]:
        """Return the voxels of a region; of its chunks, those that are not kept are decoded.

        Parameters
        ----------
        region : Region
            A part of it.
        most_bytes : int
            What the pieces that are kept afterwards may take, those of all images.
        """
        voxels = np.empty(region.shape, self.dtype)
        for index, place in units_of(*self.layout, region):
            chunk = PIECES.get((self.name, self.layout, index), partial(self.decode, place), most_bytes)
            common = region.intersection(place)
            voxels[common.relative_to(region.start).slices] = chunk[common.relative_to(place.start).slices]
        return voxels
