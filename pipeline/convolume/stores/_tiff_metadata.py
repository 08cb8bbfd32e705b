"""Voxel size, axes and channels of a TIFF file, from what ImageJ and OME write into it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume.errors import InputError
from convolume.image import Channel
from convolume.stores._axes import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convolume.image import ImageInfo

__all__ = ["TiffMetadata", "axis_names", "metadata_of", "written_metadata"]

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
WRITTEN_UNITS = {
    "angstrom": "Å",
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
}
TIME_UNITS = {"s": "second", "ms": "millisecond", "µs": "microsecond", "min": "minute", "h": "hour"}

WRITTEN_TIME_UNITS = {unit: letters for letters, unit in TIME_UNITS.items()}
OPAQUE = 0xFF
# Letters that XML has no way to write, and a file name or a channel's may hold.
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class TiffMetadata:
    """What a TIFF file says of its first image: the step and unit of axes, as far as it tells them, and channels.

    `other_files` are names of files beside it, in which pages of the image lie.
    """

    spacing: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    channels: tuple[Channel, ...] = ()
    other_files: tuple[str, ...] = ()


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


def metadata_of(file: Any) -> TiffMetadata:
    """Return what an open TIFF file says of its first image."""
    if file.is_ome:
        try:
            document = import_module("tifffile").xml2dict(file.ome_metadata)
        except SyntaxError as error:  # as damaged XML is called
            message = f"its OME metadata are no XML: {error}"
            raise ValueError(message) from error
        return _of_ome(document, file.filename)
    if file.is_imagej:
        found = _of_imagej(file.imagej_metadata or {}, file.pages[0].get_resolution())
        return TiffMetadata(_positive(found))
    return TiffMetadata()


def _positive(found: Mapping[str, tuple[float, str]]) -> dict[str, tuple[float, str]]:
    return {name: (step, unit) for name, (step, unit) in found.items() if isfinite(step) and step > 0}


def _of_ome(document: Mapping[str, Any], own_name: str) -> TiffMetadata:
    ome = document.get("OME", {})
    pixels = _first(ome.get("Image")).get("Pixels", {})
    found = {}
    for name in "zyx":
        size = pixels.get(f"PhysicalSize{name.upper()}")
        unit = UNITS.get(str(pixels.get(f"PhysicalSize{name.upper()}Unit", "µm")).lower())
        if size is not None and unit is not None:
            found[name] = (float(size), unit)
    step, time_unit = pixels.get("TimeIncrement"), TIME_UNITS.get(str(pixels.get("TimeIncrementUnit", "s")))
    if step is not None and time_unit is not None:
        found["t"] = (float(step), time_unit)
    return TiffMetadata(_positive(found), _channels_of_ome(pixels), _other_files(pixels, ome.get("UUID"), own_name))


def _first(written: Any) -> Mapping[str, Any]:
    """Return the first of the elements of one name, which is the element where there is one alone."""
    found = (written or ({},))[0] if isinstance(written, list) else written
    return found if isinstance(found, dict) else {}


def _channels_of_ome(pixels: Mapping[str, Any]) -> tuple[Channel, ...]:
    return tuple(
        Channel(str(entry.get("Name") or f"Channel {number}"), _color(entry.get("Color")))
        for number, entry in enumerate(_all(pixels.get("Channel")))
    )


def _all(written: Any) -> list[Mapping[str, Any]]:
    """Return the elements of one name."""
    entries = written if isinstance(written, list) else [written]
    return [_first(entry) for entry in entries] if written else []


def _other_files(pixels: Mapping[str, Any], own: Any, own_name: str) -> tuple[str, ...]:
    """Return the files that an image's pages are said to lie in, but for the one that says so, by its mark or name."""
    marks = [_first(entry.get("UUID")) for entry in _all(pixels.get("TiffData"))]
    names = {str(mark.get("FileName", "")): mark.get("value") for mark in marks}
    return tuple(
        name
        for name, mark in names.items()
        if name and (own is None or mark != own) and name.lower() != own_name.lower()
    )


def _color(written: Any) -> str:
    """Return the colour of OME's signed number, which holds red, green, blue and alpha."""
    return f"{(written >> 8) & 0xFFFFFF:06X}" if isinstance(written, int) else "FFFFFF"


def _of_imagej(document: Mapping[str, Any], resolution: tuple[float, float]) -> dict[str, tuple[float, str]]:
    """ImageJ writes pixels a unit for x and y, units a plane for z, and seconds a frame."""
    found = {"t": (float(document["finterval"]), "second")} if "finterval" in document else {}
    unit = UNITS.get(str(document.get("unit", "")).lower())
    if unit is None:
        return found
    found |= {name: (1 / value, unit) for name, value in zip("xy", resolution, strict=True) if value > 0}
    return found | {"z": (float(document.get("spacing", 1.0)), unit)}


def written_metadata(path: str, image: ImageInfo, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tifffile writes as OME-XML: axes, voxel size, time step, channels, provenance."""
    names = "".join(axis.name for axis in image.axes).upper()
    metadata: dict[str, Any] = {"axes": names, "Name": _xml_text(Path(path).name.partition(".")[0])}
    for axis in image.axes:
        if axis.kind == "space" and axis.unit in WRITTEN_UNITS:
            size = f"PhysicalSize{axis.name.upper()}"
            metadata |= {size: axis.spacing, f"{size}Unit": WRITTEN_UNITS[axis.unit]}
        if axis.kind == "time" and axis.unit in WRITTEN_TIME_UNITS:
            metadata |= {"TimeIncrement": axis.spacing, "TimeIncrementUnit": WRITTEN_TIME_UNITS[axis.unit]}
    if image.channels:
        colors = [_signed(int(channel.color, 16) << 8 | OPAQUE) for channel in image.channels]
        metadata["Channel"] = {"Name": [_xml_text(channel.name) for channel in image.channels], "Color": colors}
    metadata["Description"] = json.dumps({"convolume": provenance}, default=str)
    return metadata


def _xml_text(text: str) -> str:
    return NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _signed(number: int) -> int:
    """Return 32 bits as a signed number, as OME writes colours."""
    return number - 2**32 if number >= 2**31 else number
