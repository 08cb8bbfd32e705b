"""Series of 2-D images, one a file, by a glob pattern: ``slices/*.png``; any format that pims reads."""

from __future__ import annotations

import glob
import os
import threading
import warnings
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError, RunError
from convolume.image import ImageInfo
from convolume.stores._axes import (
    COLOURS,
    canonical_order,
    check_dtype,
    check_one_level,
    in_file_order,
    named_axes,
    region_of_file,
    with_options,
)
from convolume.stores._decoded import Chunked
from convolume.stores._identity import spread
from convolume.stores._interfaces import Source, SourceOptions

if TYPE_CHECKING:
    import dask.array as da
    import numpy.typing as npt

    from convolume.regions import Region

__all__ = ["ImageSeriesSource", "open_source", "recognises"]

PRECEDENCE = 30
# Colours, with or without a degree of transparency, lie along the last axis of a file.
_COLOUR_COUNTS = (3, 4)
TIFF_ENDINGS = (".tif", ".tiff")
_WARNINGS = threading.Lock()


def recognises(path: str) -> bool:
    """Say whether a path is a pattern, and no file of that name is there."""
    return glob.has_magic(path) and not Path(path).exists()


def open_source(path: str, options: SourceOptions) -> Source:
    """Open a series of images, in the natural order of their names: ``slice9`` comes before ``slice10``.

    Its axes are (z, y, x), or (c, z, y, x) where the images have colours, unless the options name those of the files:
    one for the series, then those of an image.

    Raises
    ------
    InputError
        The pattern matches nothing, or files that are no images, or images of different sizes or dtypes.
    """
    check_one_level(path, options)
    files = _files(path)
    image_shape, dtype = _common(path, files)
    shape = (len(files), *image_shape)
    names = options.axes or ("zyx" if len(image_shape) == len("yx") else "zyxc")
    axes = with_options(path, shape, named_axes(path, names), options)
    order = canonical_order(names)
    info = ImageInfo(
        shape=tuple(shape[axis] for axis in order),
        dtype=check_dtype(path, dtype),
        axes=tuple(axes[axis] for axis in order),
        channels=COLOURS[: shape[-1]] if len(shape) == len("zyxc") and names[-1] == "c" else (),
    )
    return ImageSeriesSource(path, info, order, _digest(files))


class ImageSeriesSource(Source):
    """Images in files of their own, each read as a whole."""

    # dask_image.imread, with pims and all that reads images for it.
    library_bytes = 48 * 2**20

    def __init__(self, path: str, info: ImageInfo, order: tuple[int, ...], names_digest: str) -> None:
        self.path = path
        self.info = info
        self.order = order
        self.names_digest = names_digest

    @property
    def decoded_chunks(self) -> tuple[tuple[int, int], ...]:
        """Whole images."""
        series = self.order.index(0)
        return tuple((1 if position == series else n, 0) for position, n in enumerate(self.info.shape))

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region; each image that it touches is decoded, unless it is kept."""
        shape = in_file_order(self.info.shape, self.order)
        images = Chunked((self.path, self.names_digest), (shape, (1, *shape[1:])), self.info.dtype, self._decoded)
        voxels = images.read(region_of_file(region, self.order), self.cache_bytes)
        return voxels.transpose(self.order).astype(self.info.dtype, order="C", copy=False)

    def _decoded(self, place: Region) -> npt.NDArray[Any]:
        return _decoded(self.path, self.names_digest, place.start[0])[np.newaxis]

    def signature(self) -> str:
        """Return a digest of the files' names."""
        return f"image series {self.names_digest}"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the files of a region, a sample of them where there are many."""
        wanted = _files(self.path)[region.slices[self.order.index(0)]]
        return tuple(wanted[number] for number in spread(len(wanted)))


def _files(path: str) -> list[str]:
    """Return the files that a pattern matches, as `dask_image.imread` orders them."""
    from tifffile import natural_sorted  # noqa: PLC0415  # slow to import, and for most images not needed

    files: list[str] = natural_sorted(glob.glob(path))  # noqa: PTH207  # the pattern may be absolute
    if not files:
        message = f"{path}: matches no file; give the pattern of a series of images, such as slices/*.tif"
        raise InputError(message)
    return files


def _digest(files: list[str]) -> str:
    return blake2b("\0".join(Path(file).name for file in files).encode(), digest_size=8).hexdigest()


def _common(path: str, files: list[str]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype of each image; no voxel is read."""
    first, (shape, dtype) = files[0], _properties(files[0])
    has_colours = len(shape) == len("yxc") and shape[-1] in _COLOUR_COUNTS
    if len(shape) != len("yx") and not has_colours:
        message = f"{first}: holds an image of {shape}; each file of the series {path} is to hold one of (y, x)"
        raise InputError(message)
    for file in files[1:]:
        other, other_dtype = _properties(file)
        if (other, other_dtype) != (shape, dtype):
            message = (
                f"{path}: images of a series are alike, and {first} has {dtype} {shape}, {file} has {other_dtype} "
                f"{other}; give a pattern that matches one of them"
            )
            raise InputError(message)
    return shape, dtype


def _properties(file: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    from imageio.v3 import improps  # noqa: PLC0415  # slow to import, and for most images not needed
    from tifffile import TiffFile  # noqa: PLC0415

    try:
        # Opened here, it is closed here too, whatever is found in it.
        with Path(file).open("rb") as stream:
            if file.lower().endswith(TIFF_ENDINGS):
                # What imageio tells of a TIFF file depends on who wrote it: its first page, or all.
                first, *others = TiffFile(stream).pages
                shape = first.shape if not others else (1 + len(others), *first.shape)
                return tuple(shape), np.dtype(first.dtype)
            found = improps(stream, extension=Path(file).suffix)
    except Exception as error:  # any of a dozen libraries looks at it
        message = f"{file}: is no image that can be read ({str(error) or type(error).__name__})"
        raise InputError(message) from error
    return tuple(found.shape), np.dtype(found.dtype)


def _decoded(path: str, names_digest: str, number: int) -> npt.NDArray[Any]:
    image = _opened(path, names_digest, os.getpid())[number]
    try:
        return np.asarray(image.compute(scheduler="synchronous"))
    except Exception as error:  # any of a dozen libraries decodes
        message = f"{_files(path)[number]}: cannot be read; the file is damaged or cut short ({error})"
        raise RunError(message) from error


@lru_cache(maxsize=8)
def _opened(path: str, names_digest: str, process: int) -> da.Array:  # noqa: ARG001  # tells readers apart
    """Return the series as a lazy array (series, y, x[, c]), once in each process."""
    files = _files(path)
    if _digest(files) != names_digest:
        message = f"{path}: matches other files than when the run began; put them back, or run again"
        raise RunError(message)
    from dask_image.imread import imread  # noqa: PLC0415  # slow to import, and for most images not needed

    with _WARNINGS, warnings.catch_warnings():
        # Of scikit-image, where it is installed: that pims names its plugin.
        warnings.filterwarnings("ignore", category=FutureWarning, message="The plugin infrastructure")
        # A pattern that matches one file is not taken for one there.
        series: da.Array = imread(path if len(files) > 1 else files[0])
        return series
