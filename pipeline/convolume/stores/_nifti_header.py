"""The header of a NIfTI file that is written: voxel size, placement, display window, provenance."""

from __future__ import annotations

import json
from importlib.metadata import version
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.image import MICROMETRES_PER_UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from convolume.image import ImageInfo

__all__ = ["written_header"]

_LARGEST_NIFTI1_EXTENT = 2**15 - 1
# The placement of images that had none: aligned to coordinates of their own.
_ALIGNED = 2
_SPACE_UNITS = {"meter": "meter", "millimeter": "mm", "micrometer": "micron"}
_TIME_UNITS = {"second": "sec", "millisecond": "msec", "microsecond": "usec"}


def written_header(
    nibabel: ModuleType,
    image: ImageInfo,
    provenance: Mapping[str, Any],
    windows: tuple[tuple[float, float, float, float], ...],
) -> Any:
    """Return the header of an image: NIfTI-1, or NIfTI-2 where an extent is too large for that.

    An image that came from a NIfTI file keeps its placement, moved to where a region of it begins, and stretched where
    the user gave another voxel size; others begin at their translation, their axes along x, y and z. The provenance is
    an extension, a JSON text.

    Parameters
    ----------
    nibabel : module
        The library.
    image : ImageInfo
        What is written, axes among (t, c, z, y, x).
    provenance : mapping
        As for `Sink.finish`.
    windows : tuple of (min, max, start, end)
        Display windows; the first one is told.
    """
    extents, axes = _extents(image), {axis.name: axis for axis in image.axes}
    is_large = max(extents) > _LARGEST_NIFTI1_EXTENT
    header = (nibabel.Nifti2Header if is_large else nibabel.Nifti1Header)(endianness="<")
    header.set_data_dtype(np.dtype(image.dtype).newbyteorder("<"))
    header.set_data_shape(extents)
    unit = _space_unit(image)
    scales = [_scale(axes[name].unit, unit) if name in axes else 1.0 for name in "xyz"]
    time = axes.get("t")
    steps = [axes[name].spacing * scale if name in axes else 1.0 for name, scale in zip("xyz", scales, strict=True)]
    zooms = [*steps, time.spacing if time else 1.0, 1.0]
    header.set_zooms(zooms[: len(extents)])
    header.set_xyzt_units(
        _SPACE_UNITS.get(unit or "", "unknown"), _TIME_UNITS.get(time.unit or "", "unknown") if time else "unknown"
    )
    voxel = [axes[name].translation / axes[name].spacing if name in axes else 0.0 for name in "xyz"]
    _place(header, provenance.get("input", {}).get("nifti"), unit, steps, voxel)
    header["descrip"] = f"Convolume {version('convolume')}".encode()
    if windows and all(map(isfinite, windows[0])):
        header["cal_min"], header["cal_max"] = windows[0][2:]
    text = json.dumps(provenance, default=str).encode()
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", text))
    return header


def _extents(image: ImageInfo) -> tuple[int, ...]:
    """Return the extents in the file's order (x, y, z, t, c), without last ones that the image does not have."""
    by_name = dict(zip((axis.name for axis in image.axes), image.shape, strict=True))
    last = max("xyztc".index(name) for name in by_name)
    return tuple(by_name.get(name, 1) for name in "xyztc"[: last + 1])


def _space_unit(image: ImageInfo) -> str | None:
    """Return the unit that a header tells, the same for all axes; None where no axis has one."""
    units = {image.axes[axis].unit or "" for axis in image.space_axes} & MICROMETRES_PER_UNIT.keys()
    if not units:
        return None
    return units.pop() if len(units) == 1 and units <= _SPACE_UNITS.keys() else "micrometer"


def _scale(unit: str | None, written: str | None) -> float:
    """Return what numbers of a unit are multiplied with to be of another; those of an unknown one are left."""
    per_unit = MICROMETRES_PER_UNIT.get(unit or "")
    return 1.0 if per_unit is None or written is None else per_unit / MICROMETRES_PER_UNIT[written]


def _place(
    header: Any,
    placement: Mapping[str, Any] | None,
    unit: str | None,
    steps: list[float],
    first_voxel: list[float],
) -> None:
    if placement is None:
        affine = np.diag([*steps, 1.0])
        affine[:3, 3] = np.multiply(steps, first_voxel)
        header.set_sform(affine, code=_ALIGNED)
        return
    # Of a file without a unit, as it was read.
    scale = _scale(placement["unit"], unit)
    stretch = np.divide(steps, placement["spacing_xyz"])
    # A second placement that differs is kept beside the one that counts.
    qform = placement.get("qform_xyz", placement["affine_xyz"])
    for affine, code, put in (
        (placement["affine_xyz"], placement["sform_code"], header.set_sform),
        (qform, placement["qform_code"], header.set_qform),
    ):
        if code > 0:
            moved = np.array(affine, np.float64)
            moved[:3, :3] *= stretch
            moved[:3, 3] = moved[:3, 3] * scale + moved[:3, :3] @ first_voxel
            put(moved, code=code)
