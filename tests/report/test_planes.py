"""Planes: which voxels a picture shows, and where they lie."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.errors import InputError
from convolume.image import Axis, ImageInfo, default_axes
from convolume.report import planes
from convolume.report.planes import plane_of, read_plane, rows_go_up
from convolume.stores import Source

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.regions import Region


class Counting(Source):
    """An array that counts the voxels read of it."""

    path = "counting"

    def __init__(self, array: npt.NDArray[Any]) -> None:
        """Take an array with the usual axes."""
        self.array, self.largest_read = array, 0
        self.info = ImageInfo(array.shape, str(array.dtype), default_axes(array.ndim))

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return voxels, and remember the largest wish."""
        self.largest_read = max(self.largest_read, region.size_voxels)
        return self.array[region.slices]

    def signature(self) -> str:
        """Return its name."""
        return self.path


def info(shape: tuple[int, ...], **changes: Any) -> ImageInfo:
    """Return an image of this shape."""
    return ImageInfo(shape, "uint8", default_axes(len(shape), "micrometer")).with_(**changes)


@given(st.data())
def test_a_plane_is_what_indexing_gives(data: st.DataObject) -> None:
    """Any axes across, any crop; what is not named lies in the middle, or at 0 for time and channels."""
    ndim = data.draw(st.integers(2, 5))
    shape = tuple(data.draw(st.integers(1, 5)) for _ in range(ndim))
    image = Counting(np.arange(np.prod(shape)).reshape(shape))
    names = [axis.name for axis in image.info.axes]
    across = data.draw(st.sets(st.sampled_from(names[:-2] or ["none"]), max_size=ndim - 2)) & set(names)
    position = {name: data.draw(st.integers(0, shape[names.index(name)] - 1)) for name in across}
    crop = {}
    for name in ("y", "x"):
        start = data.draw(st.integers(0, shape[names.index(name)] - 1))
        crop[name] = (start, data.draw(st.integers(start + 1, shape[names.index(name)])))
    middle = {"z": shape[names.index("z")] // 2} if "z" in names else {}
    where = {"t": 0, "c": 0, **middle, **position}
    index = tuple(where[name] if name not in crop else slice(*crop[name]) for name in names)
    found = read_plane(image, plane_of(image.info, position, crop))
    np.testing.assert_array_equal(found, image.array[index])


@pytest.mark.parametrize(
    ("across", "names", "where"),
    [
        ({"z": 1}, ("y", "x"), "z = 1"),
        ({"y": 2}, ("z", "x"), "y = 2"),
        ({"x": 0}, ("z", "y"), "x = 0"),
        ({}, ("y", "x"), "z = 2"),
    ],
)
def test_the_other_axes_are_shown(across: dict[str, int], names: tuple[str, str], where: str) -> None:
    """Rows are the axis that comes first."""
    plane = plane_of(info((4, 5, 6)), across, {})
    assert (plane.names, plane.where) == (names, where)


def test_edges_are_half_a_voxel_outside_in_the_images_unit() -> None:
    """Spacing and translation count, and so does the crop's offset; the unit is that of the columns."""
    axes = (Axis("z", "space", "micrometer", 2000.0, 10_000.0), Axis("x", "space", "millimeter", 0.5, 3.0))
    plane = plane_of(info((10, 20), axes=axes), {}, {"z": (2, 4)})
    assert plane.extent == pytest.approx((2.75, 12.75, 13.0, 17.0))
    assert plane.unit == "mm"
    assert plane.height_over_width == pytest.approx(0.4)


def test_an_unknown_voxel_size_counts_voxels() -> None:
    """One unknown axis is enough: two scales cannot be compared."""
    axes = (Axis("y", "space", "micrometer", 3.0), Axis("x", "space", None, 7.0))
    plane = plane_of(info((2, 4), axes=axes), {}, {})
    assert (plane.extent, plane.unit) == ((-0.5, 3.5, -0.5, 1.5), "voxels")


def test_a_large_plane_is_thinned_and_read_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third row and every second column; never more than a band at once."""
    monkeypatch.setattr(planes, "_MOST_PIXELS", 10)
    monkeypatch.setattr(planes, "_BAND_VOXELS", 130)
    image = Counting(np.arange(29 * 20).reshape(29, 20))
    found = read_plane(image, plane_of(image.info, {}, {}))
    np.testing.assert_array_equal(found, image.array[::3, ::2])
    assert image.largest_read <= 130


@pytest.mark.parametrize(
    ("shape", "position", "crop", "message"),
    [
        ((4, 5, 6), {"q": 1}, {}, "the image has no axis 'q' (there are: z, y, x)"),
        ((4, 5, 6), {"z": 4}, {}, "position 4 on axis 'z' lies outside the image, which has 0 to 4"),
        ((4, 5, 6), {}, {"x": (3, 7)}, "3 to 7 on axis 'x' lies outside the image, which has 0 to 6"),
        (
            (4, 5, 6),
            {},
            {"z": (0, 2)},
            "axis 'z' is cropped, and the plane does not show it: name its position in `plane:`",
        ),
        ((4, 5, 6), {"z": 1, "y": 1}, {}, "a plane shows two space axes, and of (z, y, x) across z, y there are 1"),
        ((6,), {}, {}, "a plane shows two space axes, and of (x) across no axis there are 1"),
    ],
)
def test_what_is_not_there_is_told(
    shape: tuple[int, ...], position: dict[str, int], crop: dict[str, tuple[int, int]], message: str
) -> None:
    """Each mistake with what there is instead."""
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        plane_of(info(shape), position, crop)


def test_rows_go_up_where_a_scanner_counts_upwards() -> None:
    """RAS rows go up, LPS rows of y go down, and without an affine all rows go down."""
    ras = np.diag([1.0, 1.0, 1.0, 1.0]).tolist()
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]).tolist()
    assert [rows_go_up(ras, name) for name in "zyt"] == [True, True, False]
    assert [rows_go_up(lps, name) for name in "zy"] == [True, False]
    assert not rows_go_up(None, "y")
