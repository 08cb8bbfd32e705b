"""Which plane of an image a picture shows, where it lies in space, and its voxels, read without the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError, did_you_mean
from convolume.image import MICROMETRES_PER_UNIT
from convolume.regions import Region

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from convolume.image import Axis, ImageInfo
    from convolume.stores import Source

__all__ = ["Plane", "plane_of", "read_plane", "rows_go_up"]

_SHOWN = 2
# No screen shows more: of larger planes every k-th voxel is taken, band by band.
_MOST_PIXELS = 2048
_BAND_VOXELS = 2**24
_SYMBOLS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm", "centimeter": "cm", "meter": "m"}


@dataclass(frozen=True, slots=True)
class Plane:
    """A rectangle of an image.

    Parameters
    ----------
    region : Region
        One voxel thick on all axes but the two that are shown.
    rows, columns : int
        Positions of the axes that are shown.
    extent : tuple of float
        Outer edges (left, right, first row, last row), in `unit`.
    unit : str
        A symbol, or ``voxels`` where voxels have no known size.
    names : tuple of str
        Names of the row axis and of the column axis.
    where : str
        Such as ``z = 90``; the axes that the plane lies across.
    """

    region: Region
    rows: int
    columns: int
    extent: tuple[float, float, float, float]
    unit: str
    names: tuple[str, str]
    where: str

    @property
    def height_over_width(self) -> float:
        """Height of the rectangle over its width."""
        left, right, first, last = self.extent
        return abs(last - first) / abs(right - left)


def plane_of(info: ImageInfo, position: Mapping[str, int], crop: Mapping[str, tuple[int, int]]) -> Plane:
    """Return the plane at `position`, cropped.

    Parameters
    ----------
    info : ImageInfo
        The image.
    position : mapping
        Voxel on each axis that the plane lies across. Space axes that are not named are cut in the middle, as
        long as two remain to be shown; time and channel axes at 0.
    crop : mapping
        ``(start, stop)`` in voxels on shown axes.

    Raises
    ------
    InputError
        An axis is not there or not shown, or something lies outside the image.
    """
    names = [axis.name for axis in info.axes]
    for name in (*position, *crop):
        _check_axis(name, names)
    shown = [i for i in info.space_axes if names[i] not in position][-_SHOWN:]
    if len(shown) < _SHOWN:
        across = ", ".join(position) or "no axis"
        message = f"a plane shows two space axes, and of ({', '.join(names)}) across {across} there are {len(shown)}"
        raise InputError(message)
    start, stop = _limits(info, position, crop, shown)
    region = Region(tuple(start), tuple(stop))
    rows, columns = shown
    extent, unit = _extent(info.axes[rows], info.axes[columns], region, shown)
    where = ", ".join(f"{names[i]} = {start[i]}" for i in range(info.ndim) if i not in shown)
    return Plane(region, rows, columns, extent, unit, (names[rows], names[columns]), where)


def _check_axis(name: str, names: list[str]) -> None:
    if name not in names:
        message = f"the image has no axis {name!r}{did_you_mean(name, names)} (there are: {', '.join(names)})"
        raise InputError(message)


def _limits(
    info: ImageInfo, position: Mapping[str, int], crop: Mapping[str, tuple[int, int]], shown: Sequence[int]
) -> tuple[list[int], list[int]]:
    start, stop = [], []
    for i, (axis, extent) in enumerate(zip(info.axes, info.shape, strict=True)):
        if i in shown:
            first, last = crop.get(axis.name, (0, extent))
        elif axis.name in crop:
            message = f"axis {axis.name!r} is cropped, and the plane does not show it: name its position in `plane:`"
            raise InputError(message)
        else:
            first = position.get(axis.name, extent // 2 if axis.kind == "space" else 0)
            last = first + 1
        if not 0 <= first < last <= extent:
            wanted = f"{first} to {last}" if i in shown else f"position {first}"
            message = f"{wanted} on axis {axis.name!r} lies outside the image, which has 0 to {extent}"
            raise InputError(message)
        start.append(first)
        stop.append(last)
    return start, stop


def _extent(
    rows: Axis, columns: Axis, region: Region, shown: Sequence[int]
) -> tuple[tuple[float, float, float, float], str]:
    """Return the outer edges in the column axis's unit, or in voxels where a size is not known."""
    factors = [MICROMETRES_PER_UNIT.get(axis.unit or "") for axis in (rows, columns)]
    edges = []
    for i, axis, factor in zip(shown, (rows, columns), factors, strict=True):
        scale, offset = 1.0, 0.0
        if factor and all(factors):
            to_common = factor / (factors[1] or 1.0)
            scale, offset = axis.spacing * to_common, axis.translation * to_common
        edges.append([offset + scale * (edge - 0.5) for edge in (region.start[i], region.stop[i])])
    unit = _SYMBOLS.get(columns.unit or "", columns.unit or "voxels") if all(factors) else "voxels"
    return (edges[1][0], edges[1][1], edges[0][0], edges[0][1]), unit


def read_plane(source: Source, plane: Plane) -> npt.NDArray[Any]:
    """Return the voxels as (rows, columns), at most 2048 of each, in bands so that memory stays small."""
    height, width = (plane.region.shape[i] for i in (plane.rows, plane.columns))
    every_row, every_column = -(-height // _MOST_PIXELS), -(-width // _MOST_PIXELS)
    band = max(1, _BAND_VOXELS // (width * every_row)) * every_row
    first = plane.region.start[plane.rows]
    parts = []
    for top in range(0, height, band):
        box = _with_rows(plane.region, plane.rows, first + top, first + min(top + band, height))
        voxels = source.read(box).reshape(-1, width)
        parts.append(np.array(voxels[::every_row, ::every_column]))
    return np.concatenate(parts)


def _with_rows(region: Region, axis: int, start: int, stop: int) -> Region:
    return Region(
        (*region.start[:axis], start, *region.start[axis + 1 :]), (*region.stop[:axis], stop, *region.stop[axis + 1 :])
    )


def rows_go_up(affine_xyz: Sequence[Sequence[float]] | None, axis_name: str) -> bool:
    """Say whether rows along an axis are drawn upwards.

    Rows go down, as in arrays and under microscopes; but a scanner's affine counts to the right, front and top,
    and where rows follow it they go up, because a head would stand upside down otherwise.
    """
    if affine_xyz is None or axis_name not in "xyz":
        return False
    column = [float(row["xyz".index(axis_name)]) for row in affine_xyz[:3]]
    return max(column, key=abs) > 0
