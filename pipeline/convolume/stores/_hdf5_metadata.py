"""Axes and voxel size of an HDF5 dataset, from what h5py, ilastik and ImageJ write beside it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.image import default_axes
from convolume.stores._axes import KINDS, canonical_order, named_axes
from convolume.stores._hdf5_files import UNREADABLE, attribute

if TYPE_CHECKING:
    from convolume.image import Axis

__all__ = ["axes_of_dataset", "text_of"]


def axes_of_dataset(path: str, node: Any, wished: str | None) -> tuple[Axis, ...] | None:
    """Return the axes in the file's order, with the voxel size where it is told; None where there are too many.

    Names are the user's, else those of the dataset's dimensions, else ilastik's, else the last of (t, c, z, y, x).

    Parameters
    ----------
    path : str
        The file, for messages.
    node : h5py.Dataset
        One of any number of axes.
    wished : str, optional
        What the user says.
    """
    ndim = len(node.shape)
    names = wished or _dimension_names(node) or _ilastik_names(node)
    if names is not None and len(names) == ndim:
        axes = named_axes(path, names)
    elif ndim <= len(KINDS):
        axes = default_axes(ndim)
    else:
        return None
    return _with_element_size(axes, attribute(node, "element_size_um"))


def text_of(value: Any) -> str | None:
    """Return an attribute as text, which Imaris writes as an array of single letters.

    Examples
    --------
    >>> import numpy as np
    >>> text_of(np.array([b"1", b"2", b"8"])), text_of(b"DAPI"), text_of(None)
    ('128', 'DAPI', None)
    """
    if isinstance(value, np.ndarray):
        value = b"".join(value.ravel().tolist()) if value.dtype.kind == "S" else None
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return value.rstrip("\0") if isinstance(value, str) else None


def _dimension_names(node: Any) -> str | None:
    with suppress(*UNREADABLE):
        return _understood([dimension.label for dimension in node.dims])
    return None


def _ilastik_names(node: Any) -> str | None:
    """Return what ilastik and vigra write: ``{"axes": [{"key": "z", …}, …]}``."""
    with suppress(*UNREADABLE, RecursionError):
        return _understood([axis["key"] for axis in json.loads(text_of(attribute(node, "axistags")) or "{}")["axes"]])
    return None


def _understood(names: list[str]) -> str | None:
    lower = [name.lower() for name in names]
    return "".join(lower) if set(lower) <= set(KINDS) and len(set(lower)) == len(lower) else None


def _with_element_size(axes: tuple[Axis, ...], written: Any) -> tuple[Axis, ...]:
    """Take z, y, x of ``element_size_um``, as far as the image has them, whatever their order in the file."""
    space = [axis for axis in canonical_order([axis.name for axis in axes]) if axes[axis].kind == "space"]
    try:
        steps = [float(step) for step in np.ravel(written)]
    except (TypeError, ValueError):
        return axes
    if len(steps) != len(space) or not all(isfinite(step) and step > 0 for step in steps):
        return axes
    spacing = dict(zip(space, steps, strict=True))
    return tuple(
        replace(axis, unit="micrometer", spacing=spacing[position]) if position in spacing else axis
        for position, axis in enumerate(axes)
    )
