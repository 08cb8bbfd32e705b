"""What a device is asked to do: a small frozen tree of operations, and what such a tree reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from convolume.boundary import BoundaryMode, Runs, merge, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from convolume.stencil import Stencil

__all__ = [
    "Arithmetic",
    "Combine",
    "Correlate",
    "Method",
    "Operation",
    "Sequence",
    "correlations",
    "reach_of",
    "reach_on_axis",
    "replaced",
]

Arithmetic = Literal["add", "subtract", "magnitude"]
Method = Literal["auto", "direct", "separable", "fft"]


@dataclass(frozen=True)
class Correlate:
    """Fill the faces by `modes`, then weigh with `stencil`.

    Parameters
    ----------
    stencil : Stencil
        One extent for every axis of the image; axes that are not filtered have extent 1.
    modes : tuple of BoundaryMode
        One for every axis; on an axis of extent 1 it has no effect.
    cval : float
        The constant of the constant modes.
    method : Method
        How it is weighed, for that changes bits: tap by tap (``direct``), or by the Fourier transform (``fft``).
        ``auto`` and ``separable`` are wishes, which `convolume.planning.method` settles before anything is done; what
        is not settled is done directly.
    """

    stencil: Stencil
    modes: tuple[BoundaryMode, ...]
    cval: float = 0.0
    method: Method = "direct"


@dataclass(frozen=True)
class Sequence:
    """Do the operations one after the other; with none, the input itself."""

    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True)
class Combine:
    """Do all operations on one input and join their results, voxel by voxel.

    ``add`` sums them, ``subtract`` takes the others from the first, ``magnitude`` is the root of
    the sum of their squares.
    """

    arithmetic: Arithmetic
    operations: tuple[Operation, ...]


Operation = Correlate | Sequence | Combine


def reach_of(operation: Operation, wanted: tuple[Runs, ...], shape: tuple[int, ...]) -> tuple[Runs, ...]:
    """Return what an operation reads, axis by axis, to give its output on `wanted`.

    The tree is walked backwards through the index maps of the boundaries: a sum of halos would be
    wrong near the faces.
    """
    if isinstance(operation, Correlate):
        halo = operation.stencil.halo
        return tuple(reach(*axis) for axis in zip(wanted, halo.before, halo.after, shape, operation.modes, strict=True))
    if isinstance(operation, Sequence):
        for step in reversed(operation.operations):
            wanted = reach_of(step, wanted, shape)
        return wanted
    return merge_axes(*(reach_of(branch, wanted, shape) for branch in operation.operations))


def reach_on_axis(
    operations: Iterable[Operation], shape: tuple[int, ...], axis: int, interval: tuple[int, int]
) -> Runs:
    """Return what several operations together read of one axis to give an interval of it.

    What is read of an axis does not depend on the others.
    """
    wanted = tuple((interval,) if a == axis else ((0, n),) for a, n in enumerate(shape))
    return merge(*(reach_of(operation, wanted, shape)[axis] for operation in operations))


def merge_axes(*needs: tuple[Runs, ...]) -> tuple[Runs, ...]:
    """Return, axis by axis, the union of what several readers need."""
    return tuple(merge(*axis) for axis in zip(*needs, strict=True))


def replaced(operation: Operation, change: Callable[[Correlate], Operation]) -> Operation:
    """Return a tree with every correlation changed."""
    if isinstance(operation, Correlate):
        return change(operation)
    return replace(operation, operations=tuple(replaced(inner, change) for inner in operation.operations))


def correlations(operation: Operation) -> Iterator[Correlate]:
    """Yield every correlation of a tree, in the order in which they are done."""
    if isinstance(operation, Correlate):
        yield operation
    else:
        for inner in operation.operations:
            yield from correlations(inner)
