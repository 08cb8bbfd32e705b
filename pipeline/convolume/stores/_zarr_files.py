"""The files of Zarr arrays: which of them holds what, and what killed processes leave beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume.stores._chunk_files import ChunkFiles
from convolume.stores._interfaces import Written
from convolume.stores._layout import units_of
from convolume.stores._zarr_arrays import ZarrArray
from convolume.stores._zarr_metadata import METADATA_FILES, hidden_array, node_kind, read_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from convolume.regions import Region

__all__ = ["WrittenArrays", "remove_leftovers"]

# What tensorstore, zarr-python and `write_document` call a file before it is renamed to its place.
_LEFTOVERS = (".__lock", ".partial")
_METADATA_LEFTOVERS = tuple(f"{name}." for name in METADATA_FILES)


@dataclass(frozen=True, slots=True)
class WrittenArrays(Written):
    """Zarr arrays named by their level in one group, or one array alone; finished or not."""

    path: str

    def read(self, level: int, region: Region) -> npt.NDArray[Any]:
        """Return voxels of one level."""
        return ZarrArray(_array_path(self.path, level)).read(region)

    def units(self, level: int, region: Region) -> Iterator[tuple[str, Region]]:
        """Yield every shard, or chunk, of a region of whole ones: its file and its place."""
        array = _array_path(self.path, level)
        layout = read_layout(array)
        unit = layout.shards or layout.chunks
        files = ChunkFiles.of(array, unit)
        for index, place in units_of(layout.shape, unit, region):
            yield files.path(index), place


def _array_path(path: str, level: int) -> str:
    """Return where the array of a level of an output stands: the output itself where it is one array."""
    is_array = node_kind(path) == "array" or hidden_array(path) is not None
    return path if is_array else f"{path}/{level}"


def remove_leftovers(path: str) -> None:
    """Remove files that a killed process had not renamed to their places yet; they hold nothing that counts."""
    for folder, _, names in os.walk(path):
        for name in names:
            if name.endswith(_LEFTOVERS) or name.startswith(_METADATA_LEFTOVERS):
                Path(folder, name).unlink(missing_ok=True)
