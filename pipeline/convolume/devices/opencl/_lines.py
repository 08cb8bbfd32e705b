"""Passes over one axis each, as the programs that do several of them see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from convolume.boundary import OUTSIDE, longest_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.devices import Pass
    from convolume.devices.opencl._jobs import Numbers

__all__ = ["LINE_VOXELS", "Line", "Row", "columns_of", "offsets_of", "pitch_of", "read_by"]

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]

LINE_VOXELS = 16


@dataclass(frozen=True)
class Line:
    """A pass over one axis, and where what it reads stands on it."""

    axis: int
    weights: npt.NDArray[np.float64]
    places: Indices
    cval: float
    as_box: bool

    @classmethod
    def of(cls, step: Pass, numbers: Numbers) -> Self:
        """Return what a pass is along the axis that it weighs."""
        stencil = step.stencil
        axis = max(range(stencil.ndim), key=stencil.shape.__getitem__)
        return cls(
            axis, stencil.weights.ravel(), step.places[axis], step.cval, stencil.adds_as_box(exact=numbers.exact)
        )

    @classmethod
    def of_nothing(cls, axis: int, extent: int) -> Self:
        """Return a pass that leaves voxels as they are, where rows are read for another."""
        return cls(axis, np.ones(1), np.arange(extent), 0.0, as_box=False)


@dataclass(frozen=True)
class Row:
    """How a pass along x reads: ``voxels`` of every row as they lie, and the places of what is filled at its ends."""

    voxels: slice
    before: Indices
    after: Indices

    @classmethod
    def of(cls, places: Indices) -> Self | None:
        """Return it for the places of a row; None where they are not one piece with ends that come from it."""
        low, high = longest_run(places)
        if low == high:
            return None
        inside = places[places != OUTSIDE]
        first, stop = int(inside.min()), int(inside.max()) + 1
        ends = [np.where(end == OUTSIDE, OUTSIDE, end - first) for end in (places[:low], places[high:])]
        # The line is filled where it stands: behind its beginning, and behind its end.
        if places[low] != first or (ends[1].size and high - low != stop - first):
            return None
        return cls(slice(first, stop), *ends)

    @classmethod
    def of_nothing(cls, width: int) -> Self:
        """Return it for so many voxels where there is no pass along x."""
        return cls(slice(0, width), *[np.zeros(0, np.intp)] * 2)

    @property
    def width(self) -> int:
        """Voxels that are read."""
        return int(self.voxels.stop - self.voxels.start)


def read_by(voxels: Array, passes: Sequence[Pass], lines: Sequence[Line]) -> Array:
    """Return the part of voxels that passes read: axes that are not weighed are read as they lie."""
    walked = {line.axis for line in lines}
    places = enumerate(passes[0].places)
    return voxels[tuple(slice(None) if axis in walked else slice(int(p[0]), int(p[-1]) + 1) for axis, p in places)]


def columns_of(voxels: Array, passes: Sequence[Line], part: slice) -> tuple[Array, list[Line]]:
    """Return what a part of the columns of an output is made from."""
    *ahead, final = passes
    if final.axis != voxels.ndim - 1:
        return voxels[..., part], list(passes)
    reach = len(final.weights) - 1
    return voxels, [*ahead, replace(final, places=final.places[part.start : part.stop + reach])]


def pitch_of(voxels: int) -> int:
    """Return the distance of rows of so many voxels: an odd number of cache lines, so that columns meet in none."""
    return (-(-voxels // LINE_VOXELS) | 1) * LINE_VOXELS


def offsets_of(step: Line, pitch: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the places of a pass in elements of the source."""
    return np.where(step.places == OUTSIDE, OUTSIDE, step.places * pitch[step.axis])
