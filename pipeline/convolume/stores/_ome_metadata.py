"""OME-Zarr's metadata, 0.4 and 0.5, read and written: axes, voxel size, levels, channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from math import isfinite
from pathlib import Path
from re import fullmatch
from typing import TYPE_CHECKING, Any, Literal

from convolume.errors import InputError
from convolume.image import Axis, Channel
from convolume.stores._axes import KINDS
from convolume.stores._zarr_metadata import attributes, node_kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convolume.image import ImageInfo

__all__ = ["OmeImage", "Version", "check_written", "only_series", "read_image", "written_attributes"]

# The attribute by which bioformats2raw says that images stand in folders below.
LAYOUT = "bioformats2raw.layout"
Version = Literal["0.4", "0.5"]

# What a channel without a colour gets: the one of a lone channel is white.
COLORS = ("00FF00", "FF00FF", "00FFFF", "FF0000", "FFFF00", "0000FF")
DOWNSCALING = {
    "type": "mean",
    "metadata": {
        "description": "Mean of blocks of 2 voxels an axis (fewer at the far end), rounded half to even for integers; "
        "the finest space axes are halved first, until voxels are isotropic.",
        "method": "convolume",
    },
}


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One level of an OME-Zarr image, as its group describes it."""

    dataset: str
    axes: tuple[Axis, ...]
    channels: tuple[Channel, ...]


def read_image(path: str, level: int) -> OmeImage:
    """Return what a group says of one level of its image.

    Raises
    ------
    InputError
        It is no image (the message names what it is and what to write instead), or the level is not there.
    """
    group = attributes(path)
    ome = _ome(group)
    if not ome.get("multiscales"):
        message = f"{path}: {_what_else(path, group, ome)}"
        raise InputError(message)
    try:
        multiscale = ome["multiscales"][0]
        datasets = multiscale["datasets"]
        if not 0 <= level < len(datasets):
            message = f"{path}: level {level} is not there; there are {len(datasets)} (0 to {len(datasets) - 1})"
            raise InputError(message)
        axes = _placed_axes(path, multiscale, datasets[level])
        return OmeImage(datasets[level]["path"], axes, _channels(ome))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        message = f"{path}: its OME-Zarr metadata are not understood ({type(error).__name__}: {error})"
        raise InputError(message) from error


def only_series(path: str) -> str:
    """Return the path of the image of a bioformats2raw series that holds only one; any other path as it is."""
    ome = _ome(attributes(path))
    if LAYOUT not in ome or "plate" in ome or "multiscales" in ome or len(series := _series(path)) != 1:
        return path
    return f"{path}/{series[0]}"


def _ome(group: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME metadata of a group's attributes: those themselves in 0.4, a part of them in 0.5."""
    ome = group.get("ome", group)
    return ome if isinstance(ome, dict) else {}


def _series(path: str) -> list[str]:
    """Return the names of the images of a bioformats2raw series: those that its group `OME` lists, or numbers."""
    listed = _ome(attributes(f"{path}/OME")).get("series")
    if isinstance(listed, list):
        return [str(name) for name in listed]
    return sorted((name for name in _members(path) if name.isdecimal()), key=int)


def _placed_axes(path: str, multiscale: Mapping[str, Any], dataset: Mapping[str, Any]) -> tuple[Axis, ...]:
    """Return the axes with voxel size and translation: the dataset's transformations, then those of all levels."""
    if "coordinateSystems" in multiscale:
        message = f"{path}: is of a version of OME-Zarr after 0.5, which is not understood; convert it to 0.5"
        raise InputError(message)
    axes = tuple(_axis(path, entry) for entry in multiscale.get("axes", "tczyx"))
    for transformation in (
        *dataset.get("coordinateTransformations", ()),
        *(multiscale.get("coordinateTransformations") or ()),
    ):
        axes = _transformed(path, axes, transformation)
    return axes


def _axis(path: str, entry: Any) -> Axis:
    name = entry if isinstance(entry, str) else entry["name"]
    given = None if isinstance(entry, str) else entry.get("type")
    kind = KINDS.get(name) if given is None else next((k for k in KINDS.values() if k == given), None)
    if kind is None:
        message = f"{path}: axis {name!r} of type {given!r} is neither time, channel nor space; it cannot be filtered"
        raise InputError(message)
    return Axis(name, kind, None if isinstance(entry, str) else entry.get("unit"))


def _transformed(path: str, axes: tuple[Axis, ...], transformation: Mapping[str, Any]) -> tuple[Axis, ...]:
    kind = transformation["type"]
    if kind == "identity":
        return axes
    if kind not in {"scale", "translation"} or kind not in transformation:
        message = f"{path}: a coordinate transformation of type {kind!r} is not understood; scale and translation are"
        raise InputError(message)
    values = [float(value) for value in transformation[kind]]
    if len(values) != len(axes):
        message = f"{path}: its {kind} has {len(values)} numbers for {len(axes)} axes"
        raise InputError(message)
    if kind == "translation":
        return tuple(replace(a, translation=a.translation + v) for a, v in zip(axes, values, strict=True))
    return tuple(
        replace(a, spacing=a.spacing * v, translation=a.translation * v) for a, v in zip(axes, values, strict=True)
    )


def _channels(ome: Mapping[str, Any]) -> tuple[Channel, ...]:
    entries = (ome.get("omero") or {}).get("channels") or ()
    return tuple(
        Channel(str(entry.get("label") or f"Channel {number}"), _color(entry.get("color")))
        for number, entry in enumerate(entries)
    )


def _color(written: Any) -> str:
    color = str(written).lstrip("#").upper()
    return color if fullmatch("[0-9A-F]{6}", color) else "FFFFFF"


def _what_else(path: str, group: Mapping[str, Any], ome: Mapping[str, Any]) -> str:
    """Say what a group without an image is, and what to write instead."""
    if group.get("convolume", {}).get("finished") is False:
        return "was left by a run that did not finish; run its workflow again"
    if "plate" in ome:
        wells = [well.get("path", "?") for well in ome["plate"].get("wells", ())]
        first = f"{path}/{wells[0] if wells else 'A/1'}/0"
        return f"is a plate of {len(wells)} wells, not one image; write the path of one field, such as {first}"
    if "well" in ome:
        fields = [image.get("path", "?") for image in ome["well"].get("images", ())]
        first = f"{path}/{fields[0] if fields else '0'}"
        return f"is a well of {len(fields)} fields, not one image; write the path of one of them, such as {first}"
    members = _members(path)
    if LAYOUT in ome:
        images = [f"{path}/{name}" for name in _series(path)]
        whole = f"of {len(images)} images; write the path of one of them: {', '.join(images)}"
        broken = "without an image; copy it again, or convert the image again"
        return f"is a bioformats2raw series {whole if images else broken}"
    if "labels" in ome:
        labels = list(map(str, ome["labels"]))
        first = f"{path}/{labels[0] if labels else 'name'}"
        return f"is a group of labels ({', '.join(labels)}), not one image; write the path of one, such as {first}"
    holds = f"it holds {', '.join(members)}: write the path of one, such as {path}/{members[0]}" if members else "empty"
    return f"is a Zarr group without an image (no `multiscales`); {holds}"


def _members(path: str) -> list[str]:
    names = sorted(entry.name for entry in Path(path).iterdir() if entry.is_dir())
    return [name for name in names if node_kind(str(Path(path, name))) is not None]


def check_written(path: str, levels: tuple[ImageInfo, ...], version: Version) -> None:
    """Refuse an image that OME-Zarr cannot hold.

    Raises
    ------
    InputError
        The axes' number or order is not that of OME-Zarr.
    """
    model = getattr(import_module("yaozarrs"), f"v{version.replace('.', '')}").Image
    try:
        model.model_validate(_written_ome(path, levels, (), version))
    except ValueError:
        names = ", ".join(f"{axis.name} ({axis.kind})" for axis in levels[0].axes)
        message = (
            f"{path}: OME-Zarr holds 2 or 3 space axes, behind at most one time and one channel axis, in the order "
            f"(t, c, z, y, x); this image has {names}"
        )
        raise InputError(message) from None


def written_attributes(
    path: str,
    levels: tuple[ImageInfo, ...],
    provenance: Mapping[str, Any],
    windows: Sequence[tuple[float, float, float, float]],
    version: Version,
) -> dict[str, Any]:
    """Return the attributes of a finished image's group."""
    ome = _written_ome(path, levels, windows, version)
    return {**({"ome": ome} if version == "0.5" else ome), "convolume": {"finished": True, **provenance}}


def _written_ome(
    path: str, levels: tuple[ImageInfo, ...], windows: Sequence[tuple[float, float, float, float]], version: Version
) -> dict[str, Any]:
    image = levels[0]
    name = Path(path).name.removesuffix(".zarr").removesuffix(".ome")
    axes = [{"name": axis.name, "type": axis.kind} | ({"unit": axis.unit} if axis.unit else {}) for axis in image.axes]
    datasets = [_dataset(str(number), level) for number, level in enumerate(levels)]
    multiscale: dict[str, Any] = {"name": name, "axes": axes, "datasets": datasets}
    if len(levels) > 1:
        multiscale |= DOWNSCALING
    # Version 0.4 says it of each image, 0.5 once.
    ome: dict[str, Any]
    if version == "0.4":
        ome = {"multiscales": [{"version": version, **multiscale}]}
    else:
        ome = {"version": version, "multiscales": [multiscale]}
    if windows:
        ome["omero"] = {"channels": _written_channels(image, windows)}
    return ome


def _dataset(path: str, level: ImageInfo) -> dict[str, Any]:
    scale = {"type": "scale", "scale": [axis.spacing for axis in level.axes]}
    translation = {"type": "translation", "translation": [axis.translation for axis in level.axes]}
    moved = any(axis.translation != 0 for axis in level.axes)
    return {"path": path, "coordinateTransformations": [scale, translation] if moved else [scale]}


def _written_channels(image: ImageInfo, windows: Sequence[tuple[float, float, float, float]]) -> list[dict[str, Any]]:
    count = len(windows)
    fallback = ("FFFFFF",) if count == 1 else COLORS
    channels = image.channels
    if len(channels) != count:
        channels = tuple(Channel(f"Channel {n}", fallback[n % len(fallback)]) for n in range(count))
    return [
        {
            "label": channel.name,
            "color": channel.color,
            "active": True,
            "window": dict(zip(("min", "max", "start", "end"), _finite(window), strict=True)),
        }
        for channel, window in zip(channels, windows, strict=True)
    ]


def _finite(window: tuple[float, float, float, float]) -> tuple[float, ...]:
    """Return a window that JSON can say, for an image of NaN or inf, too."""
    return tuple(map(float, window)) if all(map(isfinite, window)) else (0.0, 1.0, 0.0, 1.0)
