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

    import numpy.typing as npt

    from convolume.image import Axis, ImageInfo

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

    An image that came from a NIfTI file keeps its placement, moved to where a region of it begins; others begin at
    their translation, their axes along x, y and z. The provenance is an extension, a JSON text.

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
    unit, scale = _space_unit(image)
    time = axes.get("t")
    steps = [axes[name].spacing * scale if name in axes else 1.0 for name in "xyz"]
    zooms = [*steps, time.spacing if time else 1.0, 1.0]
    header.set_zooms(zooms[: len(extents)])
    header.set_xyzt_units(unit, _TIME_UNITS.get(time.unit or "", "unknown") if time else "unknown")
    _place(header, provenance.get("input", {}).get("nifti"), axes, steps, scale)
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


def _space_unit(image: ImageInfo) -> tuple[str, float]:
    """Return NIfTI's word for the unit of space, and what its numbers are multiplied with."""
    units = {image.axes[axis].unit for axis in image.space_axes}
    unit = next(iter(units)) if len(units) == 1 else None
    if unit in _SPACE_UNITS:
        return _SPACE_UNITS[unit], 1.0
    factor = MICROMETRES_PER_UNIT.get(unit or "")
    return ("unknown", 1.0) if factor is None else ("micron", factor)


def _place(
    header: Any,
    placement: Mapping[str, Any] | None,
    axes: Mapping[str, Axis],
    steps: list[float],
    scale: float,
) -> None:
    if placement is None:
        affine = np.diag([*steps, 1.0])
        affine[:3, 3] = [axes[name].translation * scale if name in axes else 0.0 for name in "xyz"]
        header.set_sform(affine, code=_ALIGNED)
        return
    first_voxel = [axes[name].translation / axes[name].spacing if name in axes else 0.0 for name in "xyz"]
    # A second placement that differs is kept beside the one that counts.
    qform = placement.get("qform_xyz", placement["affine_xyz"])
    for affine, code, put in (
        (placement["affine_xyz"], placement["sform_code"], header.set_sform),
        (qform, placement["qform_code"], header.set_qform),
    ):
        if code > 0:
            put(_moved(affine, first_voxel), code=code)


def _moved(affine: Any, first_voxel: list[float]) -> npt.NDArray[np.float64]:
    """Return an affine of voxels that are counted from another one."""
    moved = np.array(affine, np.float64)
    moved[:3, 3] += moved[:3, :3] @ first_voxel
    return moved
