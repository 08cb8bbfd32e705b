"""Decoded pieces of images (pages, planes) that a process keeps, so that halos are not decoded again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy.typing as npt

__all__ = ["DecodedPieces"]


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
        piece.set_result(voxels)
        with self._lock:
            self._held_bytes += voxels.nbytes
            while self._held_bytes > most_bytes:
                oldest, held = next(iter(self._pieces.items()))
                if not held.done():
                    break
                del self._pieces[oldest]
                self._held_bytes -= held.result().nbytes
