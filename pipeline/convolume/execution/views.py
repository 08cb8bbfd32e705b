"""An image seen along other axes, so that programs find rows to fill their vectors with, and several of them.

No tap changes its place among the others, so bits stay what they are; nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, TypeVar

from convolume.operations import Correlate, Operation, Sequence, correlations, replaced

if TYPE_CHECKING:
    from collections.abc import Sequence as Entries

    from convolume.boundary import Runs

__all__ = ["Cut", "cut_of_lines", "in_rows", "moved", "thin_axes_first", "transposed"]

Entry = TypeVar("Entry")

# A row of this length is long enough, unless most of it is read twice; fewer rows than `_FEW_ROWS` are too few for all
# threads, and places of longer ones than `_LONG_ROW` take as long as the voxels.
_ROW_VOXELS, _ROW_REACHES = 4096, 8
_FEW_ROWS, _LONG_ROW = 16, 2**17


def thin_axes_first(image_shape: tuple[int, ...], operation: Operation) -> tuple[int, ...] | None:
    """Return the axes with those of one voxel first, where the last is one; None where taps would change places.

    Examples
    --------
    >>> from convolume.boundary import BoundaryMode
    >>> from convolume.stencil import Stencil
    >>> line = Correlate(Stencil.correlate([[[1.0], [2.0]]]), (BoundaryMode.WRAP,) * 3)
    >>> thin_axes_first((500, 1000, 1), line)
    (2, 0, 1)
    """
    order = tuple(sorted(range(len(image_shape)), key=lambda axis: image_shape[axis] > 1))
    if image_shape[-1] > 1 or max(image_shape) == 1:
        return None
    for step in correlations(operation):
        wide = [axis for axis, extent in enumerate(step.stencil.shape) if extent > 1]
        if step.method == "fft" or [axis for axis in order if axis in wide] != wide:
            return None
    return order


def moved(entries: Entries[Entry], order: tuple[int, ...]) -> tuple[Entry, ...]:
    """Return entries, one an axis, for axes in another order."""
    return tuple(entries[axis] for axis in order)


def transposed(operation: Operation, order: tuple[int, ...]) -> Operation:
    """Return an operation for axes in an order that `thin_axes_first` gave."""

    def turn(step: Correlate) -> Correlate:
        stencil = step.stencil
        # The weights stay in their order, for the axes that change places have but one.
        turned = replace(stencil, shape=moved(stencil.shape, order), origin_voxels=moved(stencil.origin_voxels, order))
        return replace(step, stencil=turned, modes=moved(step.modes, order))

    return replaced(operation, turn)


@dataclass(frozen=True, slots=True)
class Cut:
    """Lines that are cut into rows, each of which reads its halo from its neighbours.

    Parameters
    ----------
    first : int
        Coordinate of the first output of the first row.
    count, length : int
        Of rows, and of the outputs of each.
    before, after : int
        What is read around a row, in voxels.
    """

    first: int
    count: int
    length: int
    before: int
    after: int

    @property
    def stop(self) -> int:
        """Coordinate behind the last output."""
        return self.first + self.count * self.length


def cut_of_lines(runs: tuple[Runs, ...], wanted: tuple[Runs, ...], operation: Operation) -> Cut | None:
    """Return how long lines are cut where no face is near; None where they need not or cannot be."""
    if len(runs[-1]) != 1 or len(wanted[-1]) != 1 or any(step.method == "fft" for step in correlations(operation)):
        return None
    ((low, high),), ((start, stop),) = runs[-1], wanted[-1]
    rows = prod(sum(b - a for a, b in axis) for axis in wanted[:-1])
    before, after = _halo(operation)
    first, length = max(start, low + before), max(_ROW_VOXELS, _ROW_REACHES * (before + after))
    count = (min(stop, high - after) - first) // length
    is_long = count > 1 and (rows < _FEW_ROWS or stop - start > _LONG_ROW)
    return Cut(first, count, length, before, after) if is_long else None


def in_rows(operation: Operation) -> Operation:
    """Return an operation for lines that were cut: rows are an axis before the last."""

    def insert(step: Correlate) -> Correlate:
        ndim = step.stencil.ndim
        stencil = step.stencil.on_axes((*range(ndim - 1), ndim), ndim + 1)
        return replace(step, stencil=stencil, modes=(*step.modes, step.modes[-1]))

    return replaced(operation, insert)


def _halo(operation: Operation) -> tuple[int, int]:
    """Return what an operation reads before and after an output on the last axis, where no face is near."""
    if isinstance(operation, Correlate):
        return operation.stencil.halo.before[-1], operation.stencil.halo.after[-1]
    before, after = zip((0, 0), *map(_halo, operation.operations), strict=True)
    return (sum(before), sum(after)) if isinstance(operation, Sequence) else (max(before), max(after))
