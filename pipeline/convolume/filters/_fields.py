"""Kinds of parameters that filters share: whole numbers and lengths, one for all axes or one an axis."""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING, Annotated, Any, SupportsIndex, TypeVar

import numpy as np
from pydantic import AfterValidator, PlainSerializer, PlainValidator

from convolume.errors import InputError
from convolume.lengths import Length

if TYPE_CHECKING:
    from collections.abc import Callable

    from convolume.filters import FilterContext

__all__ = [
    "Counts",
    "Extents",
    "Integers",
    "Lengths",
    "one_an_axis",
    "read_integers",
    "read_lengths",
    "voxels_an_axis",
    "write_integers",
    "write_lengths",
]

Entry = TypeVar("Entry")


def read_integers(written: Any) -> int | tuple[int, ...]:
    """Return a whole number, or a tuple of them, and refuse what only looks like one (``true``, ``2.0``)."""
    written = _plain(written)
    if isinstance(written, (list, tuple)):
        return tuple(_integer(entry) for entry in written)
    return _integer(written)


def write_integers(value: int | tuple[int, ...]) -> int | list[int]:
    """Return whole numbers as a workflow writes them."""
    return list(value) if isinstance(value, tuple) else value


def read_lengths(written: Any) -> Length | tuple[Length, ...]:
    """Return a length, or a tuple of them, neither negative nor endless."""
    written = _plain(written)
    if isinstance(written, (list, tuple)):
        return tuple(_length(entry) for entry in written)
    return _length(written)


def write_lengths(lengths: Length | tuple[Length, ...]) -> Any:
    """Return lengths as a workflow writes them: numbers of voxels, or texts such as ``1.5 um``."""
    if isinstance(lengths, tuple):
        return [write_lengths(length) for length in lengths]
    return str(lengths) if lengths.unit else lengths.value


def at_least(low: int) -> Callable[[int | tuple[int, ...]], int | tuple[int, ...]]:
    """Return a check that no entry is below `low`."""

    def check(value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        smallest = min(value, default=low) if isinstance(value, tuple) else value
        if smallest < low:
            message = f"{smallest} is too small: it is at least {low}"
            raise InputError(message)
        return value

    return check


Integers = Annotated[int | tuple[int, ...], PlainValidator(read_integers), PlainSerializer(write_integers)]
Counts = Annotated[Integers, AfterValidator(at_least(0))]
Extents = Annotated[Integers, AfterValidator(at_least(1))]
Lengths = Annotated[Length | tuple[Length, ...], PlainValidator(read_lengths), PlainSerializer(write_lengths)]


def one_an_axis(value: Entry | tuple[Entry, ...], context: FilterContext, parameter: str) -> tuple[Entry, ...]:
    """Return one entry for every filtered axis.

    Raises
    ------
    InputError
        There are entries, but not one for every filtered axis.
    """
    entries = value if isinstance(value, tuple) else (value,) * len(context.axes)
    if len(entries) != len(context.axes):
        message = (
            f"{parameter} has {len(entries)} entries and the filter works on {context.axes_text()}: "
            f"give one number for all, or one an axis"
        )
        raise InputError(message)
    return entries


def voxels_an_axis(lengths: Length | tuple[Length, ...], context: FilterContext, parameter: str) -> tuple[float, ...]:
    """Return one length in voxels for every filtered axis, by the voxel size of that axis."""
    entries = one_an_axis(lengths, context, parameter)
    return tuple(length.in_voxels(spacing) for length, spacing in zip(entries, context.spacing_um, strict=True))


def _plain(written: Any) -> Any:
    return written.tolist() if isinstance(written, (np.ndarray, np.generic)) else written


def _integer(written: Any) -> int:
    if isinstance(written, SupportsIndex) and not isinstance(written, bool):
        return index(written)
    message = f"{written!r} is not a whole number"
    raise InputError(message)


def _length(written: Any) -> Length:
    length = Length.parse(_plain(written))
    if not 0 <= length.value < math.inf:
        message = f"{length} is not a length that a filter can have: it is at least 0"
        raise InputError(message)
    return length
