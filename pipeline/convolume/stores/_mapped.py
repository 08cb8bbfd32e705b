"""Voxels that lie uncompressed in a file, one behind the other: mapped into memory for each read."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from convolume.errors import InputError
from convolume.stores._faults import fault

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MappedVoxels"]


@dataclass(frozen=True, slots=True)
class MappedVoxels:
    """Where the voxels lie in a file, in the file's order of axes.

    Parameters
    ----------
    shape : tuple of int
        What the header promises; `check_size` holds it to that before anything is mapped or allocated.
    dtype : str
        NumPy's text of the dtype, with its byte order: ``>i2``.
    offset_bytes : int
        Where the first voxel begins.
    order : {'C', 'F'}
        Whether the last axis is contiguous, or the first.
    """

    shape: tuple[int, ...]
    dtype: str
    offset_bytes: int
    order: Literal["C", "F"] = "C"

    @property
    def file_bytes(self) -> int:
        """Size of a file that holds all of them."""
        return self.offset_bytes + prod(self.shape) * np.dtype(self.dtype).itemsize

    def check_size(self, path: str) -> None:
        """Refuse a file that is shorter than its header promises.

        Raises
        ------
        InputError
            Says how many bytes are there, and how many are promised.
        """
        size_bytes = Path(path).stat().st_size
        if size_bytes < self.file_bytes:
            message = (
                f"{path}: is cut short: {size_bytes} bytes where its header promises {self.file_bytes}; copy it again"
            )
            raise InputError(message)

    def view(self, path: str) -> npt.NDArray[Any]:
        """Return all voxels as a view of the file, of which only what is used is read.

        Raises
        ------
        RunError
            The file is gone, or was cut short since it was opened.
        """
        try:
            return np.memmap(path, self.dtype, "r", self.offset_bytes, self.shape, self.order)
        except (OSError, ValueError) as error:
            what = f"{path}: voxels cannot be read"
            raise fault(what, error, "the file was replaced, or cut short, since it was opened") from error
