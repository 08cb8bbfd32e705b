"""Voxels in a device's own memory, as whoever drives devices sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.operations import Arithmetic

__all__ = ["Array", "HeldVoxels", "Voxels"]

Array = npt.NDArray[Any]


class HeldVoxels(ABC):
    """Voxels in a device's own memory, or a box of them: what is done with them stays there until they are fetched.

    They are used by the thread that made them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the voxels."""
        return prod(self.shape) * self.dtype.itemsize

    @abstractmethod
    def __getitem__(self, box: tuple[slice, ...]) -> Self:
        """Return a box of the voxels, one slice with steps of 1 for each axis, as a view."""

    @abstractmethod
    def __setitem__(self, box: tuple[slice, ...], voxels: Any) -> None:
        """Copy voxels of the same device to a box of these, cast as C does."""

    @abstractmethod
    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self:
        """Return new voxels beside these, with anything in them."""

    @abstractmethod
    def joined(self, arithmetic: Arithmetic, others: Sequence[Any], dtype: np.dtype[Any]) -> Self:
        """Return the arithmetic of these and others of the same shape, done in a floating-point dtype."""

    @abstractmethod
    def fetch(self, out: Array | None = None) -> Array:
        """Return the voxels in the host's memory, in `out` where it is given."""


Voxels = Array | HeldVoxels
