"""What other programs write opens here: the same axes, shapes, voxel sizes, places and voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ngff_zarr
import numcodecs
import numpy as np
import ome_zarr.writer
import pytest
import zarr
from ome_zarr.format import FormatV04, FormatV05

import convolume
from convolume.errors import InputError
from convolume.image import Axis
from convolume.regions import Region
from convolume.stores import SourceOptions, open_source
from convolume.testing.stores import SPACING, UNITS, image_info, random_array

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from convolume.stores import Source

# What other programs warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

SHAPES = ((150, 70), (3, 150, 70), (2, 3, 150, 70), (2, 2, 3, 150, 70))
XML = '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"/>'


def whole(source: Source) -> npt.NDArray[Any]:
    """Return all voxels."""
    return source.read(Region.whole(source.info.shape))


def read_strictly(path: Path, level: int = 0) -> Source:
    """Open an image of which no file may be missing."""
    return open_source(str(path), SourceOptions(level=level, missing="error"))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{len(shape)}d")
@pytest.mark.parametrize("format_", [FormatV04(), FormatV05()], ids=["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, format_: Any, shape: tuple[int, ...]) -> None:
    """The reference implementation, with voxel sizes and places; chunks that are not square."""
    array = np.maximum(random_array(shape, "uint16"), 1)
    axes = image_info(array).axes
    steps = (1,) * (len(shape) - 2) + (2, 2)
    levels = [array, array[tuple(slice(None, None, step) for step in steps)]]
    scales = [[a.spacing * s for a, s in zip(axes, steps, strict=True)] for steps in ((1,) * len(shape), steps)]
    moved = {"type": "translation", "translation": [axis.translation for axis in axes]}
    ome_zarr.writer.write_multiscale(
        levels,
        zarr.open_group(tmp_path / "image.zarr", mode="w", zarr_format=format_.zarr_format),
        fmt=format_,
        axes=[axis.name for axis in axes],
        axes_units={axis.name: axis.unit for axis in axes if axis.unit},
        coordinate_transformations=[[{"type": "scale", "scale": scale}, moved] for scale in scales],
        storage_options={"chunks": (1,) * (len(shape) - 2) + (64, 32)},
    )
    for number, level in enumerate(levels):
        source = read_strictly(tmp_path / "image.zarr", number)
        assert source.info.axes[-2:] == tuple(
            Axis(name, "space", "micrometer", 0.5 * (number + 1), 10.0) for name in "yx"
        )
        assert source.info.axes[:-2] == axes[:-2]
        assert source.info.chunks == (1,) * (len(shape) - 2) + (64, 32)
        np.testing.assert_array_equal(whole(source), level)


@pytest.mark.parametrize("format_", [FormatV04(), FormatV05()], ids=["0.4", "0.5"])
def test_ome_zarr_by_its_defaults(tmp_path: Path, format_: Any) -> None:
    """With the pyramid that it makes itself."""
    array = np.maximum(random_array((2, 3, 150, 70), "float32"), 1)
    group = zarr.open_group(tmp_path / "image.zarr", mode="w", zarr_format=format_.zarr_format)
    ome_zarr.writer.write_image(array, group, axes="czyx", fmt=format_)
    np.testing.assert_array_equal(whole(read_strictly(tmp_path / "image.zarr")), array)
    first = read_strictly(tmp_path / "image.zarr", 1)
    assert first.info.shape[-2:] == (75, 35)
    assert [axis.spacing for axis in first.info.axes[-2:]] == [2.0, 2.0]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{len(shape)}d")
@pytest.mark.parametrize(("version", "shards"), [("0.4", None), ("0.5", None), ("0.5", 2)])
def test_ngff_zarr(tmp_path: Path, version: str, shards: int | None, shape: tuple[int, ...]) -> None:
    """A toolkit for conversions, with shards too."""
    array = np.maximum(random_array(shape, "uint16"), 1)
    info = image_info(array)
    names = [axis.name for axis in info.axes]
    units = {name: UNITS[axis.kind] for name, axis in zip(names, info.axes, strict=True) if UNITS[axis.kind]}
    image = ngff_zarr.to_ngff_image(
        array,
        dims=names,
        scale={name: SPACING[name] for name in names},
        translation={axis.name: axis.translation for axis in info.axes},
        axes_units=units,
    )
    factors = {axis.name: 2 if axis.name in "yx" else 1 for axis in info.axes if axis.kind == "space"}
    method = ngff_zarr.Methods.DASK_IMAGE_NEAREST
    levels = ngff_zarr.to_multiscales(image, scale_factors=[factors], method=method, chunks=32)
    path = tmp_path / "image.zarr"
    ngff_zarr.to_ngff_zarr(str(path), levels, version=version, chunks_per_shard=shards)
    source, coarser = read_strictly(path), read_strictly(path, 1)
    assert source.info.axes == info.axes
    assert (source.info.shards is not None) == (shards is not None)
    np.testing.assert_array_equal(whole(source), array)
    assert [axis.spacing for axis in coarser.info.axes[-2:]] == [1.0, 1.0]
    np.testing.assert_array_equal(whole(coarser), np.asarray(levels.images[1].data))


class Bioformats2raw:
    """Its layout, version 3, as its documentation tells it: a group of numbered images, and one of metadata.

    Parameters
    ----------
    path : Path
        Where nothing is.
    zarr_format : int
        2 for OME-Zarr 0.4, as its releases write it, 3 for 0.5.
    """

    def __init__(self, path: Path, zarr_format: int) -> None:
        self.path, self.zarr_format = path, zarr_format
        self.root = zarr.create_group(path, zarr_format=zarr_format)
        self._tell(self.root, {"bioformats2raw.layout": 3})
        self.metadata = self.root.create_group("OME")
        (path / "OME" / "METADATA.ome.xml").write_text(XML, encoding="utf-8")

    def _tell(self, group: zarr.Group, attributes: dict[str, Any]) -> None:
        group.attrs.update(attributes if self.zarr_format == 2 else {"ome": {"version": "0.5", **attributes}})

    def list_series(self, *names: str) -> None:
        """Say which images there are; releases before 0.5 did not."""
        self._tell(self.metadata, {"series": list(names)})

    def add(self, name: str, array: npt.NDArray[Any]) -> None:
        """Write an image of five axes: two levels, voxels in Java's byte order."""
        group = self.root.create_group(name)
        for level, voxels in enumerate((array, array[..., ::2, ::2])):
            codecs: dict[str, Any] = {"compressors": numcodecs.Blosc("lz4")} if self.zarr_format == 2 else {}
            separator: Any = {"name": "v2" if self.zarr_format == 2 else "default", "separator": "/"}
            stored = voxels.astype(voxels.dtype.newbyteorder(">")) if self.zarr_format == 2 else voxels
            group.create_array(
                str(level), data=stored, chunks=(1, 1, 1, 64, 64), chunk_key_encoding=separator, **codecs
            )
        axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
        axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
        datasets = [
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 2.0, 0.5 * factor, 0.5 * factor]}],
            }
            for level, factor in enumerate((1, 2))
        ]
        metadata = {"method": "loci.common.image.SimpleImageScaler", "version": "Bio-Formats 8.1.1"}
        image = {"metadata": metadata, "axes": axes, "name": name, "datasets": datasets, "version": "0.4"}
        window = {"start": 0.0, "end": 65535.0, "min": 0.0, "max": 65535.0}
        channels = [
            {"color": color, "coefficient": 1, "active": True, "label": label, "window": window, "family": "linear"}
            for label, color in (("DAPI", "0000FF"), ("GFP", "00FF00"))
        ]
        self._tell(group, {"multiscales": [image], "omero": {"channels": channels, "rdefs": {"model": "color"}}})


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_one_series(tmp_path: Path, zarr_format: int, is_listed: bool) -> None:  # noqa: FBT001 - the case
    """Its root is the image; so is its folder."""
    array = np.maximum(random_array((1, 2, 3, 150, 70), "uint16"), 1)
    layout = Bioformats2raw(tmp_path / "slide.zarr", zarr_format)
    layout.add("0", array)
    if is_listed:
        layout.list_series("0")
    for path in (layout.path, layout.path / "0"):
        source = read_strictly(path)
        assert source.path == str(layout.path / "0")
        np.testing.assert_array_equal(whole(source), array)
        assert source.info.space_spacing_um == (2.0, 0.5, 0.5)
        assert [channel.name for channel in source.info.channels] == ["DAPI", "GFP"]
        np.testing.assert_array_equal(whole(read_strictly(path, 1)), array[..., ::2, ::2])
    part = convolume.Volume.open(str(layout.path), channel="GFP").compute()
    np.testing.assert_array_equal(part, array[:, 1:])


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_several_series(tmp_path: Path, zarr_format: int, is_listed: bool) -> None:  # noqa: FBT001 - the case
    """They are named, as they are listed or by their numbers; each opens."""
    array = np.maximum(random_array((1, 2, 3, 15, 7), "uint8"), 1)
    layout = Bioformats2raw(tmp_path / "slide.zarr", zarr_format)
    names = ["0", "1", "10", "2"]
    for number, name in enumerate(names):
        layout.add(name, array + np.uint8(number))
    if is_listed:
        layout.list_series(*names)
    told = names if is_listed else sorted(names, key=int)
    with pytest.raises(InputError) as refusal:
        open_source(str(layout.path))
    paths = ", ".join(f"{layout.path}/{name}" for name in told)
    assert str(refusal.value) == (
        f"{layout.path}: is a bioformats2raw series of 4 images; write the path of one of them: {paths}"
    )
    np.testing.assert_array_equal(whole(read_strictly(layout.path / "10")), array + 2)
