"""What a device is told of one correlation: weights, and where the voxels stand that they weigh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from convolume.stencil import Stencil

__all__ = ["Pass"]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Pass:
    """One correlation, with where what it reads stands: faces are filled by looking a place up, not by copies.

    A pass equals itself alone: what a device makes for it is found again by it, and lives no longer.

    Parameters
    ----------
    stencil : Stencil
        As many axes as the voxels.
    places : tuple of numpy.ndarray
        For each axis, where each voxel that the pass reads stands in the array, `OUTSIDE` where the constant stands: as
        many as there are outputs on this axis, and ``extent - 1`` of the stencil.
    cval : float
        The constant.
    """

    stencil: Stencil
    places: tuple[npt.NDArray[np.intp], ...]
    cval: float

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of what the pass gives."""
        return tuple(len(axis) - extent + 1 for axis, extent in zip(self.places, self.stencil.shape, strict=True))
