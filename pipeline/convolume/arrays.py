"""New arrays for results: each begins with a line of the cache, and a pool may keep their memory for the next.

The system clears every page of fresh memory when it is first touched, which costs more than a small filter does.
"""

from __future__ import annotations

import os
import threading
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from convolume.errors import InputError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CACHE_LINE_BYTES", "OutputPool", "new_array"]

Array = npt.NDArray[Any]
Memory = npt.NDArray[np.uint8]

# Devices store past the cache only to what begins with a line of it.
CACHE_LINE_BYTES = 64
# The allocator itself keeps what is smaller.
_LEAST_BYTES = 2**17
# Memory that waits serves arrays that fill at least this part of it.
_LEAST_SHARE = 0.5

# Dropped arrays may run anything, in the midst of what the lock guards too.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    # A child must not begin with a lock that a thread held which it does not have.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def new_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return a new array, in C order, from the pool that is switched on; its voxels are not set.

    Examples
    --------
    >>> array = new_array((3, 5), "float32")
    >>> array.ctypes.data % 64, array.flags.c_contiguous, array.flags.writeable
    (0, True, True)
    """
    dtype = np.dtype(dtype)
    size_bytes = prod(shape) * dtype.itemsize
    pools = _switched_on[-1:] if size_bytes >= _LEAST_BYTES else []
    memory = pools[0].lend(size_bytes) if pools else None
    if memory is None:
        memory = _fresh(size_bytes)
    return memory[:size_bytes].view(dtype).reshape(shape)


class OutputPool:
    """Keeps the memory of results that are gone for new ones, within a ``with`` block or from `switch_on` on.

    Results stay ordinary arrays. When the last view of a result is gone, its memory waits for the next result, and the
    system need not clear its pages again, which takes longer than a small filter.

    Parameters
    ----------
    limit_bytes : int
        The most that the pool takes, arrays in use included. What would exceed it is allocated as without a pool.

    Raises
    ------
    InputError
        The limit is not positive.

    Notes
    -----
    A pool serves all threads of the process; of several the one that was switched on last. Arrays of less than
    128 KiB come from the allocator, which keeps such memory itself.

    Examples
    --------
    >>> import convolume
    >>> image = np.ones((300, 300), np.float32)
    >>> with convolume.OutputPool(limit_bytes=2**28) as pool:
    ...     edges = convolume.ndimage.laplace(image)
    ...     del edges
    ...     pool.lent_bytes, pool.waiting_bytes >= image.nbytes
    (0, True)
    >>> pool.waiting_bytes
    0
    """

    def __init__(self, limit_bytes: int = 2**30) -> None:
        if limit_bytes <= 0:
            message = f"limit_bytes is {limit_bytes}: a pool takes at least some memory; without one nothing is kept"
            raise InputError(message)
        self.limit_bytes = limit_bytes
        # Written in single steps: memory may come back in the midst of anything, wherever Python drops an array.
        self._kept: dict[int, _Kept] = {}

    @property
    def is_on(self) -> bool:
        """Whether memory that comes back is kept."""
        return self in _switched_on

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for a new array."""
        return sum(memory.nbytes for memory in self._waiting())

    @property
    def lent_bytes(self) -> int:
        """Bytes of arrays that are in use."""
        return sum(kept.memory.nbytes for kept in self._kept.copy().values() if kept.is_lent)

    def switch_on(self) -> Self:
        """Take new arrays from this pool from here on."""
        with _lock:
            if not self.is_on:
                _switched_on.append(self)
        return self

    def switch_off(self) -> None:
        """Give back what waits now, and what is in use when it is no longer."""
        with _lock:
            if self.is_on:
                _switched_on.remove(self)
            self._free_waiting(until_bytes=0)

    def lend(self, size_bytes: int) -> Memory | None:
        """Return so much memory, which comes back when its last view is gone; None where the limit is reached."""
        with _lock:
            memory = self._waiting_memory(size_bytes)
            if memory is None:
                if self.lent_bytes + size_bytes > self.limit_bytes:
                    return None
                self._free_waiting(until_bytes=self.limit_bytes - self.lent_bytes - size_bytes)
                memory = _fresh(size_bytes)
            self._kept[id(memory)] = _Kept(memory, is_lent=True)
        return np.asarray(_Loan(self, memory))

    def take_back(self, memory: Memory) -> None:
        """Let memory wait that was lent; nothing here takes a lock."""
        self._kept[id(memory)] = _Kept(memory, is_lent=False)
        if not self.is_on:
            self._kept.pop(id(memory), None)

    def _waiting_memory(self, size_bytes: int) -> Memory | None:
        """Return the smallest memory that waits and is large enough, if it is not far too large."""
        fitting = [memory for memory in self._waiting() if _LEAST_SHARE * memory.nbytes <= size_bytes <= memory.nbytes]
        return min(fitting, key=lambda memory: memory.nbytes, default=None)

    def _free_waiting(self, until_bytes: int) -> None:
        """Free memory that waits, the oldest first, until no more than so much is left."""
        left_bytes = self.waiting_bytes
        for memory in self._waiting():
            if left_bytes <= until_bytes:
                break
            self._kept.pop(id(memory), None)
            left_bytes -= memory.nbytes

    def _waiting(self) -> list[Memory]:
        return [kept.memory for kept in self._kept.copy().values() if not kept.is_lent]

    def __enter__(self) -> Self:
        """Switch the pool on."""
        return self.switch_on()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Switch the pool off."""
        self.switch_off()


_switched_on: list[OutputPool] = []


class _Kept(NamedTuple):
    memory: Memory
    is_lent: bool


class _Loan:
    """Stands behind an array and all its views; gone with the last of them."""

    def __init__(self, pool: OutputPool, memory: Memory) -> None:
        self._pool, self._memory = pool, memory
        # NumPy keeps the object that it has this from.
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._pool.take_back(self._memory)


def _fresh(size_bytes: int) -> Memory:
    memory = np.empty(size_bytes + CACHE_LINE_BYTES - 1, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE_BYTES
    return memory[start : start + size_bytes]
