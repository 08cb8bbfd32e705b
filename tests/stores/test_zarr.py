"""Plain Zarr arrays: axes from their names, from the user, or by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from convolume.errors import InputError, RunError
from convolume.regions import Region
from convolume.stores import SourceOptions, open_source
from convolume.testing.stores import DTYPES, check_source, random_array


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


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ({"zarr_format": 3}, "c/1/0"),
        ({"zarr_format": 3, "shards": (4, 8)}, "c/1/0"),
        ({"zarr_format": 3, "chunk_key_encoding": {"name": "v2", "separator": "."}}, "1.0"),
        ({"zarr_format": 2}, "1.0"),
        ({"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}}, "1/0"),
    ],
)
def test_files_that_are_missing(tmp_path: Path, layout: dict[str, Any], file: str) -> None:
    """They are fill value where the user says so; else they are counted before anything is read, in what is read."""
    path = str(tmp_path / "image.zarr")
    array = zarr.create_array(path, shape=(8, 8), chunks=(4, 4), dtype="uint8", fill_value=7, **layout)
    array[:] = 1
    strict = SourceOptions(missing="error")
    assert open_source(path, strict).read(Region.whole((8, 8))).min() == 1
    source = open_source(path, strict)
    Path(path, file).unlink()
    with pytest.raises(RunError, match=rf"the file \S*/image\.zarr/{file} is not there any more, and was when the run"):
        source.read(Region((3, 0), (5, 4)))
    assert source.read(Region((0, 0), (4, 8))).min() == 1
    with pytest.raises(InputError, match=rf": 1 of the files with its voxels .*/{file}\)\. .* `missing: fill` under"):
        open_source(path, strict)
    assert open_source(path, SourceOptions(missing="error", region=(("y", 0, 4),))).info.shape == (4, 8)
    assert open_source(path).read(Region.whole((8, 8)))[5, 1] == 7
