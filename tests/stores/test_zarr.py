"""Plain Zarr arrays: axes from their names, from the user, or by position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from convolume.errors import InputError
from convolume.stores import SourceOptions, open_source
from convolume.testing.stores import DTYPES, check_source, random_array

if TYPE_CHECKING:
    from pathlib import Path


def _write(path: Path, array: np.ndarray, **how: Any) -> str:
    how = {"chunks": tuple(-(-n // 2) for n in array.shape), **how}
    zarr.create_array(path, data=array, **how)
    return str(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(tmp_path: Path, dtype: str, zarr_format: int) -> None:
    """Whatever zarr-python writes is read."""
    array = random_array((5, 1, 7), dtype)
    source = open_source(_write(tmp_path / "plain.zarr", array, zarr_format=zarr_format))
    check_source(source, array)
    assert [axis.name for axis in source.info.axes] == list("zyx")
    assert source.info.notes == ()


def test_sharded_and_named(tmp_path: Path) -> None:
    """Dimension names are the axes; the user gives their distance."""
    array = random_array((2, 8, 8), "uint16")
    path = _write(tmp_path / "plain.zarr", array, chunks=(1, 2, 2), shards=(1, 4, 4), dimension_names=["T", "Y", "X"])
    source = open_source(path, SourceOptions(spacing=(0.5, 0.25), unit="micrometer"))
    check_source(source, array)
    assert (source.info.chunks, source.info.shards) == ((1, 2, 2), (1, 4, 4))
    assert [axis.kind for axis in source.info.axes] == ["time", "space", "space"]
    assert source.info.space_spacing_um == (0.5, 0.25)


def test_other_names_are_said(tmp_path: Path) -> None:
    """What the names do not tell is taken by position, and noted; the user's word settles it."""
    array = random_array((2, 8, 8), "uint16")
    path = _write(tmp_path / "plain.zarr", array, dimension_names=["depth", "row", "column"])
    assert open_source(path).info.notes == (f"{path}: its dimensions are named depth, row, column; zyx are taken",)
    told = open_source(path, SourceOptions(axes="cyx")).info
    assert ([axis.name for axis in told.axes], told.notes) == (list("cyx"), ())


def test_what_is_refused(tmp_path: Path) -> None:
    """Complex numbers, no axes, no voxels, a level."""
    path = _write(tmp_path / "complex.zarr", np.zeros((4, 4), "complex64"))
    with pytest.raises(InputError, match="dtype complex64 cannot be filtered"):
        open_source(path)
    zarr.create_array(tmp_path / "scalar.zarr", shape=(), dtype="uint8")
    with pytest.raises(InputError, match=r"has no voxels: its shape is \(\)"):
        open_source(str(tmp_path / "scalar.zarr"))
    path = _write(tmp_path / "plain.zarr", np.zeros((4, 4), "uint8"))
    with pytest.raises(InputError, match="level 1 is not there; this image has one level, 0"):
        open_source(path, SourceOptions(level=1))
    (tmp_path / "plain.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    with pytest.raises(InputError, match="metadata are not understood"):
        open_source(path)
