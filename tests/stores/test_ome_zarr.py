"""OME-Zarr: what others wrote is read, what is written others read, and refusals say what to do."""

from __future__ import annotations

import json
import multiprocessing
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import yaozarrs
import zarr

from convolume.errors import InputError, RunError
from convolume.image import Axis, Channel, ImageInfo, default_axes
from convolume.regions import BlockGrid, Region
from convolume.stores import Format, SinkOptions, Source, SourceOptions, create_sink, open_source
from convolume.testing.stores import image_info, random_array

if TYPE_CHECKING:
    import numpy.typing as npt

WINDOW = (0.0, 65535.0, 10.0, 300.0)


def _write(path: Path, array: npt.NDArray[Any], options: SinkOptions | None = None, **info: Any) -> str:
    """Write an array as a finished image; its lower levels are subsampled."""
    sink = create_sink(str(path), image_info(array).with_(**info), options)
    sink.check()
    sink.create()
    for number, level in enumerate(sink.levels):
        steps = tuple(slice(None, None, -(-n // m)) for n, m in zip(array.shape, level.shape, strict=True))
        voxels = np.ascontiguousarray(array[steps])
        for _, region in BlockGrid(level.shape, level.shards or level.chunks or level.shape):
            sink.write(number, region, voxels[region.slices])
    sink.finish({"versions": {"convolume": "0"}}, (WINDOW,) * len(info.get("channels", ("one",))))
    return str(path)


def _whole(source: Source) -> npt.NDArray[Any]:
    return source.read(Region.whole(source.info.shape))


def _group(path: Path, attributes: dict[str, Any], members: tuple[str, ...] = ()) -> str:
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    for member in members:
        group.create_group(member)
    return str(path)


def test_reads_version_4(tmp_path: Path) -> None:
    """Axes, units, omero channels and both places of transformations, from a Zarr v2 group."""
    array = random_array((2, 4, 6, 8), "int16")
    group = zarr.create_group(tmp_path / "old.zarr", zarr_format=2)
    group.create_array("full", data=array.astype(">i2"), chunks=(1, 2, 3, 4))
    group.create_array("half", data=array[:, :, ::2, ::2], chunks=(1, 2, 3, 4))
    axes = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": "c", "type": "channel"}, *axes],
            "datasets": [
                {"path": "full", "coordinateTransformations": [{"type": "scale", "scale": [1, 2, 1, 1]}]},
                {
                    "path": "half",
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [1, 2, 2, 2]},
                        {"type": "translation", "translation": [0, 0, 0.5, 0.5]},
                    ],
                },
            ],
            "coordinateTransformations": [
                {"type": "scale", "scale": [1, 10, 10, 10]},
                {"type": "translation", "translation": [0, 0, 7, 0]},
            ],
        }
    ]
    group.attrs["omero"] = {"channels": [{"label": "DAPI", "color": "#0000ff"}, {"label": "GFP", "color": "green"}]}
    full = open_source(str(tmp_path / "old.zarr"))
    np.testing.assert_array_equal(_whole(full), array)
    assert full.info.channels == (Channel("DAPI", "0000FF"), Channel("GFP", "FFFFFF"))
    assert full.info.space_spacing_um == pytest.approx((0.02, 0.01, 0.01))
    assert (full.info.dtype, full.info.chunks, full.info.shards) == ("int16", (1, 2, 3, 4), None)
    half = open_source(str(tmp_path / "old.zarr"), SourceOptions(level=1))
    np.testing.assert_array_equal(_whole(half), array[:, :, ::2, ::2])
    assert half.info.axes[2] == Axis("y", "space", "nanometer", 20.0, 12.0)


@pytest.mark.parametrize("filters", ["delta", "zstd checksum"])
def test_reads_what_tensorstore_refuses(tmp_path: Path, filters: str) -> None:
    """Filters and checksums of Zarr v2 are zarr-python's."""
    from numcodecs import Delta, Zstd  # noqa: PLC0415  # zarr-python's own codecs, for this test only

    array = random_array((5, 6, 7), "uint16")
    group = zarr.create_group(tmp_path / "old.zarr", zarr_format=2)
    codecs = {"filters": [Delta(dtype="u2")]} if filters == "delta" else {"compressors": Zstd(checksum=True)}
    group.create_array("0", data=array, chunks=(2, 3, 4), **codecs)
    group.attrs["multiscales"] = [{"axes": list("zyx"), "datasets": [{"path": "0"}]}]
    source = open_source(str(tmp_path / "old.zarr"))
    np.testing.assert_array_equal(_whole(source), array)
    assert [axis.kind for axis in source.info.axes] == ["space"] * 3


@pytest.mark.parametrize("shards", [None, (1, 8, 128, 128)])
def test_others_read_what_is_written(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    """A validator finds nothing, and zarr-python has the same voxels, shards or not."""
    array = random_array((2, 5, 300, 160), "uint16")
    channels = (Channel("DAPI", "0000FF"), Channel("GFP", "00FF00"))
    options = SinkOptions(chunks=(1, 4, 64, 64), shards=shards)
    path = _write(tmp_path / "new.ome.zarr", array, options, channels=channels)
    yaozarrs.validate_zarr_store(path)
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(np.asarray(group["0"]), array)
    assert group["0"].shards == shards
    assert group["0"].metadata.dimension_names == ("c", "z", "y", "x")
    ome = group.attrs["ome"]
    assert ome["multiscales"][0]["type"] == "mean"
    assert ome["omero"]["channels"][1] == {
        "label": "GFP",
        "color": "00FF00",
        "active": True,
        "window": {"min": 0.0, "max": 65535.0, "start": 10.0, "end": 300.0},
    }
    assert group.attrs["convolume"]["versions"] == {"convolume": "0"}


def test_version_4_is_written(tmp_path: Path) -> None:
    """Zarr v2 groups and arrays with nested chunks; a validator finds nothing, and all that 0.5 has is there."""
    array = random_array((2, 5, 300, 160), "uint16")
    channels = (Channel("DAPI", "0000FF"), Channel("GFP", "00FF00"))
    options = SinkOptions(chunks=(1, 4, 64, 64), format="ome-zarr-0.4")
    path = Path(_write(tmp_path / "old.ome.zarr", array, options, channels=channels))
    newer = _write(tmp_path / "new.ome.zarr", array, replace(options, format="ome-zarr"), channels=channels)
    yaozarrs.validate_zarr_store(str(path))
    group = zarr.open_group(path, mode="r", zarr_format=2)
    np.testing.assert_array_equal(np.asarray(group["0"]), array)
    assert (group["0"].metadata.dimension_separator, group["0"].fill_value) == ("/", 0)
    assert group["0"].attrs["_ARRAY_DIMENSIONS"] == ["c", "z", "y", "x"]
    assert (path / "0" / "1" / "1" / "4" / "2").is_file()
    ome = zarr.open_group(newer, mode="r").attrs["ome"]
    (image,) = ome["multiscales"]
    written = dict(group.attrs)
    assert written.pop("multiscales") == [{**image, "version": "0.4", "name": "old"}]
    assert written.pop("omero") == ome["omero"]
    assert written == {"convolume": {"finished": True, "versions": {"convolume": "0"}}}
    first, second = open_source(str(path), SourceOptions(level=1)), open_source(newer, SourceOptions(level=1))
    assert first.info == second.info


def test_version_4_has_no_shards(tmp_path: Path) -> None:
    """They are refused where they are named, and else there are none, however many chunks there are."""
    options = SinkOptions(format="ome-zarr-0.4")
    path, large = str(tmp_path / "old.zarr"), ImageInfo((5000, 5000, 5000), "uint8", default_axes(3))
    assert create_sink(path, large, SinkOptions()).write_unit == (256, 256, 256)
    assert create_sink(path, large, options).write_unit == (128, 128, 128)
    message = (
        r"old\.zarr: shards \(128, 128, 128\): this format has none, each chunk is a file of its own; leave `shards` "
        "out, or write `format: ome-zarr`"
    )
    with pytest.raises(InputError, match=message):
        create_sink(path, large, replace(options, shards=(128, 128, 128)))


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_ome_zarr_opens_what_is_written(tmp_path: Path) -> None:
    """The reference library sees the same axes, voxel sizes and places."""
    from ome_zarr.io import parse_url  # noqa: PLC0415  # it takes seconds to import
    from ome_zarr.reader import Reader  # noqa: PLC0415

    array = random_array((2, 5, 300, 160), "uint16")
    path = _write(tmp_path / "new.ome.zarr", array, channels=(Channel("DAPI", "0000FF"), Channel("GFP", "00FF00")))
    node = next(iter(Reader(parse_url(path))()))
    assert [axis["name"] for axis in node.metadata["axes"]] == ["c", "z", "y", "x"]
    assert node.metadata["coordinateTransformations"][1] == [
        {"type": "scale", "scale": [1.0, 2.0, 1.0, 1.0]},
        {"type": "translation", "translation": [0.0, 10.0, 10.25, 10.25]},
    ]
    assert [level.shape for level in node.data] == [(2, 5, 300, 160), (2, 5, 150, 80), (2, 5, 75, 40)]
    np.testing.assert_array_equal(np.asarray(node.data[0]), array)


@pytest.mark.parametrize("format_", ["ome-zarr", "ome-zarr-0.4"])
def test_unfinished_does_not_open_elsewhere(tmp_path: Path, format_: Format) -> None:
    """Arrays without the group's metadata are no image to a validator."""
    sink = create_sink(str(tmp_path / "new.zarr"), image_info(np.zeros((4, 5), "uint8")), SinkOptions(format=format_))
    sink.create()
    with pytest.raises(ValueError, match="Is this an OME-Zarr group"):
        yaozarrs.validate_zarr_store(str(tmp_path / "new.zarr"))


@pytest.mark.parametrize("shards", [None, (8, 8, 8)])
def test_any_flipped_bit_is_noticed(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    """Every chunk carries a checksum, and so does a shard's index."""
    array = random_array((8, 8, 8), "uint16")
    path = _write(tmp_path / "new.zarr", array, SinkOptions(chunks=(4, 4, 4), shards=shards))
    files = [file for file in Path(path, "0", "c").rglob("*") if file.is_file()]
    assert len(files) == (1 if shards else 8)
    random = np.random.default_rng(1)
    for position in random.integers(0, files[0].stat().st_size, 40):
        data = bytearray(files[0].read_bytes())
        data[position] ^= 1 << int(random.integers(8))
        intact = files[0].read_bytes()
        files[0].write_bytes(data)
        with pytest.raises(RunError, match="cannot be read; the file is damaged"):
            _whole(open_source(path))
        files[0].write_bytes(intact)
    np.testing.assert_array_equal(_whole(open_source(path)), array)


@pytest.mark.parametrize("format_", get_args(Format))
def test_negative_zero_is_kept(tmp_path: Path, format_: Format) -> None:
    """A chunk of -0.0 is no empty chunk."""
    path = _write(tmp_path / "new.zarr", np.full((4, 4), -0.0, "float32"), SinkOptions(format=format_))
    assert np.signbit(_whole(open_source(path))).all()


def _read_in_fork(path: str, queue: Any) -> None:
    queue.put(int(_whole(open_source(path)).sum()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_reads_after_fork(tmp_path: Path) -> None:
    """A process that was forked after tensorstore was used reads by other means."""
    array = random_array((9, 8, 7), "uint8")
    path = _write(tmp_path / "new.zarr", array)
    assert _whole(open_source(path)).sum() == array.sum()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_read_in_fork, args=(path, queue))
    process.start()
    assert queue.get(timeout=60) == array.sum()
    process.join(60)
    assert process.exitcode == 0


def test_sees_an_image_that_replaced_another(tmp_path: Path) -> None:
    """What this process decoded of the old one is not shown for the new one."""
    for value in (1, 2):
        options = SinkOptions(if_exists="overwrite")
        path = _write(tmp_path / "new.zarr", np.full((8, 8), value, "uint8"), options)
        assert (_whole(open_source(path)) == value).all()


def test_misaligned_writer_is_refused(tmp_path: Path) -> None:
    """Two writers of one shard would lose voxels without an error."""
    options = SinkOptions(chunks=(4, 4), shards=(8, 4))
    sink = create_sink(str(tmp_path / "new.zarr"), image_info(np.zeros((20, 9), "uint8")), options)
    sink.create()
    assert sink.write_unit == (8, 4)
    assert sink.write(0, Region((16, 8), (20, 9)), np.ones((4, 1), "uint8")) == 4
    for region in (Region((0, 0), (4, 4)), Region((4, 0), (8, 4)), Region((16, 8), (24, 12))):
        with pytest.raises(RunError, match="blocks and shards do not match"):
            sink.write(0, region, np.ones(region.shape, "uint8"))


@pytest.mark.parametrize(
    ("attributes", "members", "message"),
    [
        ({"ome": {"plate": {"wells": [{"path": "B/2"}]}}}, (), "is a plate of 1 wells.* such as .*/B/2/0"),
        ({"ome": {"well": {"images": [{"path": "3"}]}}}, (), "is a well of 1 fields.* such as .*/3"),
        (
            {"ome": {"bioformats2raw.layout": 3}},
            ("0", "1", "OME"),
            "bioformats2raw series of 2 images; write the path of one of them: .*/0, .*/1$",
        ),
        ({"ome": {"bioformats2raw.layout": 3}}, ("OME",), "bioformats2raw series without an image; copy it again"),
        ({"ome": {"labels": ["nuclei"]}}, (), r"group of labels \(nuclei\).* such as .*/nuclei"),
        ({}, ("a",), "without an image .* it holds a: write the path of one, such as .*/a"),
        ({}, (), "without an image .* empty"),
        (
            {"ome": {"multiscales": [{"datasets": [{}], "coordinateSystems": []}]}},
            (),
            "after 0.5, .* convert it to 0.5",
        ),
        ({"ome": {"multiscales": [{}]}}, (), "metadata are not understood .KeyError: 'datasets'"),
    ],
)
def test_group_that_is_no_image(
    tmp_path: Path, attributes: dict[str, Any], members: tuple[str, ...], message: str
) -> None:
    """The message names what it is, and what to write instead."""
    path = _group(tmp_path / "group.zarr", attributes, members)
    with pytest.raises(InputError, match=f"^{re.escape(path)}: .*{message}"):
        open_source(path)


def test_level_that_is_not_there(tmp_path: Path) -> None:
    """The message says how many there are."""
    path = _write(tmp_path / "new.zarr", random_array((4, 300), "uint8"))
    with pytest.raises(InputError, match=r"level 3 is not there; there are 3 \(0 to 2\)"):
        open_source(path, SourceOptions(level=3))


@pytest.mark.parametrize(
    "axes",
    [
        (Axis("x", "space"),),
        (Axis("z", "space"), Axis("c", "channel"), Axis("y", "space"), Axis("x", "space")),
        tuple(Axis(name, "space") for name in "wzyx"),
    ],
)
def test_axes_that_ome_zarr_does_not_hold(tmp_path: Path, axes: tuple[Axis, ...]) -> None:
    """They are refused before anything is written."""
    sink = create_sink(str(tmp_path / "new.zarr"), ImageInfo((3,) * len(axes), "uint8", axes))
    with pytest.raises(InputError, match="2 or 3 space axes, behind at most one time and one channel axis"):
        sink.check()
    assert not list(tmp_path.iterdir())


def test_overwrites_nothing_but_zarr(tmp_path: Path) -> None:
    """A folder of photographs, a file and a link are never deleted."""
    info = image_info(np.zeros((4, 5), "uint8"))
    options = SinkOptions(if_exists="overwrite")
    photographs, file, link = tmp_path / "photographs.zarr", tmp_path / "file.zarr", tmp_path / "link.zarr"
    photographs.mkdir()
    (photographs / "cat.jpg").touch()
    file.touch()
    whole = Path(_write(tmp_path / "whole.zarr", np.ones((4, 5), "uint8")))
    link.symlink_to(whole)
    for path, message in ((photographs, "a folder that is no Zarr"), (file, "is a file"), (link, "is a link")):
        for method in ("check", "create"):
            with pytest.raises(InputError, match=message):
                getattr(create_sink(str(path), info, options), method)()
    assert (photographs / "cat.jpg").exists()
    assert _whole(open_source(str(whole))).all()
    with pytest.raises(InputError, match="exists already; choose another path, or `if_exists: overwrite`"):
        create_sink(str(whole), info).check()
    create_sink(str(whole), info, options).create()
    with pytest.raises(InputError, match="did not finish"):
        open_source(str(whole))


def test_check_leaves_nothing_behind(tmp_path: Path) -> None:
    """Folders on the way are made by create() and not by check()."""
    sink = create_sink(str(tmp_path / "deep" / "deeper" / "new.zarr"), image_info(np.zeros((4, 5), "uint8")))
    sink.check()
    assert not list(tmp_path.iterdir())
    sink.create()
    assert (tmp_path / "deep" / "deeper" / "new.zarr" / "0" / "zarr.json").is_file()


def test_chunk_that_does_not_fit_memory(tmp_path: Path) -> None:
    """A header that promises a chunk of petabytes is refused before anything is decoded."""
    path = _write(tmp_path / "new.zarr", np.zeros((4, 5), "uint8"))
    file = Path(path, "0", "zarr.json")
    metadata = json.loads(file.read_text())
    metadata["shape"] = metadata["chunk_grid"]["configuration"]["chunk_shape"] = [10**8, 10**8]
    file.write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=r"decodes to 1e\+07 GB, more than the .* store the image in smaller chunks"):
        open_source(path).read(Region((0, 0), (1, 1)))


def test_all_settings_are_lazily_used(tmp_path: Path) -> None:
    """Cache and threads are set after opening, and change no voxel."""
    array = random_array((9, 8, 7), "float32")
    source = open_source(_write(tmp_path / "new.zarr", array, SinkOptions(chunks=(4, 4, 4))))
    for cache_bytes, io_threads in ((0, 1), (2**20, 2), (100, None)):
        source.cache_bytes, source.io_threads = cache_bytes, io_threads
        np.testing.assert_array_equal(_whole(source), array)


def test_window_of_nan_and_channels_that_do_not_fit(tmp_path: Path) -> None:
    """A run that computed all of an image is not lost to its display settings."""
    sink = create_sink(str(tmp_path / "new.zarr"), image_info(np.zeros((2, 4, 5), "uint8")))
    sink.create()
    sink.finish({"cval": np.float32("inf"), "shape": np.arange(2)}, ((float("nan"), 1.0, 0.0, 1.0), WINDOW))
    yaozarrs.validate_zarr_store(sink.path)
    attributes = zarr.open_group(sink.path, mode="r").attrs
    assert attributes["convolume"] == {"finished": True, "cval": "inf", "shape": [0, 1]}
    channels = attributes["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["Channel 0", "Channel 1"]
    assert [channel["window"]["max"] for channel in channels] == [1.0, 65535.0]


def test_axes_that_do_not_fit_the_array(tmp_path: Path) -> None:
    """A file that contradicts itself is refused."""
    path = _write(tmp_path / "new.zarr", np.zeros((4, 5), "uint8"))
    group = zarr.open_group(path)
    ome = group.attrs["ome"]
    ome["multiscales"][0]["axes"].append({"name": "w", "type": "space"})
    ome["multiscales"][0]["datasets"][0]["coordinateTransformations"] = []
    group.attrs["ome"] = ome
    with pytest.raises(InputError, match=r"axes 'yxw' name 3 axes, and the image has 2: \(4, 5\)"):
        open_source(path)


def test_default_axes_have_no_unit(tmp_path: Path) -> None:
    """What is not known is not written."""
    sink = create_sink(str(tmp_path / "new.zarr"), ImageInfo((4, 5), "uint8", default_axes(2)))
    sink.create()
    sink.finish({}, (WINDOW,))
    yaozarrs.validate_zarr_store(sink.path)
    assert open_source(sink.path).info.axes == default_axes(2)
