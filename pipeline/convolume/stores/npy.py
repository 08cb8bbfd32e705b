"""NumPy's ``.npy`` files: one array, in any order and byte order, mapped into memory for each read."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format

from convolume.errors import InputError, RunError
from convolume.image import ImageInfo
from convolume.stores._axes import canonical_order, check_dtype, check_one_level, with_options
from convolume.stores._faults import UNREADABLE
from convolume.stores._interfaces import Source, SourceOptions
from convolume.stores._mapped import MappedVoxels

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.regions import Region

__all__ = ["NpySource", "open_source", "read_npy", "recognises"]

PRECEDENCE = 22
ENDINGS = (".npy", ".npz")
VERSIONS = ((1, 0), (2, 0), (3, 0))
# NumPy refuses headers of more than 10,000 bytes, for its parser is not safe beyond.
MOST_HEADER_BYTES = 2**14
# A header is Python text: what its parser raises for texts that are none, too.
UNPARSABLE = (*UNREADABLE, SyntaxError, TokenError, MemoryError)


def recognises(path: str) -> bool:
    """Say whether a file with the ending of NumPy's files is there."""
    return path.lower().endswith(ENDINGS) and Path(path).is_file()


def open_source(path: str, options: SourceOptions) -> Source:
    """Open the array of a ``.npy`` file; its axes are what the user says, else the last of (t, c, z, y, x).

    Raises
    ------
    InputError
        The file holds no array of real numbers, several arrays, or fewer bytes than its header promises.
    """
    check_one_level(path, options)
    voxels = _layout(path)
    dtype = check_dtype(path, np.dtype(voxels.dtype))
    axes = with_options(path, voxels.shape, None, options)
    order = canonical_order([axis.name for axis in axes])
    info = ImageInfo(tuple(voxels.shape[axis] for axis in order), dtype, tuple(axes[axis] for axis in order))
    return NpySource(path, info, voxels, order)


def read_npy(path: str) -> npt.NDArray[Any]:
    """Return the whole array of a ``.npy`` file, of any number of axes.

    Raises
    ------
    InputError
        There is no such file, it holds no array of numbers, or fewer bytes than its header promises.
    """
    voxels = _layout(path)
    if 0 in voxels.shape:
        return np.empty(voxels.shape, voxels.dtype)
    try:
        return np.array(voxels.view(path))
    except RunError as error:
        raise _unreadable(path, error) from error


class NpySource(Source):
    """The voxels of a ``.npy`` file."""

    cache_bytes = 0

    def __init__(self, path: str, info: ImageInfo, voxels: MappedVoxels, order: tuple[int, ...]) -> None:
        self.path = path
        self.info = info
        self.voxels = voxels
        self.order = order

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region."""
        part = self.voxels.view(self.path).transpose(self.order)[region.slices]
        return np.array(part, dtype=self.info.dtype, order="C")

    def signature(self) -> str:
        """Return the format: all else stands in the file."""
        return "npy"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the file."""
        del region
        return (self.path,)


def _layout(path: str) -> MappedVoxels:
    if path.lower().endswith(".npz"):
        message = f"{path}: a .npz file holds several arrays; write the one that is meant by numpy.save, as .npy"
        raise InputError(message)
    try:
        with Path(path).open("rb") as file:
            head = file.read(MOST_HEADER_BYTES)
        shape, is_fortran, dtype, offset_bytes = _header(head)
    except UNPARSABLE as error:
        raise _unreadable(path, error) from error
    if dtype.hasobject:
        message = (
            f"{path}: cannot be read as a .npy file: it holds Python objects, which would run as code; numbers can"
        )
        raise InputError(message)
    if dtype.names:
        message = f"{path}: holds a structure of {', '.join(dtype.names)}, not numbers; write one array for each"
        raise InputError(message)
    voxels = MappedVoxels(shape, dtype.str, offset_bytes, "F" if is_fortran else "C")
    voxels.check_size(path)
    return voxels


def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether the first axis is contiguous, dtype, and where the voxels begin."""
    stream = BytesIO(head)
    version = npy_format.read_magic(stream)
    if version not in VERSIONS:
        message = f"version {version[0]}.{version[1]} of the format is not known"
        raise ValueError(message)
    # Version 3 differs from 2 in the letters that names of a structure's fields may have.
    parse = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, is_fortran, dtype = parse(stream)
    if min(shape, default=0) < 0 or dtype.subdtype is not None or dtype.itemsize == 0:
        message = f"its header makes no sense: {dtype} {shape}"
        raise ValueError(message)
    return tuple(int(n) for n in shape), is_fortran, dtype, stream.tell()


def _unreadable(path: str, error: Exception) -> InputError:
    cause = getattr(error, "strerror", None) or error
    return InputError(f"{path}: cannot be read as a .npy file: {cause}")
