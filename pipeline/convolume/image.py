"""What is known of an image without reading a voxel: shape, dtype, axes, voxel size, channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

__all__ = ["MICROMETRES_PER_UNIT", "Axis", "Channel", "ImageInfo"]

AxisKind = Literal["time", "channel", "space"]

# UDUNITS-2 names, as OME-Zarr writes them.
MICROMETRES_PER_UNIT = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an image: its name, kind, and where its voxels lie in `unit`."""

    name: str
    kind: AxisKind
    unit: str | None = None
    spacing: float = 1.0
    translation: float = 0.0

    @property
    def spacing_um(self) -> float | None:
        """Distance between voxels in micrometres; None where the unit is not a length."""
        factor = MICROMETRES_PER_UNIT.get(self.unit or "")
        return None if factor is None or self.kind != "space" else self.spacing * factor


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel's name and display colour (six hexadecimal digits)."""

    name: str
    color: str = "FFFFFF"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a source says of its image before a voxel is read.

    Parameters
    ----------
    shape : tuple of int
        Extents in the order of `axes`, at most (t, c, z, y, x).
    dtype : str
        NumPy's name of the voxels' dtype.
    axes : tuple of Axis
        One for every extent.
    chunks, shards : tuple of int, optional
        Units of storage, where the format has them.
    channels : tuple of Channel
        One for every entry of the channel axis, or none.
    notes : tuple of str
        What was assumed and must be said, e.g. that an unknown unit was taken as millimetres.
    """

    shape: tuple[int, ...]
    dtype: str
    axes: tuple[Axis, ...]
    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    channels: tuple[Channel, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def space_axes(self) -> tuple[int, ...]:
        """Positions of the axes that filters work on."""
        return tuple(i for i, axis in enumerate(self.axes) if axis.kind == "space")

    @property
    def space_spacing_um(self) -> tuple[float | None, ...]:
        """Voxel size of each space axis in micrometres, None where it is not known."""
        return tuple(self.axes[i].spacing_um for i in self.space_axes)

    @property
    def size_voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def size_bytes(self) -> int:
        """Bytes of all voxels, uncompressed."""
        return self.size_voxels * np.dtype(self.dtype).itemsize

    def with_(self, **changes: Any) -> ImageInfo:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


def default_axes(ndim: int, unit: str | None = None) -> tuple[Axis, ...]:
    """Return the axes of an image that does not name its own: the last of (t, c, z, y, x).

    Examples
    --------
    >>> [axis.name for axis in default_axes(3)]
    ['z', 'y', 'x']
    """
    kinds: dict[str, AxisKind] = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
    return tuple(Axis(name, kinds[name], unit if kinds[name] == "space" else None) for name in "tczyx"[5 - ndim :])
