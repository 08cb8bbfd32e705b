"""Series of images in files of their own, by a pattern."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3
import numpy as np
import pytest
import tifffile

import convolume
from convolume.errors import InputError, RunError
from convolume.regions import Region
from convolume.stores import SourceOptions, memory, open_source
from convolume.stores._decoded import PIECES
from convolume.stores.image_series import _opened
from convolume.testing.stores import check_crosses_processes, check_source, random_array

if TYPE_CHECKING:
    import numpy.typing as npt


def write(folder: Path, array: npt.NDArray[Any], name: str = "plane{}.png") -> None:
    """Write each plane of an array as a file."""
    for number, plane in enumerate(array):
        imageio.v3.imwrite(folder / name.format(number), plane)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_planes_in_the_natural_order(tmp_path: Path, ending: str) -> None:
    """The tenth comes after the ninth, not after the first."""
    array = random_array((12, 6, 7), "uint8")
    write(tmp_path, array, "plane{}." + ending)
    source = open_source(str(tmp_path / "plane*"))
    check_source(source, array)
    check_crosses_processes(source, array)
    assert [axis.name for axis in source.info.axes] == list("zyx")
    assert source.info.space_spacing_um == (None, None, None)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16"])
def test_dtypes_of_png(tmp_path: Path, dtype: str) -> None:
    """Bits are kept as they are stored."""
    array = random_array((3, 6, 7), dtype)
    write(tmp_path, array)
    check_source(open_source(str(tmp_path / "*.png")), array)


def test_colours_are_channels(tmp_path: Path) -> None:
    """They come first, as in all images here."""
    array = random_array((4, 6, 7, 3), "uint8")
    write(tmp_path, array)
    source = open_source(str(tmp_path / "*.png"))
    check_source(source, np.moveaxis(array, -1, 0))
    assert [axis.name for axis in source.info.axes] == list("czyx")
    assert [(each.name, each.color) for each in source.info.channels] == [
        ("red", "FF0000"),
        ("green", "00FF00"),
        ("blue", "0000FF"),
    ]
    assert open_source(str(tmp_path / "*.png"), SourceOptions(channel="green")).info.shape == (1, 4, 6, 7)


def test_the_user_names_axes_and_voxel_size(tmp_path: Path) -> None:
    """A series in time, of images along other axes."""
    array = random_array((4, 6, 7), "uint8")
    write(tmp_path, array)
    source = open_source(str(tmp_path / "*.png"), SourceOptions(axes="tyx", spacing=(0.5, 0.25), unit="micrometer"))
    check_source(source, array)
    assert [axis.name for axis in source.info.axes] == list("tyx")
    assert source.info.space_spacing_um == (0.5, 0.25)
    turned = open_source(str(tmp_path / "*.png"), SourceOptions(axes="xzy"))
    check_source(turned, array.transpose(1, 2, 0))


def test_one_image_is_a_series_of_one(tmp_path: Path) -> None:
    """The pattern says that it is a series."""
    array = random_array((1, 6, 7), "uint16")
    write(tmp_path, array)
    check_source(open_source(str(tmp_path / "p*.png")), array)


def test_a_run_filters_a_series(tmp_path: Path) -> None:
    """As it filters the volume; the plan says that whole images are decoded."""
    array = random_array((9, 20, 30), "uint8")
    write(tmp_path, array)
    memory.put("series", array)
    results, decoded = [], []
    for number, path in enumerate([str(tmp_path / "plane*.png"), "memory:series"]):
        workflow = {
            "input": {"path": path},
            "outputs": {
                "mean": {"path": f"memory:mean {number}", "steps": [{"box": {"size": 3}}], "chunks": [4, 8, 8]}
            },
            "block": [4, 8, 16],
        }
        plan = convolume.plan(workflow, overrides=["device=numpy"])
        decoded.append(PIECES.decoded_count)  # the plan has probed the images
        convolume.run(workflow, overrides=["device=numpy"])
        decoded.append(PIECES.decoded_count)
        results.append(memory.get(f"mean {number}"))
        memory.drop(f"mean {number}")
        # Images that neighbours share are kept: in the plan and in the run.
        assert plan.bytes_decoded == (array.nbytes if number == 0 else plan.bytes_read)
    assert decoded[1] - decoded[0] == len(array)
    memory.drop("series")
    np.testing.assert_array_equal(*results)


def refused(path: Path, message: str) -> None:
    """Check what is said of a pattern."""
    with pytest.raises(InputError) as caught:
        open_source(str(path))
    assert str(caught.value).replace(f"{path.parent}/", "") == message


def test_a_pattern_that_matches_nothing(tmp_path: Path) -> None:
    """Says so."""
    message = "*.png: matches no file; give the pattern of a series of images, such as slices/*.tif"
    refused(tmp_path / "*.png", message)


def test_images_of_different_sizes(tmp_path: Path) -> None:
    """Name the two files, before a voxel is read."""
    write(tmp_path, random_array((2, 6, 7), "uint8"))
    imageio.v3.imwrite(tmp_path / "plane2.png", random_array((6, 8), "uint8"))
    message = (
        "*.png: images of a series are alike, and plane0.png has uint8 (6, 7), plane2.png has uint8 (6, 8); give a "
        "pattern that matches one of them"
    )
    refused(tmp_path / "*.png", message)


def test_files_that_hold_volumes(tmp_path: Path) -> None:
    """Are no planes of one."""
    tifffile.imwrite(tmp_path / "a.tif", random_array((5, 6, 7), "uint8"), photometric="minisblack")
    message = "a.tif: holds an image of (5, 6, 7); each file of the series *.tif is to hold one of (y, x)"
    refused(tmp_path / "*.tif", message)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    """Are named."""
    write(tmp_path, random_array((2, 6, 7), "uint8"))
    (tmp_path / "plane1.png").write_text("not an image")
    with pytest.raises(InputError, match=r"plane1\.png: is no image that can be read \("):
        open_source(str(tmp_path / "*.png"))


def test_files_that_change_during_a_run(tmp_path: Path) -> None:
    """A file that is cut short, or one more, is an error of the run."""
    write(tmp_path, random_array((3, 60, 70), "uint8"))
    pattern = str(tmp_path / "*.png")
    source = open_source(pattern)
    file = tmp_path / "plane1.png"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(RunError, match=r"plane1\.png: cannot be read; the file is damaged or cut short \("):
        source.read(Region.whole(source.info.shape))
    source = open_source(pattern)
    imageio.v3.imwrite(tmp_path / "plane3.png", random_array((60, 70), "uint8"))
    _opened.cache_clear()
    with pytest.raises(RunError, match="matches other files than when the run began"):
        source.read(Region.whole(source.info.shape))


def test_identity_is_that_of_the_files_of_a_region(tmp_path: Path) -> None:
    """In the order of the series."""
    write(tmp_path, random_array((12, 6, 7), "uint8"))
    source = open_source(str(tmp_path / "*.png"))
    names = [Path(file).name for file in source.files(Region((8, 0, 0), (11, 6, 7)))]
    assert names == ["plane8.png", "plane9.png", "plane10.png"]


def test_a_file_with_a_pattern_for_a_name_is_itself(tmp_path: Path) -> None:
    """Brackets may stand in names."""
    array = random_array((3, 6, 7), "uint8")
    tifffile.imwrite(tmp_path / "stack[1].tif", array, photometric="minisblack")
    check_source(open_source(str(tmp_path / "stack[1].tif")), array)
