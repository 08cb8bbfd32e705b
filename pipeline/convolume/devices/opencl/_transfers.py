"""The way between the host's memory and a device's own: through pinned memory, piece by piece."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyopencl as cl

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Transfers"]

Array = npt.NDArray[Any]

# Two such pieces a thread: one is copied by the processor while the other is on its way.
PIECE_BYTES = 8 * 2**20


class Pinned:
    """Host memory that the device copies by itself, and the last copy from or to it."""

    def __init__(self, queue: cl.CommandQueue) -> None:
        flags = cl.mem_flags.ALLOC_HOST_PTR | cl.mem_flags.READ_WRITE
        self._held = cl.Buffer(queue.context, flags, PIECE_BYTES)
        self._memory: Array
        self._memory, _ = cl.enqueue_map_buffer(
            queue, self._held, cl.map_flags.WRITE, 0, (PIECE_BYTES,), np.dtype(np.uint8)
        )
        self._copied: cl.Event | None = None

    def free(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array in this memory once the last copy has ended."""
        if self._copied is not None:
            self._copied.wait()
        size_bytes = int(np.prod(shape)) * dtype.itemsize
        view: Array = self._memory[:size_bytes].view(dtype).reshape(shape)
        return view

    def busy_until(self, copied: cl.Event) -> None:
        """Remember a copy that has begun."""
        self._copied = copied


class Transfers:
    """Copies of one thread, to and from dense arrays on the device; counted."""

    def __init__(self, queue: cl.CommandQueue) -> None:
        self._queue = queue
        self._pinned: list[Pinned] = []
        self.uploads = self.downloads = 0

    def upload(self, voxels: Array, dtype: np.dtype[Any], held: cl.Buffer) -> None:
        """Begin to copy voxels, cast to `dtype`, to the beginning of a buffer; the host's may be written on return."""
        self.uploads += 1
        for pinned, (box, start_bytes) in zip(self._turns(), _pieces(voxels.shape, dtype.itemsize), strict=False):
            staged = pinned.free(voxels[box].shape, dtype)
            staged[...] = voxels[box]
            pinned.busy_until(cl.enqueue_copy(self._queue, held, staged, dst_offset=start_bytes, is_blocking=False))

    def download(self, held: cl.Buffer, dtype: np.dtype[Any], out: Array) -> None:
        """Copy the beginning of a buffer to `out`, cast as C does."""
        self.downloads += 1
        coming: tuple[Pinned, Array, Array] | None = None
        for pinned, (box, start_bytes) in zip(self._turns(), _pieces(out.shape, dtype.itemsize), strict=False):
            staged = pinned.free(out[box].shape, dtype)
            pinned.busy_until(cl.enqueue_copy(self._queue, staged, held, src_offset=start_bytes, is_blocking=False))
            _arrive(coming)
            coming = pinned, staged, out[box]
        _arrive(coming)

    def _turns(self) -> Iterator[Pinned]:
        if not self._pinned:
            self._pinned = [Pinned(self._queue), Pinned(self._queue)]
        return cycle(self._pinned)


def _arrive(coming: tuple[Pinned, Array, Array] | None) -> None:
    """Wait for a piece, and put it where it belongs."""
    if coming is not None:
        pinned, staged, out = coming
        out[...] = pinned.free(staged.shape, staged.dtype)


def _pieces(shape: tuple[int, ...], itemsize: int, start: int = 0) -> Iterator[tuple[tuple[slice, ...], int]]:
    """Yield boxes that lie in one piece in a dense array, each with the byte where it begins there."""
    line_bytes = int(np.prod(shape[1:])) * itemsize
    if line_bytes > PIECE_BYTES:
        for line in range(shape[0]):
            for box, at in _pieces(shape[1:], itemsize, start + line * line_bytes):
                yield (slice(line, line + 1), *box), at
        return
    step = PIECE_BYTES // line_bytes
    for first in range(0, shape[0], step):
        yield (slice(first, min(first + step, shape[0])),), start + first * line_bytes
