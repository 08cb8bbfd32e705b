"""OME-Zarr 0.4 (Zarr v2) and 0.5 (Zarr v3), read and written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume.image import ImageInfo
from convolume.stores._axes import check_dtype, with_options
from convolume.stores._chunk_files import ChunkFiles
from convolume.stores._interfaces import nothing
from convolume.stores._layout import level_infos
from convolume.stores._ome_metadata import check_written, only_series, read_image, written_attributes
from convolume.stores._zarr_arrays import ZarrArray
from convolume.stores._zarr_documents import NEWER_FORMAT, OLDER_FORMAT, create_array, write_group
from convolume.stores._zarr_files import WrittenArrays
from convolume.stores._zarr_metadata import attributes, node_kind, read_layout
from convolume.stores._zarr_sink import ZarrSink, journal_folder
from convolume.stores.zarr import ZarrSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convolume.stores._interfaces import Advance, Layout, Sink, SinkOptions, Source, SourceOptions, Windows, Written
    from convolume.stores._ome_metadata import Version

__all__ = ["OmeZarrSink", "create_sink", "journal_folder", "open_source", "open_written", "recognises"]

PRECEDENCE = 10
SUFFIXES = (".ome.zarr", ".zarr")
FORMATS = ("ome-zarr", "ome-zarr-0.4")


def recognises(path: str) -> bool:
    """Say whether a Zarr group is there."""
    return node_kind(path) == "group"


def open_source(path: str, options: SourceOptions) -> Source:
    """Open one level of an OME-Zarr image, or of the only one of a bioformats2raw series.

    Raises
    ------
    InputError
        The group is no image (a plate, a series of several, labels, …), or the level is not there.
    """
    path = only_series(path)
    image = read_image(path, options.level)
    array_path = str(Path(path, image.dataset))
    layout = read_layout(array_path)
    ZarrArray(array_path).check()
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
    kind = _SourceFromNifti if _placement(path) and options.axes is None else ZarrSource
    return kind(path, info, array_path, files, is_strict=is_strict)


class _SourceFromNifti(ZarrSource):
    """An image that was a NIfTI file once, and lies where that did."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the NIfTI file's header said of its place."""
        return {"nifti": _placement(self.path)}


def _placement(path: str) -> Mapping[str, Any]:
    """Return where the voxels of the NIfTI file lay that an output of ours came from; empty for all else."""
    source = attributes(path).get("convolume", {}).get("input") or {}
    placement: Mapping[str, Any] = source.get("nifti") or {}
    # What runs wrote before the size of its voxels was among them cannot be placed.
    return placement if "spacing_xyz" in placement else {}


def create_sink(path: str, image: ImageInfo, options: SinkOptions) -> Sink:
    """Return a sink that writes OME-Zarr 0.5, or 0.4 where that is asked for."""
    return OmeZarrSink(path, image, options)


def open_written(path: str, _layouts: Sequence[Layout]) -> Written:
    """Return the levels of an output of this package, finished or not."""
    return WrittenArrays(path)


class OmeZarrSink(ZarrSink):
    """An OME-Zarr image in the making: a group of one array a level, Zarr v3 for version 0.5 and v2 for 0.4."""

    def __init__(self, path: str, image: ImageInfo, options: SinkOptions) -> None:
        is_older = options.format == "ome-zarr-0.4"
        self.version: Version = "0.4" if is_older else "0.5"
        self.zarr_format = OLDER_FORMAT if is_older else NEWER_FORMAT
        super().__init__(path, image, options)

    def _level_infos(self) -> tuple[ImageInfo, ...]:
        return level_infos(self.path, self.image, self.options, has_shards=self.zarr_format == NEWER_FORMAT)

    def check(self) -> None:
        """Refuse what OME-Zarr cannot hold, a path where something is, or where nothing can be made."""
        check_written(self.path, self.levels, self.version)
        super().check()

    def _make(self, folder: Path) -> None:
        write_group(str(folder), {"convolume": {"finished": False}}, self.zarr_format)
        for level in range(len(self.levels)):
            create_array(str(folder / str(level)), self._layout(level))

    def finish(self, provenance: Mapping[str, Any], windows: Windows, advance: Advance = nothing) -> None:
        """Write the OME metadata; from now on the image opens."""
        del advance  # it is done at once
        written = written_attributes(self.path, self.levels, provenance, windows, self.version)
        write_group(self.path, written, self.zarr_format)
