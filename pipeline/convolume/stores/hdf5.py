"""HDF5 files: one dataset is an image, read by hyperslab; Imaris files too, whose images are many datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume.image import ImageInfo
from convolume.stores import _imaris
from convolume.stores._axes import (
    canonical_order,
    check_dtype,
    check_one_level,
    in_file_order,
    region_of_file,
    with_options,
)
from convolume.stores._files import check_there
from convolume.stores._hdf5_files import LIBRARY_BYTES, Hdf5File, opened, read_chunked
from convolume.stores._hdf5_metadata import axes_of_dataset
from convolume.stores._identity import spread
from convolume.stores._interfaces import Source, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from convolume.regions import Region

__all__ = ["Hdf5Source", "open_source", "recognises"]

PRECEDENCE = 23
HOLDS_DATASETS = True
ENDINGS = (".h5", ".hdf5", ".hdf", ".he5", ".ims")


def recognises(path: str) -> bool:
    """Say whether a file with one of HDF5's endings is there."""
    return path.lower().endswith(ENDINGS) and Path(path).is_file()


def open_source(path: str, options: SourceOptions) -> Source:
    """Open a dataset of an HDF5 file: the one that is named, or the only one that can be meant.

    Raises
    ------
    InputError
        h5py is not installed, the file is damaged, there are several datasets, or none of that name.
    """
    with opened(path) as file:
        if options.dataset is None and _imaris.is_imaris(file):
            return _imaris.open_image(file, options)
        return _open_dataset(file, options)


def _open_dataset(file: Hdf5File, options: SourceOptions) -> Source:
    path = file.path
    check_one_level(path, options)
    name = f"/{options.dataset.strip('/')}" if options.dataset is not None else file.only_image()
    node = file.dataset(name)
    axes = with_options(path, node.shape, axes_of_dataset(path, node, options.axes), options)
    order = canonical_order([axis.name for axis in axes])
    info = ImageInfo(
        shape=tuple(node.shape[axis] for axis in order),
        dtype=check_dtype(path, node.dtype.newbyteorder("=")),
        axes=tuple(axes[axis] for axis in order),
        chunks=tuple(node.chunks[axis] for axis in order) if node.chunks else None,
    )
    return Hdf5Source(path, info, name, order, is_strict=options.missing == "error")


class Hdf5Source(Source):
    """One dataset of an HDF5 file, which is open while it is read.

    Parameters
    ----------
    path : str
        The file.
    info : ImageInfo
        The image.
    dataset : str
        The dataset's path in the file.
    order : tuple of int
        Which axis of the dataset each axis of the image is.
    is_strict : bool
        Whether files that the dataset refers to must be there; else their voxels are fill value.
    """

    library_bytes = LIBRARY_BYTES

    def __init__(self, path: str, info: ImageInfo, dataset: str, order: tuple[int, ...], *, is_strict: bool) -> None:
        self.path = path
        self.info = info
        self.dataset = dataset
        self.order = order
        self.is_strict = is_strict

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Which dataset was read."""
        return {"hdf5": {"dataset": self.dataset}}

    @property
    def decoded_chunks(self) -> tuple[tuple[int, int], ...] | None:
        """The chunks; None where the dataset lies in one piece."""
        return tuple((extent, 0) for extent in self.info.chunks) if self.info.chunks else None

    def check_whole(self, region: Region) -> None:
        """Refuse a dataset that refers to files that are not there, whose voxels HDF5 would make up."""
        del region
        if self.is_strict:
            check_there(self.path, repr(self.dataset), self._files())

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region; each chunk that it touches is decoded."""
        place = region_of_file(region, self.order)
        layout = None
        if self.info.chunks:
            layout = in_file_order(self.info.shape, self.order), in_file_order(self.info.chunks, self.order)
        voxels = read_chunked(self.path, self.dataset, layout, place, self.info.dtype, self.cache_bytes)
        return voxels.transpose(self.order).astype(self.info.dtype, order="C", copy=False)

    def signature(self) -> str:
        """Return the format and the dataset: all else stands in the file."""
        return f"hdf5 {self.dataset}"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the file and those that the dataset refers to, a sample of them where there are many."""
        del region
        files = self._files()
        return tuple(files[number] for number in spread(len(files)))

    def _files(self) -> tuple[str, ...]:
        with opened(self.path) as file:
            return file.files(self.dataset)
