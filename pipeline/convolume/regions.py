"""Boxes of voxels: regions, halos and grids of blocks, in integers and without arrays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BlockGrid", "Halo", "Region"]


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """A box of voxels, ``start`` included and ``stop`` excluded, one pair of integers an axis.

    Examples
    --------
    >>> box = Region((0, 4), (2, 10))
    >>> box.shape, box.size_voxels
    ((2, 6), 12)
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Region:
        """Return the region that covers an image of this shape."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of every axis in voxels."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size_voxels(self) -> int:
        """Number of voxels in the box."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index into an array of the whole image."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def shifted(self, offset: tuple[int, ...]) -> Region:
        """Return the box moved by `offset` voxels."""
        return Region(
            tuple(a + o for a, o in zip(self.start, offset, strict=True)),
            tuple(b + o for b, o in zip(self.stop, offset, strict=True)),
        )

    def relative_to(self, origin: tuple[int, ...]) -> Region:
        """Return the box as seen from a voxel that becomes the new zero."""
        return self.shifted(tuple(-o for o in origin))

    def contains(self, other: Region) -> bool:
        """Say whether `other` lies wholly inside this box."""
        return all(a <= c for a, c in zip(self.start, other.start, strict=True)) and all(
            d <= b for b, d in zip(self.stop, other.stop, strict=True)
        )

    def intersection(self, other: Region) -> Region:
        """Return the common box; an axis without common voxels has extent 0."""
        start = tuple(max(a, c) for a, c in zip(self.start, other.start, strict=True))
        stop = tuple(min(b, d) for b, d in zip(self.stop, other.stop, strict=True))
        return Region(start, tuple(max(a, b) for a, b in zip(start, stop, strict=True)))

    def __str__(self) -> str:
        """Return the box as people write it: ``[0:2, 4:10]``."""
        return "[" + ", ".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True)) + "]"


@dataclass(frozen=True, slots=True)
class Halo:
    """Voxels read around a block, per axis; the two sides differ for even kernels and origins."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def is_empty(self) -> bool:
        """Say whether nothing is read around a block."""
        return not any(self.before) and not any(self.after)

    def outer(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what is read for an output of this shape."""
        return tuple(b + n + a for b, n, a in zip(self.before, shape, self.after, strict=True))

    def inner(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the valid output of an input of this shape."""
        return tuple(n - b - a for b, n, a in zip(self.before, shape, self.after, strict=True))


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """The blocks of an image: all of one shape but for the last ones of each axis.

    Examples
    --------
    >>> [str(block) for _, block in BlockGrid((5,), (2,))]
    ['[0:2]', '[2:4]', '[4:5]']
    """

    shape: tuple[int, ...]
    block_shape: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along every axis."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block_shape, strict=True))

    @property
    def extents(self) -> tuple[tuple[int, ...], ...]:
        """Extents of the blocks along every axis, as dask writes chunks."""
        return tuple(
            tuple(min(b, n - start) for start in range(0, n, b))
            for n, b in zip(self.shape, self.block_shape, strict=True)
        )

    def __len__(self) -> int:
        """Return the number of blocks."""
        return prod(self.counts)

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], Region]]:
        """Yield each block's index in the grid and its region, in the order of storage."""
        for index in product(*(range(count) for count in self.counts)):
            yield index, self.region(index)

    def between(self, first: int, last: int) -> Iterator[tuple[tuple[int, ...], Region]]:
        """Yield index and region of the blocks from one number to before another, in the order of storage.

        Examples
        --------
        >>> [index for index, _ in BlockGrid((4, 6), (2, 2)).between(2, 4)]
        [(0, 2), (1, 0)]
        """
        for number in range(first, last):
            index = []
            for count in reversed(self.counts):
                number, place = divmod(number, count)  # noqa: PLW2901  # what is left for the axes before
                index.append(place)
            yield tuple(reversed(index)), self.region(tuple(reversed(index)))

    def region(self, index: tuple[int, ...]) -> Region:
        """Return the region of the block at `index` of the grid."""
        start = tuple(i * b for i, b in zip(index, self.block_shape, strict=True))
        stop = tuple(min(a + b, n) for a, b, n in zip(start, self.block_shape, self.shape, strict=True))
        return Region(start, stop)
