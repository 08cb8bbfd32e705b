"""NumPy's files: any order and byte order, nothing read that is not asked for, nothing executed."""

from __future__ import annotations

import tracemalloc
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convolume.errors import InputError, RunError
from convolume.regions import Region
from convolume.stores import SourceOptions, open_source, read_array
from convolume.testing.stores import DTYPES, check_source, random_array

if TYPE_CHECKING:
    from pathlib import Path


def _write(path: Path, array: Any) -> str:
    np.save(path, array)
    return str(path)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_orders(tmp_path: Path, dtype: str, order: Any, byte_order: Any) -> None:
    """Whatever lies first in the file, voxels come in the machine's byte order."""
    array = random_array((3, 4, 5), dtype)
    stored = np.asarray(array.astype(array.dtype.newbyteorder(byte_order)), order=order)
    source = open_source(_write(tmp_path / "volume.npy", stored))
    check_source(source, array)
    assert source.read(Region((0, 1, 1), (2, 4, 4))).flags.c_contiguous


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions(tmp_path: Path, version: tuple[int, int]) -> None:
    """All that NumPy writes."""
    array = random_array((4, 5), "int16")
    with (tmp_path / "volume.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version=version)
    check_source(open_source(str(tmp_path / "volume.npy")), array)


def test_axes(tmp_path: Path) -> None:
    """The last of (t, c, z, y, x), or what the user says; the voxel size is the user's."""
    path = _write(tmp_path / "volume.npy", np.zeros((2, 3, 4, 5), "uint8"))
    plain = open_source(path)
    assert "".join(axis.name for axis in plain.info.axes) == "czyx"
    assert plain.info.space_spacing_um == (None, None, None)
    told = open_source(path, SourceOptions(axes="tzyx", spacing=(2.0, 1.0, 0.5), unit="nanometer", time=1))
    assert "".join(axis.name for axis in told.info.axes) == "tzyx"
    assert told.info.space_spacing_um == pytest.approx((2e-3, 1e-3, 5e-4))
    assert told.info.shape == (1, 3, 4, 5)
    with pytest.raises(InputError, match="axes 'zyx' name 3 axes, and the image has 4"):
        open_source(path, SourceOptions(axes="zyx"))
    with pytest.raises(InputError, match="level 1 is not there; this image has one level, 0"):
        open_source(path, SourceOptions(level=1))
    with pytest.raises(InputError, match="the dataset 'raw' is named, and this is no file of datasets, as HDF5 is"):
        open_source(path, SourceOptions(dataset="raw"))


def test_a_region_costs_its_own_bytes(tmp_path: Path) -> None:
    """The file is mapped, not read."""
    path = _write(tmp_path / "volume.npy", np.zeros((64, 256, 256), "uint8"))
    tracemalloc.start()
    source = open_source(path)
    source.read(Region((0, 0, 0), (2, 256, 256)))
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most_bytes < 1_000_000


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2), [("a", "f4"), ("b", "i2")]), "holds a structure of a, b, not numbers; write one array for"),
        (np.zeros((2, 2), "complex64"), "dtype complex64 cannot be filtered"),
        (np.array([["a", "b"]]), "voxels of dtype <U1 cannot be filtered"),
        (np.array([[print]], dtype=object), "it holds Python objects, which would run as code"),
        (np.zeros((1,) * 6), "has 6 axes; at most 5"),
        (np.zeros((2, 0, 3)), r"has no voxels: its shape is \(2, 0, 3\)"),
        (np.zeros(()), r"has no voxels: its shape is \(\)"),
    ],
)
def test_what_is_no_image(tmp_path: Path, array: Any, message: str) -> None:
    """Each says what it is."""
    with pytest.raises(InputError, match=message):
        open_source(_write(tmp_path / "array.npy", array))


def test_damaged_files(tmp_path: Path) -> None:
    """Cut short, foreign, of a version to come, an archive: each is an error of the input."""
    path = tmp_path / "volume.npy"
    _write(path, random_array((8, 8, 8), "uint16"))
    whole = path.read_bytes()
    source = open_source(str(path))
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="is cut short: 1151 bytes where its header promises 1152; copy it again"):
        open_source(str(path))
    with pytest.raises(RunError, match="voxels cannot be read; the file was replaced, or cut short, since it was open"):
        source.read(Region.whole(source.info.shape))
    path.unlink()
    with pytest.raises(RunError, match="voxels cannot be read"):
        source.read(Region.whole(source.info.shape))
    for data, message in (
        (b"", "EOF: reading magic string, expected 8 bytes got 0"),
        (b"no image at all", "the magic string is not correct"),
        (whole[:40], "EOF: reading array header"),
        (whole[:6] + b"\x07\x00" + whole[8:], r"version 7\.0 of the format is not known"),
        (whole.replace(b"(8, 8, 8)", b"(8,-8, 8)"), r"its header makes no sense: uint16 \(8, -8, 8\)"),
        (whole.replace(b"'<u2'", b"'<u9'"), "descr is not a valid dtype descriptor"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=f"volume.npy: cannot be read as a .npy file: .*{message}"):
            open_source(str(path))
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    with pytest.raises(
        InputError, match=r"several\.npz: a \.npz file holds several arrays; write the one that is meant"
    ):
        open_source(str(tmp_path / "several.npz"))
    (tmp_path / "several.npz").rename(path)
    with pytest.raises(InputError, match=r"cannot be read as a \.npy file"):
        read_array(str(path))


def test_a_header_that_promises_much(tmp_path: Path) -> None:
    """It is refused before anything is allocated, numbers that no machine can count too."""
    for shape in ((2**40,), (2**33, 2**33), (2**70, 3)):
        stream = BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
        (tmp_path / "volume.npy").write_bytes(stream.getvalue())
        for read in (open_source, read_array):
            with pytest.raises(InputError, match="is cut short: 128 bytes where its header promises"):
                read(str(tmp_path / "volume.npy"))


@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (2, 1, 2, 1, 2, 3)])
@pytest.mark.parametrize("dtype", ["float64", ">i2"])
def test_kernels_of_any_number_of_axes(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """A kernel file is an array, and no image."""
    kernel = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    read = read_array(_write(tmp_path / "kernel.npy", kernel))
    np.testing.assert_array_equal(read, kernel)
    assert (read.shape, read.dtype) == (kernel.shape, kernel.dtype)


def test_axes_in_another_order(tmp_path: Path) -> None:
    """The user names the axes of the file; the image's are (t, c, z, y, x) as far as they are there."""
    array = random_array((3, 4, 5, 2), "uint16")
    options = SourceOptions(axes="xyzc", spacing=(1.0, 2.0, 3.0), unit="micrometer")
    source = open_source(_write(tmp_path / "volume.npy", array), options)
    check_source(source, array.transpose(3, 2, 1, 0))
    assert ["".join(axis.name for axis in source.info.axes), source.info.space_spacing_um] == ["czyx", (3.0, 2.0, 1.0)]
