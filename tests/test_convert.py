"""``convolume convert``: every voxel bit for bit, axes, voxel size and channels kept; and how it refuses."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from click.testing import CliRunner, Result

import convolume
from convolume import cli, runner
from convolume.image import Axis, Channel, ImageInfo, default_axes
from convolume.regions import Region
from convolume.stores import create_sink, open_source
from convolume.stores._axes import DTYPES

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from convolume.image import AxisKind

HOW = "write a number for each axis, such as 64,64,64"
HERE = ("--set", "cluster=in_process")


def command(*arguments: str) -> Result:
    """Call the command line in this process."""
    return CliRunner().invoke(cli.commands, list(arguments), prog_name="convolume")


def converted(source: Path, *options: str) -> Path:
    """Convert an image beside itself, verify what came out, and return its path."""
    target = source.parent / "out.ome.zarr"
    result = command("convert", str(source), str(target), *HERE, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"done: conversion of {source.name}\n" in result.stdout
    assert command("verify", str(target)).exit_code == 0
    yaozarrs.validate_zarr_store(str(target))
    return target


def voxels_of(path: Path, level: int = 0) -> npt.NDArray[Any]:
    """Return a level, by a reader that is not ours."""
    return np.asarray(zarr.open_array(path / str(level), mode="r")[...])


def assert_bits(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    """Compare dtypes but for the byte order, shapes, and every bit, those of NaN too."""
    native = expected.astype(expected.dtype.newbyteorder("="))
    assert (found.dtype, found.shape) == (native.dtype, native.shape)
    assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(native).tobytes()


def any_bits(shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Return an image of all kinds of values, integers beyond 2**53, NaN and both zeros among them."""
    generator = np.random.default_rng(0)
    if dtype == "bool":
        return generator.random(shape) < 0.5
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(generator.bytes(size), dtype).reshape(shape)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_dtype_keeps_its_bits(tmp_path: Path, dtype: str) -> None:
    """In several blocks."""
    image = any_bits((7, 40, 50), dtype)
    zarr.create_array(tmp_path / "in.zarr", data=image, chunks=(4, 16, 20))
    assert_bits(voxels_of(converted(tmp_path / "in.zarr", "--set", "block=[7,128,128]")), image)


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64", "bool"])
def test_whole_numbers_of_64_bits_keep_them_in_every_way(tmp_path: Path, dtype: str) -> None:
    """With a device that computes, and by dask's overlaps; levels are means in the same dtype."""
    image = any_bits((5, 150, 20), dtype)
    zarr.create_array(tmp_path / "in.zarr", data=image, chunks=(5, 64, 20))
    for options in (["strategy=overlap"], ["device=opencl"]):
        words = [word for option in options for word in ("--set", option)]
        target = converted(tmp_path / "in.zarr", *words, "--overwrite")
        assert_bits(voxels_of(target), image)
        assert voxels_of(target, 1).dtype == dtype


@pytest.mark.parametrize(
    ("name", "shape"), [("yx", (9, 8)), ("zyx", (5, 9, 8)), ("czyx", (2, 5, 9, 8)), ("tczyx", (3, 2, 5, 9, 8))]
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_two_to_five_axes(tmp_path: Path, zarr_format: Any, name: str, shape: tuple[int, ...]) -> None:
    """From Zarr v2, big-endian, and v3: every axis is kept."""
    image = any_bits(shape, ">u2" if zarr_format == 2 else "<u2")
    chunks = tuple(max(1, n - 2) for n in shape)
    array = zarr.create_array(
        tmp_path / "in.zarr", shape=shape, dtype=image.dtype, chunks=chunks, zarr_format=zarr_format
    )
    array[...] = image
    target = converted(tmp_path / "in.zarr", "--axes", name, "--spacing", "0.5 um")
    assert_bits(voxels_of(target), image)
    axes = open_source(str(target)).info.axes
    assert "".join(axis.name for axis in axes) == name
    assert {(axis.spacing, axis.unit) for axis in axes if axis.kind == "space"} == {(0.5, "micrometer")}


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept"),
    [("<i2", None, None), (">i2", None, None), (">f8", None, None), (">i2", 0.25, -3.5)],
)
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_nifti(tmp_path: Path, dtype: str, slope: float | None, intercept: float | None, ending: str) -> None:
    """Of both byte orders; scaled voxels are the numbers that nibabel reads; what the header says is kept."""
    stored = any_bits((6, 7, 8), dtype)
    affine = np.diag([0.5, 0.75, 2.0, 1.0]) + np.array([[0, 0, 0, 9.0], [0, 0, 0, 8.0], [0, 0, 0, 7.0], [0, 0, 0, 0]])
    header = nibabel.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(dtype)
    header.set_xyzt_units("mm")
    image = nibabel.Nifti1Image(stored, affine, header)
    image.header.set_slope_inter(slope, intercept)
    path = tmp_path / f"in.{ending}"
    nibabel.save(image, path)
    again = nibabel.load(path)
    expected = np.asanyarray(again.dataobj)
    if slope is not None:
        expected = expected.astype(np.float32)
    target = converted(path)
    assert_bits(voxels_of(target), expected.T)
    assert [axis.spacing_um for axis in open_source(str(target)).info.axes] == [2000.0, 750.0, 500.0]
    kept = zarr.open_group(target, mode="r").attrs["convolume"]
    assert isinstance(kept, dict)
    assert kept["input"]["nifti"]["affine_xyz"] == again.affine.tolist()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff(tmp_path: Path, compression: str | None) -> None:
    """A stack of ImageJ's, compressed or not."""
    image = any_bits((5, 3, 20, 30), "uint16")
    path = tmp_path / "in.tif"
    metadata = {"axes": "ZCYX", "spacing": 1.5, "unit": "um"}
    tifffile.imwrite(path, image, imagej=True, resolution=(4, 4), metadata=metadata, compression=compression)
    target = converted(path)
    assert_bits(voxels_of(target), image.swapaxes(0, 1))
    assert [(axis.name, axis.spacing_um) for axis in open_source(str(target)).info.axes] == [
        ("c", None),
        ("z", 1.5),
        ("y", 0.25),
        ("x", 0.25),
    ]


@pytest.fixture
def colours(tmp_path: Path) -> tuple[Path, npt.NDArray[Any]]:
    """Write an OME-Zarr of two named channels and two time points, away from the origin."""
    kinds: dict[str, AxisKind] = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
    steps = zip(kinds, (3.0, 1.0, 2.0, 0.5, 0.5), (0.0, 0.0, 10.0, 0.0, 0.0), strict=True)
    units = {"time": "second", "channel": None, "space": "micrometer"}
    axes = tuple(Axis(name, kinds[name], units[kinds[name]], step, start) for name, step, start in steps)
    channels = (Channel("nuclei", "0000FF"), Channel("membranes", "00FF00"))
    image = any_bits((2, 2, 6, 9, 8), "uint8")
    sink = create_sink(str(tmp_path / "in.ome.zarr"), ImageInfo(image.shape, "uint8", axes, channels=channels))
    sink.create()
    sink.write(0, Region.whole(image.shape), image)
    sink.finish({}, ((0.0, 255.0, 0.0, 255.0),) * 2)
    return tmp_path / "in.ome.zarr", image


def test_axes_and_channels_are_kept(colours: tuple[Path, npt.NDArray[Any]]) -> None:
    """With names, colours, units and places."""
    path, image = colours
    target = converted(path)
    assert_bits(voxels_of(target), image)
    before, after = open_source(str(path)).info, open_source(str(target)).info
    assert (after.axes, after.channels) == (before.axes, before.channels)


@pytest.mark.parametrize(
    ("options", "part", "channels"),
    [
        (["--channel", "membranes"], np.s_[:, 1:2], ["membranes"]),
        (["--channel", "0", "--time", "1"], np.s_[1:2, 0:1], ["nuclei"]),
        (["--time", "0", "--chunks", "1,1,3,5,5"], np.s_[0:1], ["nuclei", "membranes"]),
        (["--set", "input.region.z=[1,4]"], np.s_[:, :, 1:4], ["nuclei", "membranes"]),
    ],
)
def test_a_part(colours: tuple[Path, npt.NDArray[Any]], options: list[str], part: Any, channels: list[str]) -> None:
    """By option, or by whatever else a workflow has."""
    path, image = colours
    target = converted(path, *options)
    assert_bits(voxels_of(target), image[part])
    info = open_source(str(target)).info
    assert [channel.name for channel in info.channels] == channels
    if "--chunks" in options:
        assert info.chunks == (1, 1, 3, 5, 5)


def test_another_dtype_saturates_where_it_is_asked_for(tmp_path: Path) -> None:
    """As integers, not as floats."""
    image = np.array([[2**62 + 1, -7, 2**53 + 1]])
    zarr.create_array(tmp_path / "in.zarr", data=image)
    target = converted(tmp_path / "in.zarr", "--set", "outputs.image.dtype=uint64")
    assert voxels_of(target).tolist() == [[2**62 + 1, 0, 2**53 + 1]]


def test_from_python_too(tmp_path: Path) -> None:
    """A volume without filters is a copy."""
    image = any_bits((4, 5, 6), "int64")
    zarr.create_array(tmp_path / "in.zarr", data=image)
    convolume.Volume.open(str(tmp_path / "in.zarr")).save(str(tmp_path / "out.ome.zarr"))
    assert_bits(voxels_of(tmp_path / "out.ome.zarr"), image)


def test_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    """The shell has replaced variables already."""
    image = any_bits((4, 5), "uint8")
    zarr.create_array(tmp_path / "a$HOME.zarr", data=image)
    assert_bits(voxels_of(converted(tmp_path / "a$HOME.zarr")), image)


def test_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes of this machine copy, and no device is looked for, unless a file says otherwise."""
    asked: list[tuple[dict[str, Any], Any]] = []

    def run(workflow: dict[str, Any], *, config: Any, **_rest: Any) -> None:
        asked.append((workflow, config))

    monkeypatch.setattr(runner, "run", run)
    spacing = ["--spacing", "2 um", "--spacing", "0.5 um", "--spacing", "0.5 um"]
    assert command("convert", "a.tif", "b.zarr", *spacing).exit_code == 0
    assert command("convert", "a.tif", "b.zarr", "--config", "c.yaml").exit_code == 0
    assert [config for _, config in asked] == [{"device": "numpy"}, "c.yaml"]
    assert asked[0][0]["input"] == {"path": "a.tif", "spacing": ["2 um", "0.5 um", "0.5 um"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--channel", "green"], "--channel: {path}: there is no channel 'green' (there are: nuclei, membranes)"),
        (["--time", "7"], "--time: {path}: time point 7 is not there; there are 2 (0 to 1)"),
        (["--axes", "zyx"], "--axes: {path}: axes 'zyx' name 3 axes, and the image has 5: (2, 2, 6, 9, 8)"),
        (
            ["--spacing", "1 um", "--spacing", "2 um"],
            "--spacing: {path}: spacing has 2 numbers; give one for all, or 3",
        ),
        (["--spacing", "1 parsec"], "--spacing: the unit 'parsec' is not known (there are: nm, um, µm, μm, mm, "),
        (["--chunks", "64,64"], "--chunks: {out}: chunks (64, 64) have 2 numbers, and the image has 5 axes"),
        (["--set", "input.region.z=[0,99]"], "--set input.region.z: "),
        (["--axes", "zz", "--spacing", "-1"], "2 mistakes:\n--axes: 'zz' does not name axes: "),
    ],
)
def test_mistakes_are_told_by_the_options(
    colours: tuple[Path, npt.NDArray[Any]], options: list[str], message: str
) -> None:
    """Not by keys of a workflow that the user never saw; nothing is written."""
    path, _ = colours
    out = path.parent / "out.ome.zarr"
    result = command("convert", str(path), str(out), *HERE, *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message.format(path=path, out=out)}")
    assert not out.exists()


def test_what_is_there_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    """The refusal names the option; the input is never overwritten."""
    zarr.create_array(tmp_path / "in.zarr", data=any_bits((4, 5), "uint8"))
    target = converted(tmp_path / "in.zarr")
    again = ("convert", str(tmp_path / "in.zarr"), str(target), *HERE)
    refused = command(*again)
    message = f"error: {target}: exists already; choose another path, or `--overwrite`\n"
    assert (refused.exit_code, refused.stderr) == (2, message)
    assert command(*again, "--overwrite").exit_code == 0
    itself = command("convert", str(target), str(target), *HERE, "--overwrite")
    message = f"error: {target} is the path of the input too: each needs its own\n"
    assert (itself.exit_code, itself.stderr) == (2, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.zarr"], "Missing argument 'OUT'."),
        (["in.zarr", "out.zarr", "--chunks", "6x4"], f"Invalid value for --chunks: '6x4' does not tell extents; {HOW}"),
        (["in.zarr", "out.zarr", "--time", "-1"], "Invalid value for '--time': -1 is not in the range x>=0."),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    """With the usage above it."""
    result = command("convert", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Usage: convolume convert [OPTIONS] IN OUT\nerror: {message}\n"


class Damage:
    """A chunk that cannot be read until it is mended, of the same size and with the same times."""

    def __init__(self, chunk: Path) -> None:
        self.chunk, self.whole, self.times = chunk, chunk.read_bytes(), chunk.stat()
        self._write(self.whole[:-8] + bytes(8))

    def mend(self) -> None:
        """Write what was there."""
        self._write(self.whole)

    def _write(self, data: bytes) -> None:
        self.chunk.write_bytes(data)
        os.utime(self.chunk, ns=(self.times.st_atime_ns, self.times.st_mtime_ns))


@pytest.fixture
def damage(tmp_path: Path) -> Damage:
    """Write an image of which one chunk of four is damaged."""
    codecs = [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]
    zarr.create_array(
        tmp_path / "in.zarr", data=any_bits((2, 60, 60), "uint16"), chunks=(1, 30, 60), compressors=codecs
    )
    return Damage(tmp_path / "in.zarr" / "c" / "1" / "0" / "0")


def test_what_was_broken_off_goes_on(tmp_path: Path, damage: Damage) -> None:
    """By the command that the error names, which is the same one; only what is missing is copied."""
    target = tmp_path / "my out.ome.zarr"
    paths = [str(tmp_path / "in.zarr"), str(target)]
    options = ["--time", "1", "--axes", "tyx", "--spacing", "2 um", "--chunks", "1,30,60", "--overwrite"]
    options += [*HERE, "--set", "block=[1,30,60]"]
    broken = command("convert", "-v", *options, "--restart", *paths)
    assert broken.exit_code == 3
    last = broken.stderr.splitlines()[-1].removeprefix("when the cause is mended, go on with: ")
    assert shlex.split(last) == ["convolume", "convert", *paths, *options]
    damage.mend()
    result = command(*shlex.split(last)[1:])
    assert result.exit_code == 0
    assert "resumed: 1 of 2 blocks were done by an earlier attempt" in result.stdout
    assert_bits(voxels_of(target), any_bits((2, 60, 60), "uint16")[1:])


def test_another_conversion_does_not_go_on(tmp_path: Path, damage: Damage) -> None:
    """What differs is told, and the way out by its option."""
    words = ("convert", str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"), *HERE)
    assert command(*words).exit_code == 3
    damage.mend()
    other = command(*words, "--set", "outputs.image.dtype=uint8")
    assert other.exit_code == 2
    assert re.match(r"error: \S+out\.zarr: was left unfinished by a run that differs: \S*dtype", other.stderr)
    assert other.stderr.endswith("begin anew with `--restart` (or `--overwrite`), which deletes what it wrote\n")
    assert command(*words, "--set", "outputs.image.dtype=uint8", "--restart").exit_code == 0


def test_images_in_default_axes(tmp_path: Path) -> None:
    """A level of an OME-Zarr is an image of its own, whose voxel size the user tells."""
    image = any_bits((2, 200, 3), "int16")
    sink = create_sink(str(tmp_path / "in.ome.zarr"), ImageInfo(image.shape, "int16", default_axes(3, "micrometer")))
    sink.create()
    sink.write(0, Region.whole(image.shape), image)
    sink.write(1, Region.whole((1, 100, 2)), np.ones((1, 100, 2), np.int16))
    sink.finish({}, ())
    target = converted(tmp_path / "in.ome.zarr", "--set", "input.level=1", "--set", "outputs.image.pyramid=false")
    assert_bits(voxels_of(target), np.ones((1, 100, 2), np.int16))
    assert [axis.spacing for axis in open_source(str(target)).info.axes] == [2.0, 2.0, 2.0]


def test_one_dataset_of_a_file_that_holds_several(tmp_path: Path) -> None:
    """It is named by an option, which the error of a file of several tells."""
    array, path = any_bits((3, 4, 5), "uint16"), tmp_path / "several.h5"
    with h5py.File(path, "w") as file:
        file["raw"], file["labels"] = array, np.zeros((5, 6), "uint8")
    refused = command("convert", str(path), str(tmp_path / "none.ome.zarr"))
    assert "name the one that is meant, such as `--dataset /labels`" in refused.stderr
    assert_bits(voxels_of(converted(path, "--dataset", "raw")), array)


def test_a_dtype_that_the_format_lacks(tmp_path: Path) -> None:
    """The option that takes another one is told."""
    np.save(tmp_path / "a.npy", np.zeros((4, 5), "float16"))
    refused = command("convert", str(tmp_path / "a.npy"), str(tmp_path / "a.nii"))
    assert "NIfTI has no voxels of float16; give `--set outputs.image.dtype=float32`" in refused.stderr
