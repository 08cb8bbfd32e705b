"""Voxel size and axes of a TIFF file, from what ImageJ and OME write into it."""

from __future__ import annotations

from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any

from convolume.errors import InputError
from convolume.stores._axes import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["axis_names", "spacing_of_file"]

UNITS = {
    "nm": "nanometer",
    "um": "micrometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "\\u00b5m": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "micrometer": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "å": "angstrom",
}


def axis_names(path: str, written: str, shape: tuple[int, ...], wished: str | None) -> str:
    """Return one of t, c, z, y, x for each axis of a file, in the file's order.

    Samples (colours) are channels; one axis that has no meaning in the file is z.

    Raises
    ------
    InputError
        Axes without a meaning are left, or the user named too many or too few.
    """
    if wished is not None:
        if len(wished) != len(shape):
            message = f"{path}: axes {wished!r} name {len(wished)} axes, and the file has {len(shape)}: {shape}"
            raise InputError(message)
        return wished
    names = written.lower()
    if "c" not in names:
        names = names.replace("s", "c")
    unknown = [name for name in names if name not in KINDS]
    if len(unknown) == 1 and "z" not in names:
        names = names.replace(unknown[0], "z")
    if not set(names) <= set(KINDS):
        message = f"{path}: the file's axes {written!r} {shape} are not understood; name them, such as `axes: zyx`"
        raise InputError(message)
    return names


def spacing_of_file(file: Any) -> dict[str, tuple[float, str]]:
    """Return the distance between voxels and its unit, for each space axis where an open TIFF file tells them."""
    if file.is_ome:
        try:
            found = _of_ome(import_module("tifffile").xml2dict(file.ome_metadata))
        except SyntaxError as error:  # as damaged XML is called
            message = f"its OME metadata are no XML: {error}"
            raise ValueError(message) from error
    elif file.is_imagej:
        found = _of_imagej(file.imagej_metadata or {}, file.pages[0].get_resolution())
    else:
        found = {}
    return {name: (step, unit) for name, (step, unit) in found.items() if isfinite(step) and step > 0}


def _of_ome(document: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    images = document.get("OME", {}).get("Image", {})
    pixels = (images[0] if isinstance(images, list) else images).get("Pixels", {})
    found = {}
    for name in "zyx":
        size = pixels.get(f"PhysicalSize{name.upper()}")
        unit = UNITS.get(str(pixels.get(f"PhysicalSize{name.upper()}Unit", "µm")).lower())
        if size is not None and unit is not None:
            found[name] = (float(size), unit)
    return found


def _of_imagej(document: Mapping[str, Any], resolution: tuple[float, float]) -> dict[str, tuple[float, str]]:
    """ImageJ writes pixels a unit for x and y, and units a plane for z."""
    unit = UNITS.get(str(document.get("unit", "")).lower())
    if unit is None:
        return {}
    found = {name: (1 / value, unit) for name, value in zip("xy", resolution, strict=True) if value > 0}
    return found | {"z": (float(document.get("spacing", 1.0)), unit)}
