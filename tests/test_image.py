"""What is known of an image without reading a voxel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.image import MICROMETRES_PER_UNIT, Axis, ImageInfo, default_axes
from convolume.testing.strategies import shapes


@given(shapes(max_dims=5), st.sampled_from(["uint8", "int16", "float32", "float64"]))
def test_sizes_follow_from_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    """Voxels, bytes and space axes."""
    image = ImageInfo(shape, dtype, default_axes(len(shape)))
    assert image.size_bytes == image.size_voxels * int(dtype[-2:].strip("t")) // 8
    assert image.ndim == len(shape) == len(image.axes)
    assert image.space_axes == tuple(range(max(0, len(shape) - 3), len(shape)))
    assert image.with_(dtype="int8").size_bytes == image.size_voxels


def test_very_large_images_are_counted_exactly() -> None:
    """80 PB do not overflow an integer."""
    image = ImageInfo((10, 4, 100_000, 100_000, 100_000), "uint16", default_axes(5))
    assert image.size_bytes == 80 * 10**15


@given(st.sampled_from(sorted(MICROMETRES_PER_UNIT)), st.floats(1e-3, 1e3))
def test_voxel_sizes_are_told_in_micrometres(unit: str, spacing: float) -> None:
    """Only space axes have one."""
    space = Axis("z", "space", unit, spacing)
    assert space.spacing_um == pytest.approx(spacing * MICROMETRES_PER_UNIT[unit])
    time = Axis("t", "time", "second", spacing)
    image = ImageInfo((2, 3), "uint8", (time, space))
    assert image.space_spacing_um == (space.spacing_um,)
    assert time.spacing_um is None


def test_an_unknown_unit_gives_no_voxel_size() -> None:
    """A guess would be worse than none."""
    assert Axis("z", "space", None, 2.0).spacing_um is None
    assert Axis("z", "space", "pixel", 2.0).spacing_um is None


def test_axes_without_names_are_the_last_of_five() -> None:
    """Out of (t, c, z, y, x)."""
    assert [axis.name for axis in default_axes(4)] == ["c", "z", "y", "x"]
    assert [axis.kind for axis in default_axes(4)] == ["channel", "space", "space", "space"]
    assert default_axes(2, "micrometer")[0].spacing_um == 1.0
