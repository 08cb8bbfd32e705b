"""The files of a Zarr array's chunks or shards: which of them are not there, and a sample of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from convolume.errors import InputError, RunError
from convolume.stores._identity import spread
from convolume.stores._zarr_metadata import document_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from convolume.regions import Region

__all__ = ["ChunkFiles"]


@dataclass(frozen=True, slots=True)
class ChunkFiles:
    """Where an array keeps its voxels, all of which must be there.

    Zarr takes a file that is missing for one that was never written, because all its voxels have the fill value; most
    writers leave such files out, and a copy that was broken off looks the same. A chunk that is left out of a shard is
    another thing: the shard's index says so, under a checksum.

    Parameters
    ----------
    array_path : str
        The array's folder.
    unit : tuple of int
        Extents of what one file holds, in voxels.
    prefix, separator : str
        How a file is named: ``c/0/1/2`` or ``0.1.2``.
    """

    array_path: str
    unit: tuple[int, ...]
    prefix: str
    separator: str

    @classmethod
    def of(cls, array_path: str, unit: tuple[int, ...]) -> ChunkFiles:
        """Return the files of an array, by what its metadata say."""
        document: Mapping[str, Any] = document_of(array_path)
        if document.get("zarr_format") == 2:  # noqa: PLR2004 - Zarr's own number
            return cls(array_path, unit, "", document.get("dimension_separator") or ".")
        encoding = document.get("chunk_key_encoding", {})
        is_default = encoding.get("name", "default") == "default"
        separator = encoding.get("configuration", {}).get("separator", "/" if is_default else ".")
        return cls(array_path, unit, f"c{separator}" if is_default else "", separator)

    def missing(self, region: Region) -> Iterator[str]:
        """Yield the names of the files of a region that are not there."""
        for place in product(*self._spans(region)):
            name = self._name(place)
            if not os.path.exists(f"{self.array_path}/{name}"):  # noqa: PTH110 - a million times, and half the time
                yield name

    def sample(self, region: Region) -> tuple[str, ...]:
        """Return paths of files of a region, spread over it and not too many; how many there are costs nothing."""
        spans = self._spans(region)
        numbers = spread(prod(map(len, spans)))
        return tuple(self.path(_place(number, spans)) for number in numbers)

    def path(self, place: Sequence[int]) -> str:
        """Return the path of the file of a place in the grid of units."""
        return f"{self.array_path}/{self._name(place)}"

    def _spans(self, region: Region) -> list[range]:
        return [range(a // n, -(-b // n)) for a, b, n in zip(region.start, region.stop, self.unit, strict=True)]

    def _name(self, place: Sequence[int]) -> str:
        return self.prefix + self.separator.join(map(str, place))

    def check_before(self, path: str, region: Region) -> None:
        """Refuse an image of which files are missing, before a run begins.

        Raises
        ------
        InputError
            Says how many, and what to write where that is as it should be.
        """
        names = list(self.missing(region))
        if names:
            message = (
                f"{path}: {len(names):,} of the files with its voxels are not there (the first: {self.array_path}/"
                f"{names[0]}). Where whoever wrote the image left out what is all fill value, write `missing: fill` "
                "under `input`; else it is not whole: copy it again"
            )
            raise InputError(message)

    def check_read(self, region: Region) -> None:
        """Refuse voxels that were read where a file was not there.

        Raises
        ------
        RunError
            Names the first file that is missing.
        """
        for name in self.missing(region):
            message = (
                f"{self.array_path}: voxels {region} cannot be read; the file {self.array_path}/{name} is not there "
                "any more, and was when the run began"
            )
            raise RunError(message)


def _place(number: int, spans: list[range]) -> list[int]:
    """Return the place of that number, counted as `product` goes through them."""
    place = []
    for span in reversed(spans):
        number, position = divmod(number, len(span))
        place.append(span[position])
    return place[::-1]
