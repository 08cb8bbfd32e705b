"""OME-Zarr: 0.4 (Zarr v2) and 0.5 (Zarr v3) are read, 0.5 is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume.image import ImageInfo
from convolume.stores._axes import check_dtype, with_options
from convolume.stores._chunk_files import ChunkFiles
from convolume.stores._ome_metadata import check_written, read_image, written_attributes
from convolume.stores._zarr_documents import create_array, write_group
from convolume.stores._zarr_files import WrittenArrays
from convolume.stores._zarr_metadata import attributes, node_kind, read_layout
from convolume.stores._zarr_sink import ZarrSink, journal_folder
from convolume.stores.zarr import ZarrSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convolume.stores._interfaces import Sink, SinkOptions, Source, SourceOptions, Written

__all__ = ["OmeZarrSink", "create_sink", "journal_folder", "open_source", "open_written", "recognises"]

PRECEDENCE = 10
SUFFIXES = (".ome.zarr", ".zarr")


def recognises(path: str) -> bool:
    """Say whether a Zarr group is there."""
    return node_kind(path) == "group"


def open_source(path: str, options: SourceOptions) -> Source:
    """Open one level of an OME-Zarr image.

    Raises
    ------
    InputError
        The group is no image (a plate, a bioformats2raw series, labels, …), or the level is not there.
    """
    image = read_image(path, options.level)
    array_path = str(Path(path, image.dataset))
    layout = read_layout(array_path)
    axes = with_options(path, layout.shape, image.axes, options)
    channel_count = next((n for axis, n in zip(axes, layout.shape, strict=True) if axis.kind == "channel"), 1)
    info = ImageInfo(
        shape=layout.shape,
        dtype=check_dtype(path, layout.dtype),
        axes=axes,
        chunks=layout.chunks,
        shards=layout.shards,
        channels=image.channels if len(image.channels) == channel_count else (),
    )
    # Our own outputs are whole when they open: what is missing there was all fill value.
    is_ours = attributes(path).get("convolume", {}).get("finished") is True
    is_strict = options.missing == "error" and not is_ours
    files = ChunkFiles.of(array_path, layout.shards or layout.chunks)
    return ZarrSource(path, info, array_path, files, is_strict=is_strict)


def create_sink(path: str, image: ImageInfo, options: SinkOptions) -> Sink:
    """Return a sink that writes OME-Zarr 0.5."""
    return OmeZarrSink(path, image, options)


def open_written(path: str) -> Written:
    """Return the levels of an output of this package, finished or not."""
    return WrittenArrays(path)


class OmeZarrSink(ZarrSink):
    """An OME-Zarr 0.5 image in the making: a group of one Zarr v3 array a level."""

    def check(self) -> None:
        """Refuse what OME-Zarr cannot hold, a path where something is, or where nothing can be made."""
        check_written(self.path, self.levels)
        super().check()

    def _make(self, folder: Path) -> None:
        write_group(str(folder), {"convolume": {"finished": False}})
        for number in range(len(self.levels)):
            create_array(str(folder / str(number)), self._layout(number))

    def finish(self, provenance: Mapping[str, Any], windows: tuple[tuple[float, float, float, float], ...]) -> None:
        """Write the OME metadata; from now on the image opens."""
        write_group(self.path, written_attributes(self.path, self.levels, provenance, windows))
