"""Axes from what a file says and what the user says; the user wins."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convolume.errors import InputError
from convolume.image import MICROMETRES_PER_UNIT, Axis, Channel, default_axes
from convolume.regions import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from convolume.image import AxisKind
    from convolume.stores._interfaces import SourceOptions

__all__ = [
    "CANONICAL",
    "COLOURS",
    "DTYPES",
    "KINDS",
    "canonical_order",
    "check_dtype",
    "check_one_level",
    "in_file_order",
    "named_axes",
    "region_of_file",
    "with_options",
]

CANONICAL = "tczyx"
# Of images in colours, by what they are; some have a degree of transparency.
COLOURS = (Channel("red", "FF0000"), Channel("green", "00FF00"), Channel("blue", "0000FF"), Channel("alpha"))
KINDS: dict[str, AxisKind] = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
DTYPES = frozenset(
    [*(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "bool", "float16", "float32", "float64"]
)


def check_dtype(path: str, dtype: np.dtype[Any]) -> str:
    """Return NumPy's name of a dtype that can be filtered.

    Raises
    ------
    InputError
        It is complex, a structure, a text, or wider than 64 bits.
    """
    if dtype.name not in DTYPES:
        message = f"{path}: voxels of dtype {dtype} cannot be filtered; real numbers of up to 64 bits can"
        raise InputError(message)
    return dtype.name


def check_one_level(path: str, options: SourceOptions) -> None:
    """Refuse any level but 0, for formats without a pyramid."""
    if options.level != 0:
        message = f"{path}: level {options.level} is not there; this image has one level, 0"
        raise InputError(message)


def named_axes(path: str, names: Sequence[str]) -> tuple[Axis, ...]:
    """Return axes of these names, in this order, without unit.

    Raises
    ------
    InputError
        A name is none of t, c, z, y, x, or two are equal.
    """
    if len(set(names)) < len(names) or not set(names) <= set(KINDS):
        message = f"{path}: axes {''.join(names)!r}: each axis is one of t, c, z, y, x, and none comes twice"
        raise InputError(message)
    return tuple(Axis(name, KINDS[name]) for name in names)


def canonical_order(names: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of t, c, z, y, x among axes, as far as they are there.

    Examples
    --------
    >>> canonical_order("zyxc")
    (3, 0, 1, 2)
    """
    return tuple(sorted(range(len(names)), key=lambda axis: CANONICAL.index(names[axis])))


def in_file_order(extents: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    """Return extents or places along the axes of an image along those of its file, which are its own in `order`.

    Examples
    --------
    >>> in_file_order((3, 10, 20), (2, 0, 1))
    (10, 20, 3)
    """
    return tuple(extents[order.index(axis)] for axis in range(len(order)))


def region_of_file(region: Region, order: tuple[int, ...]) -> Region:
    """Return a region of an image along the axes of its file, which are its own in `order`."""
    return Region(in_file_order(region.start, order), in_file_order(region.stop, order))


def with_options(
    path: str, shape: tuple[int, ...], axes: tuple[Axis, ...] | None, options: SourceOptions
) -> tuple[Axis, ...]:
    """Return the axes of an image: the user's, else the file's, else the last of (t, c, z, y, x).

    Raises
    ------
    InputError
        The number of axes, of spacings, or the unit does not fit.
    """
    if not shape or min(shape) < 1:
        message = f"{path}: has no voxels: its shape is {shape}"
        raise InputError(message)
    if options.axes is not None:
        named = named_axes(path, options.axes)
        _check_count(path, named, shape)
        # Voxel sizes stay with their place: the user renames axes, the file still knows how far apart they are.
        axes = (
            named
            if axes is None
            else tuple(replace(a, name=n.name, kind=n.kind) for a, n in zip(axes, named, strict=True))
        )
    elif axes is None:
        if len(shape) > len(KINDS):
            message = f"{path}: has {len(shape)} axes; at most {len(KINDS)} (t, c, z, y, x) can be filtered"
            raise InputError(message)
        axes = default_axes(len(shape))
    _check_count(path, axes, shape)
    return _with_spacing(path, axes, options)


def _check_count(path: str, axes: tuple[Axis, ...], shape: tuple[int, ...]) -> None:
    if len(axes) != len(shape):
        named = "".join(axis.name for axis in axes)
        message = f"{path}: axes {named!r} name {len(axes)} axes, and the image has {len(shape)}: {shape}"
        raise InputError(message)


def _with_spacing(path: str, axes: tuple[Axis, ...], options: SourceOptions) -> tuple[Axis, ...]:
    space = [axis for axis in axes if axis.kind == "space"]
    if options.unit is not None and options.unit not in MICROMETRES_PER_UNIT:
        known = ", ".join(MICROMETRES_PER_UNIT)
        message = f"{path}: the unit {options.unit!r} is not known; there are: {known}"
        raise InputError(message)
    if options.spacing is not None and len(options.spacing) not in {1, len(space)}:
        named = ", ".join(axis.name for axis in space)
        message = (
            f"{path}: spacing has {len(options.spacing)} numbers; give one for all, "
            f"or {len(space)}, one for each of {named}"
        )
        raise InputError(message)
    if options.spacing is not None and not all(0 < value < float("inf") for value in options.spacing):
        message = f"{path}: spacing {options.spacing}: each distance between voxels is greater than 0"
        raise InputError(message)
    given = options.spacing if options.spacing is not None else tuple(axis.spacing for axis in space)
    values = iter(given if len(given) == len(space) else given * len(space))
    return tuple(
        replace(axis, unit=options.unit or axis.unit, spacing=next(values)) if axis.kind == "space" else axis
        for axis in axes
    )
