"""TIFF stacks: one file is one volume, whatever wrote it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from convolume.errors import InputError, RunError
from convolume.regions import Region
from convolume.stores import SourceOptions, open_source
from convolume.testing.stores import check_crosses_processes, check_source, random_array

if TYPE_CHECKING:
    from pathlib import Path

GREY: dict[str, Any] = {"photometric": "minisblack"}


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"compression": "zlib"},
        {"byteorder": ">"},
        {"byteorder": ">", "compression": "zlib"},
        {"tile": (16, 16)},
        {"bigtiff": True},
        {"volumetric": True, "tile": (16, 16, 16)},
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_stack(tmp_path: Path, how: dict[str, Any], dtype: str) -> None:
    """Pages are planes, however they are stored."""
    array = random_array((5, 20, 17), dtype)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, array, **GREY, **how)
    source = open_source(str(path))
    check_source(source, array)
    assert [axis.name for axis in source.info.axes] == list("zyx")
    assert source.info.space_spacing_um == (None, None, None)


@pytest.mark.parametrize("how", [{}, {"tile": (16, 16)}, {"rowsperstrip": 3}])
@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits", "zlib"])
@pytest.mark.parametrize("predictor", [False, True])
def test_codings(tmp_path: Path, how: dict[str, Any], compression: str, *, predictor: bool) -> None:
    """What microscopes and ImageJ write, in strips and tiles."""
    array = random_array((3, 20, 37), "uint16")
    path = tmp_path / "stack.tif"
    predictor = predictor and compression != "packbits"
    tifffile.imwrite(path, array, compression=compression, predictor=predictor, **GREY, **how)
    check_source(open_source(str(path)), array)


@pytest.mark.parametrize("shape", [(1, 4, 32, 3), (34, 1, 1, 1), (17, 22, 1, 1), (2, 1, 2, 1, 1), (1, 1, 3, 1, 1)])
def test_tiles_of_axes_of_one_voxel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A series may have more of them than its pages, or in other places."""
    array = random_array(shape, "uint16")
    path = tmp_path / "stack.tif"
    how = {"photometric": "rgb", "planarconfig": "separate"} if 4 in shape else GREY
    tifffile.imwrite(path, array, tile=(16, 16), compression="zlib", **how)
    check_source(open_source(str(path), SourceOptions(axes="tczyx"[-len(shape) :])), array)


def test_bits_in_strips(tmp_path: Path) -> None:
    """Eight voxels a byte, and a last strip of fewer rows than the others."""
    array = random_array((22, 68), "bool")
    tifffile.imwrite(tmp_path / "mask.tif", array, rowsperstrip=20, **GREY)
    check_source(open_source(str(tmp_path / "mask.tif")), array)


@pytest.mark.parametrize("compression", ["jpeg2000", "lerc", "zstd", "jpegxl"])
def test_constant_pages(tmp_path: Path, compression: str) -> None:
    """Some codings tell millions of equal voxels in some dozen bytes."""
    array = np.full((4096, 4096), 7, "uint8")
    tifffile.imwrite(tmp_path / "constant.tif", array, compression=compression, rowsperstrip=4096, **GREY)
    source = open_source(str(tmp_path / "constant.tif"))
    np.testing.assert_array_equal(source.read(Region((9, 9), (12, 12))), array[9:12, 9:12])


def test_jpeg(tmp_path: Path) -> None:
    """As tifffile decodes it."""
    array = random_array((40, 50, 3), "uint8")
    path = tmp_path / "jpeg.tif"
    tifffile.imwrite(path, array, compression="jpeg", tile=(16, 16), photometric="rgb")
    check_source(open_source(str(path)), np.moveaxis(tifffile.imread(path), -1, 0))


def test_a_coding_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named when the file is opened."""
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, random_array((3, 20, 37), "uint16"), compression="lzw", **GREY)
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {})
    with pytest.raises(InputError, match=r"its pages are coded by LZW, which needs imagecodecs: pip install"):
        open_source(str(path))


def test_one_page(tmp_path: Path) -> None:
    """A single page is a plane."""
    array = random_array((6, 7), "uint8")
    tifffile.imwrite(tmp_path / "page.tif", array, **GREY)
    check_source(open_source(str(tmp_path / "page.tif")), array)


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}])
def test_imagej(tmp_path: Path, how: dict[str, Any]) -> None:
    """ImageJ's hyperstack: axes, distance of planes, pixels a unit and seconds a frame."""
    array = random_array((2, 5, 3, 6, 7), "uint16")
    metadata = {"axes": "TZCYX", "spacing": 2.5, "unit": "um", "finterval": 0.25}
    tifffile.imwrite(tmp_path / "hyper.tif", array, imagej=True, metadata=metadata, resolution=(4, 2), **how)
    source = open_source(str(tmp_path / "hyper.tif"))
    check_source(source, array.transpose(0, 2, 1, 3, 4))
    assert [axis.name for axis in source.info.axes] == list("tczyx")
    assert source.info.space_spacing_um == (2.5, 0.5, 0.25)
    assert (source.info.axes[0].spacing, source.info.axes[0].unit) == (0.25, "second")


def test_ome_tiff(tmp_path: Path) -> None:
    """OME's physical sizes, each with its own unit; one that is not told is 1, without a unit."""
    array = random_array((5, 2, 6, 7), "uint16")
    metadata = {"axes": "ZCYX", "PhysicalSizeX": 500.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeZ": 3.0}
    tifffile.imwrite(tmp_path / "stack.ome.tif", array, ome=True, metadata=metadata, compression="zlib")
    source = open_source(str(tmp_path / "stack.ome.tif"))
    check_source(source, array.swapaxes(0, 1))
    assert source.info.space_spacing_um == (3.0, None, 0.5)


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_pages_in_several_files(tmp_path: Path, how: dict[str, Any]) -> None:
    """An OME-TIFF of a file a channel is one image, whichever is opened; a missing one is an error."""
    array = random_array((2, 3, 20, 17), "uint16")
    paths = [tmp_path / f"channel{number}.ome.tif" for number in range(2)]
    for path, channel in zip(paths, array, strict=True):
        document = ome_document(path.name, [file.name for file in paths], image_count=1)
        tifffile.imwrite(path, channel, description=document, metadata=None, **GREY, **how)
    for path, other in (paths, paths[::-1]):
        source = open_source(str(path), SourceOptions(missing="error"))
        check_source(source, array)
        assert source.files(Region.whole(array.shape)) == (str(path), str(other))
    paths[1].unlink()
    with pytest.raises(InputError, match=r"1 of the files that it refers to are not there .* write `missing: fill`"):
        open_source(str(paths[0]), SourceOptions(missing="error"))
    check_source(open_source(str(paths[0])), array * np.array([1, 0], "uint16")[:, None, None, None])


def test_an_image_that_lies_in_another_file(tmp_path: Path) -> None:
    """Is read from there, and not from the same place in the file that tells of it."""
    paths = [tmp_path / "first.ome.tif", tmp_path / "second.ome.tif"]
    for number, path in enumerate(paths):
        document = ome_document(path.name, [file.name for file in paths], image_count=2)
        voxels = np.full((3, 20, 17), number + 1, "uint16")
        tifffile.imwrite(path, voxels, description=document, metadata=None, **GREY)
    check_source(open_source(str(paths[1])), np.full((3, 20, 17), 1, "uint16"))


def ome_document(own: str, files: list[str], image_count: int) -> bytes:
    """Return OME's XML for files of three planes each, which are the channels of one image or an image each."""
    images = []
    for image in np.array_split(np.arange(len(files)), image_count):
        planes = "".join(
            f'<TiffData FirstC="{channel}" FirstZ="{plane}" IFD="{plane}" PlaneCount="1">'
            f'<UUID FileName="{files[file]}">urn:uuid:{files[file]}</UUID></TiffData>'
            for channel, file in enumerate(image)
            for plane in range(3)
        )
        channels = "".join(f'<Channel ID="Channel:{file}" SamplesPerPixel="1"/>' for file in image)
        sizes = f'SizeX="17" SizeY="20" SizeZ="3" SizeC="{len(image)}" SizeT="1"'
        head = f'<Pixels ID="Pixels:{image[0]}" DimensionOrder="XYZCT" Type="uint16" {sizes}>'
        images.append(f'<Image ID="Image:{image[0]}">{head}{channels}{planes}</Pixels></Image>')
    name = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return f'<?xml version="1.0"?><OME xmlns="{name}" UUID="urn:uuid:{own}">{"".join(images)}</OME>'.encode()


@pytest.mark.parametrize("how", [{}, {"planarconfig": "separate", "compression": "zlib"}])
def test_colours_are_channels(tmp_path: Path, how: dict[str, Any]) -> None:
    """Samples of a page become the channel axis, in either arrangement."""
    array = random_array((6, 7, 3), "uint8")
    stored = np.moveaxis(array, -1, 0) if how else array
    tifffile.imwrite(tmp_path / "colours.tif", stored, photometric="rgb", **how)
    source = open_source(str(tmp_path / "colours.tif"))
    check_source(source, np.moveaxis(array, -1, 0))
    assert [axis.name for axis in source.info.axes] == list("cyx")


def test_users_axes(tmp_path: Path) -> None:
    """The user names the axes of the file, in the file's order."""
    array = random_array((5, 2, 6, 7), "uint8")
    path = str(tmp_path / "stack.tif")
    tifffile.imwrite(path, array, **GREY)
    with pytest.raises(InputError, match=r"the file's axes '..YX' \(5, 2, 6, 7\) are not understood; name them"):
        open_source(path)
    source = open_source(path, SourceOptions(axes="zcyx", spacing=(3.0, 2.0, 1.0), unit="nanometer"))
    check_source(source, array.swapaxes(0, 1))
    assert source.info.space_spacing_um == pytest.approx((0.003, 0.002, 0.001))
    with pytest.raises(InputError, match="axes 'zyx' name 3 axes, and the file has 4"):
        open_source(path, SourceOptions(axes="zyx"))


def test_second_series_is_said(tmp_path: Path) -> None:
    """A file of several images gives the first one."""
    path = str(tmp_path / "two.tif")
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((3, 4, 5), "uint8"), **GREY)
        writer.write(np.zeros((7, 8), "uint8"), **GREY)
    source = open_source(path)
    assert source.info.notes == (f"{path}: holds 2 series; the first is read",)
    check_crosses_processes(source, np.zeros((3, 4, 5), "uint8"))


def test_damaged_files(tmp_path: Path) -> None:
    """No TIFF is an error of the input; a page that cannot be decoded is one of the run."""
    path = tmp_path / "stack.tif"
    path.write_bytes(b"no image at all")
    with pytest.raises(InputError, match="is no TIFF file that can be read"):
        open_source(str(path))
    tifffile.imwrite(path, random_array((3, 40, 40), "uint8"), compression="zlib", **GREY)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        start = file.pages[1].dataoffsets[0]
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    source = open_source(str(path))
    with pytest.raises(RunError, match="a page cannot be read; the file is damaged or cut short"):
        source.read(Region.whole(source.info.shape))


def test_without_tifffile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra."""
    (tmp_path / "stack.tif").touch()
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(InputError, match=r"needs tifffile, which is not installed: pip install 'convolume\[tiff\]'"):
        open_source(str(tmp_path / "stack.tif"))
