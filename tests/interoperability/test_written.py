"""What is written here other programs open: the same axes, shapes, voxel sizes, places and voxels.

None of them knows more of an image than its own model holds: each is asked for all of that.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import dask.array
import napari_builtins.io
import napari_ome_zarr
import ngff_zarr
import numpy as np
import pytest
import tensorstore
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

import convolume
from convolume.image import Channel
from convolume.regions import Region
from convolume.stores import SinkOptions, SourceOptions, create_sink, memory, open_source
from convolume.testing.stores import image_info, random_array

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from convolume.image import ImageInfo
    from convolume.stores import Format

# What other programs warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

SHAPES = ((150, 70), (3, 150, 70), (2, 3, 150, 70), (2, 2, 3, 150, 70))
IMAGES = ("ome-zarr", "ome-zarr-0.4")
CHANNELS = (Channel("DAPI", "0000FF"), Channel("GFP", "00FF00"))
IN_PROCESS = {"cluster": "in_process", "device": "numpy"}


class Written:
    """An output of a run, a copy, and what it was made of."""

    def __init__(self, path: Path, shape: tuple[int, ...], format_: Format) -> None:
        self.path = str(path / "copy.zarr")
        self.array = random_array(shape, "uint16")
        info = image_info(self.array)
        self.info: ImageInfo = info.with_(channels=CHANNELS if "c" in [axis.name for axis in info.axes] else ())
        memory.put("interoperability", self.array, self.info)
        outputs = {"copy": {"path": self.path, "format": format_}}
        convolume.run({"input": {"path": "memory:interoperability"}, "outputs": outputs}, config=IN_PROCESS)
        memory.drop("interoperability")
        # What a sink says of its levels is compared with what others find.
        self.levels = create_sink(self.path, self.info).levels

    def values(self, field: str, level: int = 0, *, without: str = "") -> list[Any]:
        """Return a field of all axes but one kind."""
        return [getattr(axis, field) for axis in self.levels[level].axes if axis.kind != without]


@pytest.fixture(params=[*product(IMAGES, SHAPES)], ids=lambda case: f"{case[0]}-{len(case[1])}d")
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    """Write an OME-Zarr."""
    format_, shape = request.param
    return Written(tmp_path, shape, format_)


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{len(shape)}d")
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    """Write a plain array."""
    return Written(tmp_path, request.param, "zarr")


def _level(image: Written, number: int) -> npt.NDArray[Any]:
    """Return the voxels of a level as they are read here; the finest as they were made."""
    if number == 0:
        return image.array
    source = open_source(image.path, SourceOptions(level=number))
    assert source.info.shape == image.levels[number].shape
    return source.read(Region.whole(source.info.shape))


def assert_voxels(levels: list[Any], image: Written) -> None:
    """Compare the voxels of all levels."""
    for number, voxels in enumerate(levels):
        np.testing.assert_array_equal(np.asarray(voxels), _level(image, number))
    assert len(levels) == len(image.levels) > 1


def test_ome_zarr(image: Written) -> None:
    """The reference implementation."""
    (node,) = Reader(parse_url(image.path))()
    assert [axis["name"] for axis in node.metadata["axes"]] == image.values("name")
    assert [axis["type"] for axis in node.metadata["axes"]] == image.values("kind")
    assert [axis.get("unit") for axis in node.metadata["axes"]] == image.values("unit")
    for level, (scale, translation) in enumerate(node.metadata["coordinateTransformations"]):
        assert scale == {"type": "scale", "scale": image.values("spacing", level)}
        assert translation == {"type": "translation", "translation": image.values("translation", level)}
    names = [channel.name for channel in image.info.channels] or ["Channel 0"]
    assert node.metadata["channel_names"] == names
    assert_voxels(node.data, image)


def test_ngff_zarr(image: Written) -> None:
    """A toolkit for conversions, with its validator on."""
    found = ngff_zarr.from_ngff_zarr(image.path, validate=True)
    for level, each in enumerate(found.images):
        assert list(each.dims) == image.values("name")
        assert [each.scale[dim] for dim in each.dims] == image.values("spacing", level)
        assert [each.translation[dim] for dim in each.dims] == image.values("translation", level)
        assert [each.axes_units[dim] for dim in each.dims] == image.values("unit", level)
    assert_voxels([each.data for each in found.images], image)


def _layers(path: str) -> list[tuple[list[Any], dict[str, Any]]]:
    """Return what napari shows, a layer a channel; releases differ in who splits them."""
    reader = napari_ome_zarr.napari_get_reader(path)
    assert reader is not None
    found = reader(path)
    assert {kind for _, _, kind in found} == {"image"}
    layers = []
    for levels, told, _ in found:
        axis = told.get("channel_axis")
        names = [told["name"]] if axis is None else told["name"]
        for channel, name in enumerate(names):
            voxels = [np.asarray(level) if axis is None else np.take(level, channel, axis) for level in levels]
            layers.append((voxels, {**told, "name": name}))
    return layers


def test_napari(image: Written) -> None:
    """The reader of the viewer: a layer for each channel; it takes voxel sizes, and no translations."""
    names = image.values("name")
    axis = names.index("c") if "c" in names else None
    layers = _layers(image.path)
    channels = [channel.name for channel in image.info.channels] or ["Channel 0"]
    assert [told["name"].rpartition(": ")[2] for _, told in layers] == channels
    for channel, (levels, told) in enumerate(layers):
        assert list(told["axis_labels"]) == image.values("name", without="channel")
        assert list(told["units"]) == image.values("unit", without="channel")
        assert list(told["scale"]) == image.values("spacing", without="channel")
        expected = [_level(image, number) for number in range(len(image.levels))]
        for voxels, whole in zip(levels, expected, strict=True):
            np.testing.assert_array_equal(voxels, whole if axis is None else np.take(whole, channel, axis))


def _zarr_python(path: str) -> npt.NDArray[Any]:
    return np.asarray(zarr.open_array(path, mode="r"))


def _tensorstore(path: str) -> npt.NDArray[Any]:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    array: npt.NDArray[Any] = tensorstore.open(spec).result().read().result()
    return array


def _dask(path: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = dask.array.from_zarr(path).compute()
    return array


def _napari(path: str) -> npt.NDArray[Any]:
    reader = napari_builtins.io.napari_get_reader(path)
    assert reader is not None
    ((array, *_),) = reader(path)
    return np.asarray(array)


def _ngff_zarr(path: str) -> npt.NDArray[Any]:
    array = zarr.open_array(path, mode="r")
    return np.asarray(ngff_zarr.to_ngff_image(array, dims=array.metadata.dimension_names).data)


@pytest.mark.parametrize("read", [_zarr_python, _tensorstore, _dask, _napari, _ngff_zarr])
def test_plain_arrays(plain: Written, read: Any) -> None:
    """Whatever reads Zarr."""
    np.testing.assert_array_equal(read(plain.path), plain.array)
    assert list(zarr.open_array(plain.path, mode="r").metadata.dimension_names) == plain.values("name")


@pytest.mark.parametrize("format_", [*IMAGES, "zarr"])
def test_what_is_not_finished(tmp_path: Path, format_: Format) -> None:
    """None of them takes it for an image."""
    path = str(tmp_path / "new.zarr")
    array = random_array((3, 150, 70), "uint16")
    sink = create_sink(path, image_info(array), SinkOptions(format=format_))
    sink.create()
    sink.write(0, Region.whole(array.shape), array)
    assert not [node for node in Reader(parse_url(path))() if node.data]
    with pytest.raises(Exception, match=r"(?i)multiscale|metadata|ome"):
        ngff_zarr.from_ngff_zarr(path)
    reader = napari_ome_zarr.napari_get_reader(path)
    assert reader is None or not reader(path)
