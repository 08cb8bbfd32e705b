"""What tells an image from another one in its place: what it says of itself, and how its files look from outside."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MOST_FILES", "Identity", "spread"]

# Of so many files of an image the sizes and times are asked for: some milliseconds, on a file server too.
MOST_FILES = 256
# The golden ratio's fraction, of 2³².
_GOLDEN = 2_654_435_769


@dataclass(frozen=True, slots=True)
class Identity:
    """What an image looks like, without a look at its voxels.

    Sizes and times are kept apart: where only times differ, the files may have been copied, voxel for voxel.

    Parameters
    ----------
    signature : str
        What the image says of itself: the format, and a digest of its metadata where they lie in files of their own.
    sizes_bytes, changed_ns : tuple of int or None
        Of the files that were looked at, in an order that depends on nothing but the signature and the region; None for
        one that is not there.
    """

    signature: str
    sizes_bytes: tuple[int | None, ...] = ()
    changed_ns: tuple[int | None, ...] = ()

    @classmethod
    def of(cls, signature: str, files: Iterable[str]) -> Identity:
        """Look at files."""
        seen = tuple(_seen(file) for file in files)
        return cls(signature, tuple(size for size, _ in seen), tuple(changed for _, changed in seen))

    def __str__(self) -> str:
        """Return a text that differs where anything does."""
        if not self.sizes_bytes:
            return self.signature
        total, newest = sum(filter(None, self.sizes_bytes)), max(filter(None, self.changed_ns), default=0)
        summary = blake2b(repr((self.sizes_bytes, self.changed_ns)).encode(), digest_size=16).hexdigest()
        files = f"{len(self.sizes_bytes)} files of {total} bytes looked at, the newest changed at {newest} ns"
        return f"{self.signature}; {files}; digest {summary}"


def spread(count: int, most: int = MOST_FILES) -> tuple[int, ...]:
    """Return at most so many of the numbers below `count`: one of each of as many equal parts.

    Where in its part it lies varies by the golden ratio: numbers at equal distances would all lie in one column where a
    row of chunks is as long.

    Examples
    --------
    >>> spread(3), spread(100, 5)
    ((0, 1, 2), (0, 32, 44, 77, 89))
    """
    if count <= most:
        return tuple(range(count))
    ends = [part * count // most for part in range(most + 1)]
    offsets = ((part * _GOLDEN) % 2**32 for part in range(most))
    return tuple(a + (offset * (b - a) >> 32) for a, b, offset in zip(ends, ends[1:], offsets, strict=False))


def _seen(file: str) -> tuple[int | None, int | None]:
    try:
        status = os.stat(file)  # noqa: PTH116 - hundreds of times, and half the time
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    return status.st_size, status.st_mtime_ns
