"""NIfTI: transposed and never reoriented, scaled where the header says so, staged once where it is compressed."""

from __future__ import annotations

import gzip
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from convolume.errors import InputError
from convolume.image import Axis
from convolume.regions import Region
from convolume.stores import Source, SourceOptions, open_source
from convolume.testing.stores import check_source, random_array

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

AFFINE = np.diag([-2.0, 3.0, 4.0, 1.0])


@pytest.fixture(autouse=True)
def staging_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stage into this test's own folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _write(path: Path, array: npt.NDArray[Any], units: tuple[str | None, str | None] = ("mm", "sec")) -> str:
    image = nibabel.Nifti1Image(array, AFFINE, dtype=array.dtype)
    image.header.set_xyzt_units(*units)
    image.to_filename(path)
    return str(path)


def _whole(source: Source) -> npt.NDArray[Any]:
    return source.read(Region.whole(source.info.shape))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "float64"])
def test_transposed_as_stored(tmp_path: Path, ending: str, dtype: str) -> None:
    """(x, y, z) becomes (z, y, x); a negative step in the affine turns nothing around."""
    array = random_array((4, 5, 6), dtype)
    source = open_source(_write(tmp_path / f"brain{ending}", array))
    check_source(source, array.T)
    assert [(a.name, a.unit, a.spacing) for a in source.info.axes] == [
        ("z", "millimeter", 4.0),
        ("y", "millimeter", 3.0),
        ("x", "millimeter", 2.0),
    ]
    assert source.info.notes == ()
    assert source.metadata["nifti"]["affine_xyz"] == AFFINE.tolist()


def test_time_and_more(tmp_path: Path) -> None:
    """(x, y, z, t) becomes (t, z, y, x), and a fifth axis is the channels."""
    array = random_array((4, 5, 6, 3, 2), "int16")
    four = open_source(_write(tmp_path / "four.nii", array[..., 0], ("micron", "msec")))
    check_source(four, array[..., 0].T)
    assert four.info.axes[0] == Axis("t", "time", "millisecond", 1.0)
    assert four.info.axes[1].unit == "micrometer"
    five = open_source(_write(tmp_path / "five.nii", array))
    check_source(five, array.T.swapaxes(0, 1))
    assert [axis.name for axis in five.info.axes] == list("tczyx")


def test_big_endian(tmp_path: Path) -> None:
    """Voxels come in this machine's byte order."""
    array = random_array((4, 5, 6), "int16")
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.Nifti1Image(array, AFFINE, header).to_filename(tmp_path / "big.nii")
    assert open_source(str(tmp_path / "big.nii")).layout.dtype == ">i2"
    check_source(open_source(str(tmp_path / "big.nii")), array.T)


@pytest.mark.parametrize(("stored", "read"), [("int16", "float32"), ("int32", "float64"), ("float32", "float32")])
def test_scaled(tmp_path: Path, stored: str, read: str) -> None:
    """Slope and intercept are applied, as nibabel does, and make a float."""
    array = random_array((4, 5, 6), stored)
    image = nibabel.Nifti1Image(array, AFFINE)
    image.header.set_slope_inter(0.25, -7.0)
    path = tmp_path / "scaled.nii"
    image.to_filename(path)
    with path.open("r+b") as file:  # nibabel divides what it writes; put the stored numbers back
        file.seek(int(nibabel.load(path).dataobj.offset))
        file.write(array.tobytes(order="F"))
    with path.open("r+b") as file:
        file.seek(112)
        file.write(np.array([0.25, -7.0], "<f4").tobytes())
    expected = np.asarray(nibabel.load(path).dataobj).T.astype(read)
    assert not np.array_equal(expected, array.T)
    check_source(open_source(str(path)), expected)


def test_unknown_unit_is_said(tmp_path: Path) -> None:
    """Millimetres are taken, and noted; the user's word settles it."""
    path = _write(tmp_path / "brain.nii", np.zeros((2, 3, 4), "uint8"), (None, None))
    source = open_source(path)
    assert source.info.space_spacing_um == (4000.0, 3000.0, 2000.0)
    assert source.info.notes == (f"{path}: the header leaves the unit unknown; NIfTI's millimetres are taken",)
    told = open_source(path, SourceOptions(unit="micrometer", spacing=(1.0, 2.0, 3.0)))
    assert (told.info.space_spacing_um, told.info.notes) == ((1.0, 2.0, 3.0), ())


def test_staged_once(tmp_path: Path, staging_folder: Path) -> None:
    """Opening unpacks nothing; two sources share one copy; a replaced file is unpacked again."""
    array = random_array((4, 5, 6), "uint8")
    path = _write(tmp_path / "brain.nii.gz", array)
    source = open_source(path)
    assert source.staged_bytes == 352 + array.nbytes
    assert not list(staging_folder.glob("convolume-staged-*/*"))
    source.prepare()
    (copy,) = staging_folder.glob("convolume-staged-*/*")
    assert copy.stat().st_size == source.staged_bytes
    np.testing.assert_array_equal(_whole(open_source(path)), array.T)
    assert list(staging_folder.glob("convolume-staged-*/*")) == [copy]
    copy.unlink()
    np.testing.assert_array_equal(_whole(source), array.T)
    _write(tmp_path / "brain.nii.gz", 255 - array)
    np.testing.assert_array_equal(_whole(open_source(path)), 255 - array.T)


def test_staging_folder_of_someone_else(tmp_path: Path, staging_folder: Path) -> None:
    """Voxels are not put where others can change them."""
    source = open_source(_write(tmp_path / "brain.nii.gz", np.zeros((2, 3, 4), "uint8")))
    source.prepare()
    (folder,) = staging_folder.glob("convolume-staged-*")
    folder.chmod(0o777)
    with pytest.raises(InputError, match="belongs to someone else or is open to others"):
        source.prepare()


def test_uncompressed_file_is_not_staged(tmp_path: Path) -> None:
    """It is mapped where it lies."""
    source = open_source(_write(tmp_path / "brain.nii", np.zeros((2, 3, 4), "uint8")))
    source.prepare()
    assert source.staged_bytes == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["brain.nii"]


def test_damaged_files(tmp_path: Path) -> None:
    """Cut short, no NIfTI at all, a broken checksum: each is an error of the input."""
    path = tmp_path / "brain.nii"
    _write(path, random_array((8, 8, 8), "uint16"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="is cut short: 1375 bytes where its header promises 1376; copy it again"):
        open_source(str(path))
    path.write_bytes(b"no image at all")
    with pytest.raises(InputError, match="is no NIfTI file that can be read"):
        open_source(str(path))
    packed = tmp_path / "brain.nii.gz"
    packed.write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(InputError, match="damaged or cut short"):
        open_source(str(packed)).prepare()
    packed.write_bytes(gzip.compress(whole[:-10]))
    with pytest.raises(InputError, match="holds 1366 bytes where its header promises 1376"):
        open_source(str(packed)).prepare()
    damaged = bytearray(gzip.compress(whole))
    damaged[-6] ^= 1
    packed.write_bytes(damaged)
    with pytest.raises(InputError, match="damaged or cut short"):
        open_source(str(packed)).prepare()
    assert not list(tmp_path.glob("convolume-staged-*/*"))


def test_complex_and_colours_are_refused(tmp_path: Path) -> None:
    """Only real numbers are filtered."""
    nibabel.Nifti1Image(np.zeros((2, 3, 4), "complex64"), AFFINE).to_filename(tmp_path / "complex.nii")
    with pytest.raises(InputError, match="dtype complex64 cannot be filtered"):
        open_source(str(tmp_path / "complex.nii"))
    colours = np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.Nifti1Image(colours, AFFINE).to_filename(tmp_path / "colours.nii")
    with pytest.raises(InputError, match="holds colours"):
        open_source(str(tmp_path / "colours.nii"))


def test_without_nibabel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra."""
    path = _write(tmp_path / "brain.nii", np.zeros((2, 3, 4), "uint8"))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"needs nibabel, which is not installed: pip install 'convolume\[nifti\]'"):
        open_source(path)


def test_users_axes_in_another_order(tmp_path: Path) -> None:
    """They name those of (t, c, z, y, x) as the file holds them; voxel sizes stay with their place."""
    array = random_array((3, 4, 5), "int16")
    nibabel.save(nibabel.Nifti1Image(array.T, np.diag([1, 2, 3, 1])), tmp_path / "a.nii")
    source = open_source(str(tmp_path / "a.nii"), SourceOptions(axes="yzx"))
    check_source(source, array.swapaxes(0, 1))
    assert [(axis.name, axis.spacing) for axis in source.info.axes] == [("z", 2.0), ("y", 3.0), ("x", 1.0)]
