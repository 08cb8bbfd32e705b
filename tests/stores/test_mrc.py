"""MRC: volumes and stacks as mrcfile writes them, in any mode of real numbers, byte order and order of axes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest

from convolume.errors import InputError, RunError
from convolume.image import Axis
from convolume.regions import Region
from convolume.stores import SourceOptions, open_source
from convolume.testing.stores import check_source, random_array

if TYPE_CHECKING:
    from pathlib import Path


def _write(path: Path, array: Any, **header: Any) -> str:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(array)
        file.voxel_size = (4.0, 3.0, 2.0)
        for name, value in header.items():
            file.header[name] = value
    return str(path)


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "uint16", "float16"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_modes(tmp_path: Path, dtype: str, byte_order: Any) -> None:
    """0, 1, 2, 6 and 12, in either byte order; the voxel size is in ångström."""
    array = random_array((4, 5, 6), dtype)
    source = open_source(_write(tmp_path / "volume.mrc", array.astype(array.dtype.newbyteorder(byte_order))))
    check_source(source, array)
    assert source.info.axes == (
        Axis("z", "space", "angstrom", 2.0),
        Axis("y", "space", "angstrom", 3.0),
        Axis("x", "space", "angstrom", 4.0),
    )
    assert source.info.space_spacing_um == pytest.approx((2e-4, 3e-4, 4e-4))
    assert source.info.notes == ()


@pytest.mark.parametrize("ending", [".mrc", ".MRC", ".mrcs", ".rec", ".map", ".st"])
def test_endings(tmp_path: Path, ending: str) -> None:
    """All that such files have."""
    array = random_array((4, 5, 6), "int16")
    check_source(open_source(_write(tmp_path / f"volume{ending}", array)), array)


def test_shared_endings_of_others(tmp_path: Path) -> None:
    """A recording, a map or a script of someone else is not taken for one."""
    for name, data in (("drums.rec", b"RIFF" * 500), ("city.map", b"roads"), ("turtle.st", bytes(2000))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name}: none of the formats that are known"):
            open_source(str(tmp_path / name))


def test_extended_header(tmp_path: Path) -> None:
    """Voxels begin after it."""
    array = random_array((4, 5, 6), "uint16")
    path = _write(tmp_path / "volume.mrc", array)
    with mrcfile.open(path, "r+") as file:
        file.set_extended_header(np.frombuffer(b"tilt angles" * 10, "V1"))
    check_source(open_source(path), array)


def test_stacks(tmp_path: Path) -> None:
    """An image is (y, x), images are planes, which is said, and volumes are time points."""
    image, images = random_array((5, 6), "uint16"), random_array((4, 5, 6), "uint16")
    path = str(tmp_path / "stack.mrcs")
    check_source(open_source(_write(tmp_path / "stack.mrcs", image)), image)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(images)
        file.set_image_stack()
    source = open_source(path)
    check_source(source, images)
    assert source.info.notes == (f"{path}: its header calls it a stack of images, which are taken as planes along z",)
    assert source.info.space_spacing_um == (None, None, None)
    volumes = random_array((2, 3, 4, 5), "float32")
    source = open_source(_write(tmp_path / "stack.mrcs", volumes))
    check_source(source, volumes)
    assert [(axis.name, axis.unit, axis.spacing) for axis in source.info.axes] == [
        ("t", None, 1.0),
        ("z", "angstrom", 2.0),
        ("y", "angstrom", 3.0),
        ("x", "angstrom", 4.0),
    ]
    told = open_source(path, SourceOptions(axes="czyx", spacing=(1.0,), unit="nanometer"))
    assert ("".join(axis.name for axis in told.info.axes), told.info.axes[1].unit) == ("czyx", "nanometer")


def test_order_of_axes(tmp_path: Path) -> None:
    """Columns, rows and sections may lie along any of x, y, z."""
    array = random_array((4, 5, 6), "float32")
    with mrcfile.new(tmp_path / "density.map") as file:
        file.set_data(array)
        # Columns along z, rows along x, sections along y.
        file.header.mapc, file.header.mapr, file.header.maps = 3, 1, 2
        file.header.mx, file.header.my, file.header.mz = 5, 4, 6
        file.header.cella = (5 * 4.0, 4 * 3.0, 6 * 2.0)
    source = open_source(str(tmp_path / "density.map"))
    check_source(source, array.transpose(2, 0, 1))
    assert [(axis.name, axis.spacing) for axis in source.info.axes] == [("z", 2.0), ("y", 3.0), ("x", 4.0)]
    path = _write(tmp_path / "density.map", array, mapc=1, mapr=1, maps=1)
    check_source(open_source(path), array)


def test_bytes_without_sign(tmp_path: Path) -> None:
    """IMOD's stamp says so; without it, MRC's bytes have a sign."""
    array = random_array((4, 5, 6), "uint8")
    path = tmp_path / "volume.rec"
    _write(path, array.view("int8"))
    check_source(open_source(str(path)), array.view("int8"))
    data = bytearray(path.read_bytes())
    data[152:160] = np.array([1146047817, 0], "<i4").tobytes()
    path.write_bytes(data)
    source = open_source(str(path))
    check_source(source, array)
    assert source.info.notes == (f"{path}: its bytes have no sign, as IMOD's stamp says",)
    data[156] = 1
    path.write_bytes(data)
    check_source(open_source(str(path)), array.view("int8"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"mode": 4}, "dtype complex64 cannot be filtered"),
        ({"mode": 3}, "voxels of MRC mode 3 cannot be filtered; modes 0, 1, 2, 6 and 12 can"),
        ({"mode": 101}, "voxels of MRC mode 101 cannot be filtered"),
        (
            {"nx": 2**31 - 1, "ny": 2**31 - 1},
            f"where its header promises {1024 + (2**31 - 1) ** 2 * 4 * 4}; copy it again",
        ),
        ({"nz": 0}, r"its MRC header makes no sense: \[6, 5, 0\] voxels from byte 1024 on"),
        ({"ny": -5}, r"its MRC header makes no sense: \[6, -5, 4\] voxels"),
        ({"nsymbt": -1}, "voxels from byte 1023 on"),
        ({"nsymbt": 4}, "is cut short: 1504 bytes where its header promises 1508; copy it again"),
        ({"ispg": 401, "mz": 3}, "its MRC header makes no sense: 4 planes are no stack of volumes of 3"),
        ({"ispg": 401, "mz": 0}, "its MRC header makes no sense: 4 planes are no stack of volumes of 0"),
        ({"machst": [1, 2, 3, 4]}, r"is no MRC file that can be read \(Unrecognised machine stamp: 0x01 0x02"),
        ({"map": b"CAP "}, r"is no MRC file that can be read \(its header does not hold the word MAP\)"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    """Before anything is mapped."""
    path = tmp_path / "volume.mrc"
    _write(path, np.zeros((4, 5, 6), "float32"))
    data = bytearray(path.read_bytes())
    record = np.frombuffer(data, mrcfile.dtypes.HEADER_DTYPE, 1)
    for name, value in header.items():
        record[name] = value
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        open_source(str(path))


@pytest.mark.parametrize("cell", [0.0, -3.0, float("nan"), float("inf")])
def test_voxel_sizes_that_are_none(tmp_path: Path, cell: float) -> None:
    """The unit stays unknown."""
    path = _write(tmp_path / "volume.mrc", np.zeros((4, 5, 6), "float32"), cella=(cell, 5.0, 4.0), mz=0)
    assert open_source(path).info.space_spacing_um == (None, pytest.approx(1e-4), None)


def test_damaged_files(tmp_path: Path) -> None:
    """Cut short, foreign, compressed; and cut short after it was opened."""
    path = tmp_path / "volume.mrc"
    _write(path, random_array((4, 5, 6), "int16"))
    whole = path.read_bytes()
    source = open_source(str(path))
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="is cut short: 1263 bytes where its header promises 1264; copy it again"):
        open_source(str(path))
    with pytest.raises(
        RunError, match="voxels cannot be read; the file was replaced, or cut short, since it was opened"
    ):
        source.read(Region.whole(source.info.shape))
    path.write_bytes(whole[:1000])
    with pytest.raises(InputError, match="is no MRC file that can be read"):
        open_source(str(path))
    (tmp_path / "volume.mrc.gz").touch()
    with pytest.raises(InputError, match="compressed MRC files are not read; unpack it first, with gunzip or bunzip2"):
        open_source(str(tmp_path / "volume.mrc.gz"))


def test_without_mrcfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra."""
    path = _write(tmp_path / "volume.mrc", np.zeros((3, 4, 5), "float32"))
    for module in ("mrcfile", "mrcfile.utils"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"needs mrcfile, which is not installed: pip install 'convolume\[mrc\]'"):
        open_source(path)
