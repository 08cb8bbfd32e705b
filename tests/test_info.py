"""``convolume info`` and `convolume.inspect`: every format, what is told of it, and that no voxel is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import nibabel
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner, Result

import convolume
from convolume import cli
from convolume.errors import InputError, RunError
from convolume.execution.ownership import Claim
from convolume.image import Axis, Channel, ImageInfo, default_axes
from convolume.inspection import inspect
from convolume.stores import create_sink, memory
from convolume.stores._zarr_arrays import ZarrArray

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.regions import Region

HERE = {"cluster": "in_process", "device": "numpy"}
CRC = zarr.codecs.Crc32cCodec()
SHAPE = (2, 2, 3, 200, 30)
KEYS = {
    *("path", "format", "ome_version", "zarr_format", "shape_voxels", "spacing_um", "size_bytes", "chunks_voxels"),
    *("shards_voxels", "dtype", "size_voxels", "axes", "channels", "codecs", "levels", "metadata", "notes", "run"),
    "validation",
}


def command(*arguments: str) -> Result:
    """Call the command line in this process."""
    return CliRunner().invoke(cli.commands, list(arguments), prog_name="convolume")


def told(path: Any) -> dict[str, str]:
    """Return the paragraphs that are printed, each as one line, by their labels."""
    result = command("info", str(path))
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == str(path)
    assert [line for line in lines if len(line) > 80 and "/" not in line] == []
    paragraphs: dict[str, str] = {}
    label = ""
    for line in lines[1:]:
        label = line.split("  ")[0] if line[:1].strip() else label
        paragraphs[label] = " ".join(f"{paragraphs.get(label, '')} {line.removeprefix(label)}".split())
    return paragraphs


def as_json(path: Any) -> dict[str, Any]:
    """Return what is printed as JSON; it is what Python gives."""
    result = command("info", str(path), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    values: dict[str, Any] = json.loads(result.stdout)
    assert values.keys() == KEYS
    assert values == json.loads(json.dumps(inspect(str(path)).as_dict(), default=str))
    return values


@pytest.fixture(autouse=True)
def _no_voxel_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_arguments: Any) -> None:
        message = "a voxel is read"
        raise AssertionError(message)

    for name in ("nifti.NiftiSource", "tiff.TiffSource", "zarr.ZarrSource", "memory.MemorySource"):
        monkeypatch.setattr(f"convolume.stores.{name}.read", read)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Write an OME-Zarr with everything: five axes, two channels, three levels, shards, a place."""
    axes = (
        Axis("t", "time", "second", 3.0),
        Axis("c", "channel"),
        Axis("z", "space", "micrometer", 2.0, 10.0),
        Axis("y", "space", "micrometer", 0.5),
        Axis("x", "space", "micrometer", 0.25),
    )
    channels = (Channel("nuclei", "0000FF"), Channel("membranes", "00FF00"))
    options = convolume.stores.SinkOptions(chunks=(1, 1, 3, 50, 30), shards=(1, 1, 3, 100, 30))
    info = ImageInfo(SHAPE, "uint16", axes, channels=channels)
    sink = create_sink(str(tmp_path / "in.ome.zarr"), info, options)
    sink.create()
    sink.finish({}, ((0.0, 4095.0, 20.0, 300.5), (0.0, 7.0, 0.0, 1.0)))
    return tmp_path / "in.ome.zarr"


def test_an_ome_zarr_is_told_in_full(image: Path) -> None:
    """Paragraph by paragraph."""
    paragraphs = told(image)
    assert paragraphs["format"] == "ome_zarr, OME-Zarr 0.5, Zarr v3"
    assert (
        paragraphs["image"] == "2 x 2 x 3 x 200 x 30 voxels (t, c, z, y, x), uint16 72,000 voxels, 141 KiB uncompressed"
    )
    assert paragraphs["voxel"] == "t 3 second, z 2 um, y 0.5 um, x 0.25 um the first at z 10 um"
    assert paragraphs["channels"] == (
        "nuclei, #0000FF, shown from 20 to 300.5 of 0 to 4095 membranes, #00FF00, shown from 0 to 1 of 0 to 7"
    )
    assert paragraphs["levels"] == (
        "0 2 x 2 x 3 x 200 x 30 141 KiB z 2 um, y 0.5 um, x 0.25 um 1 2 x 2 x 3 x 200 x 15 70.3 KiB z 2 um, y 0.5 um, "
        "x 0.5 um 2 2 x 2 x 3 x 100 x 8 18.8 KiB z 2 um, y 1 um, x 1 um"
    )
    assert paragraphs["chunks"] == "1 x 1 x 3 x 50 x 30 in shards of 1 x 1 x 3 x 100 x 30"
    assert paragraphs["codecs"] == "bytes (little), blosc (zstd, level 1, shuffle), crc32c"
    assert paragraphs["valid"] == "yes: OME-Zarr 0.5 (yaozarrs)"
    assert "note" not in paragraphs


def test_the_same_as_json(image: Path) -> None:
    """With units in the names."""
    values = as_json(image)
    assert values["format"] == "ome_zarr"
    assert values["shape_voxels"] == list(SHAPE)
    assert values["size_bytes"] == 2 * values["size_voxels"] == 2 * int(np.prod(SHAPE))
    assert values["spacing_um"] == [2.0, 0.5, 0.25]
    assert values["axes"][2] == {
        "name": "z",
        "kind": "space",
        "unit": "micrometer",
        "spacing": 2.0,
        "translation": 10.0,
        "spacing_um": 2.0,
    }
    window = {"min": 0.0, "max": 4095.0, "start": 20.0, "end": 300.5}
    assert values["channels"][0] == {"name": "nuclei", "color": "0000FF", "window": window}
    assert [level["path"] for level in values["levels"]] == [f"{image}/{number}" for number in range(3)]
    assert values["levels"][2]["shape_voxels"] == [2, 2, 3, 100, 8]
    assert values["levels"][2]["spacing_um"] == [2.0, 1.0, 1.0]
    assert (values["chunks_voxels"], values["shards_voxels"]) == ([1, 1, 3, 50, 30], [1, 1, 3, 100, 30])
    assert values["validation"]["is_valid"] is True
    codecs = zarr.open_array(image / "0", mode="r").metadata.to_dict()["codecs"]
    assert values["codecs"] == json.loads(json.dumps(codecs))


def test_one_level_is_an_array(image: Path) -> None:
    """Its note says where more is told."""
    paragraphs = told(image / "2")
    assert paragraphs["format"] == "zarr, Zarr v3"
    assert paragraphs["voxel"] == "of a size that is not told"
    assert paragraphs["note"] == f"{image}/2: is a level of {image}, which tells voxel size and channels"
    assert "levels" not in paragraphs
    assert as_json(image / "2")["levels"][0]["path"] == str(image / "2")


@pytest.mark.parametrize(
    ("zarr_format", "options", "codecs"),
    [
        (3, {}, "bytes (little), zstd (level 0)"),
        (3, {"compressors": None}, "bytes (little)"),
        (
            3,
            {
                "compressors": [zarr.codecs.BloscCodec(cname="lz4", clevel=3, shuffle="bitshuffle"), CRC],
                "filters": [zarr.codecs.TransposeCodec(order=(1, 0))],
                "shards": (10, 12),
            },
            "transpose (order [1, 0]), bytes (little), blosc (lz4, level 3, bitshuffle), crc32c",
        ),
        (2, {"compressors": None}, "none"),
        (2, {"compressors": numcodecs.Zlib(5)}, "zlib (level 5)"),
        (2, {"compressors": numcodecs.Blosc(shuffle=0)}, "blosc (lz4, level 5, no shuffle)"),
        (2, {"filters": [numcodecs.Delta("<i4")], "compressors": None}, "delta (dtype <i4)"),
    ],
)
def test_codecs_of_zarr(tmp_path: Path, zarr_format: Any, options: dict[str, Any], codecs: str) -> None:
    """Of both versions, with and without shards."""
    path = tmp_path / "in.zarr"
    zarr.create_array(path, shape=(20, 24), chunks=(5, 6), dtype="i4", zarr_format=zarr_format, **options)
    paragraphs = told(path)
    assert paragraphs["codecs"] == codecs
    assert paragraphs["format"] == f"zarr, Zarr v{zarr_format}"
    assert paragraphs["chunks"] == "5 x 6" + (" in shards of 10 x 12" if "shards" in options else "")
    assert as_json(path)["zarr_format"] == zarr_format


def test_ome_zarr_0_4(tmp_path: Path) -> None:
    """It is validated as what it is."""
    group = zarr.open_group(tmp_path / "in.zarr", mode="w", zarr_format=2)
    group.create_array(
        "full", shape=(4, 5), chunks=(2, 5), dtype="u1", chunk_key_encoding={"name": "v2", "separator": "/"}
    )
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [{"path": "full", "coordinateTransformations": [{"type": "scale", "scale": [2, 2]}]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    paragraphs = told(tmp_path / "in.zarr")
    assert paragraphs["format"] == "ome_zarr, OME-Zarr 0.4, Zarr v2"
    assert paragraphs["levels"] == "full 4 x 5 20 B y 2 um, x 2 um"
    assert paragraphs["valid"] == "yes: OME-Zarr 0.4 (yaozarrs)"


def test_complaints_are_told(image: Path) -> None:
    """The first few, and all of them as JSON."""
    document = json.loads((image / "zarr.json").read_bytes())
    for channel in document["attributes"]["ome"]["omero"]["channels"] * 5:
        channel.pop("color", None)
    document["attributes"]["ome"]["multiscales"][0]["datasets"][2]["path"] = "two"
    (image / "zarr.json").write_text(json.dumps(document))
    paragraphs = told(image)
    assert paragraphs["valid"].startswith(
        "no: yaozarrs has 2 complaints ome.image.omero.channels.0.color: Field required"
    )
    assert as_json(image)["validation"] == {
        "standard": "OME-Zarr 0.5",
        "validator": "yaozarrs",
        "is_valid": False,
        "complaints": [f"ome.image.omero.channels.{number}.color: Field required" for number in (0, 1)],
    }
    # The level that is not there is left out.
    assert [Path(level["path"]).name for level in as_json(image)["levels"]] == ["0", "1"]


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_nifti(tmp_path: Path, ending: str) -> None:
    """Its affine, what was assumed; and a packed file is not unpacked for it."""
    path = tmp_path / f"brain.{ending}"
    nifti = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([0.5, 0.5, 2.0, 1.0]))
    nibabel.save(nifti, path)
    paragraphs = told(path)
    assert paragraphs["format"] == "nifti"
    assert paragraphs["voxel"] == "z 2 mm, y 0.5 mm, x 0.5 mm"
    assert paragraphs["nifti"] == (
        "sform_code 2, qform_code 0, xyzt_units 0, unit millimeter, spacing_xyz [0.5, 0.5, 2.0] "
        "affine_xyz: 0.5 0 0 0 0 0.5 0 0 0 0 2 0 0 0 0 1"
    )
    assert paragraphs["note"] == f"{path}: the header leaves the unit unknown; NIfTI's millimetres are taken"
    assert as_json(path)["metadata"]["nifti"]["affine_xyz"] == nibabel.load(path).affine.tolist()
    assert {"chunks", "codecs", "writer", "valid"}.isdisjoint(paragraphs)


def test_tiff_and_memory(tmp_path: Path) -> None:
    """Formats with nothing to tell beside the image."""
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((5, 7, 6), np.float32), imagej=True, metadata={"axes": "ZYX"})
    paragraphs = told(tmp_path / "in.tif")
    assert paragraphs["format"] == "tiff"
    assert paragraphs["image"] == "5 x 7 x 6 voxels (z, y, x), float32 210 voxels, 840 B uncompressed"
    memory.put("image", np.zeros((5, 7), bool))
    assert as_json("memory:image")["format"] == "memory"
    memory.drop("image")


def test_the_sample() -> None:
    """By its name."""
    paragraphs = told("sample:mni152-t1")
    assert paragraphs["format"] == "sample"
    assert paragraphs["image"] == "189 x 233 x 197 voxels (z, y, x), uint8 8,675,289 voxels, 8.27 MiB uncompressed"


@pytest.mark.parametrize("slash", ["", "/"])
def test_nothing_there(tmp_path: Path, slash: str) -> None:
    """And a folder that is no image, and a group that holds some: what opening them says."""
    nowhere = command("info", f"{tmp_path}/none.zarr{slash}")
    assert (nowhere.exit_code, nowhere.stderr) == (2, f"error: {tmp_path}/none.zarr: there is no such file or folder\n")
    (tmp_path / "folder").mkdir()
    folder = command("info", f"{tmp_path}/folder{slash}", "--json")
    assert folder.exit_code == 2
    assert re.match(
        r"error: \S+folder: none of the formats that are known \(.*nifti.*\) is found there\n", folder.stderr
    )
    zarr.open_group(tmp_path / "group.zarr", mode="w").create_array("inner", shape=(3,), dtype="u1")
    group = command("info", f"{tmp_path}/group.zarr{slash}")
    message = "is a Zarr group without an image (no `multiscales`); it holds inner: write the path of one, such as"
    assert (group.exit_code, group.stderr) == (
        2,
        f"error: {tmp_path}/group.zarr: {message} {tmp_path}/group.zarr/inner\n",
    )


@pytest.mark.parametrize("broken", [{"multiscales": [{}]}, {"multiscales": [3]}, {"multiscales": 7}, {"omero": 3}])
def test_metadata_that_make_no_sense(image: Path, broken: dict[str, Any]) -> None:
    """An error that says so, or an image of which less is told."""
    document = json.loads((image / "zarr.json").read_bytes())
    document["attributes"]["ome"] |= broken
    (image / "zarr.json").write_text(json.dumps(document))
    result = command("info", str(image))
    assert result.exit_code == 2
    assert "metadata are not understood" in result.stderr


def run(tmp_path: Path, *overrides: str) -> None:
    """Run two filters on an image in several blocks."""
    voxels = np.arange(3 * 150 * 20, dtype=np.uint16).reshape(3, 150, 20)
    if not (tmp_path / "in.zarr").exists():
        zarr.create_array(tmp_path / "in.zarr", data=voxels, chunks=(3, 64, 20))
    steps = [{"gaussian": {"sigma": 1}}, "laplace"]
    outputs = {
        "edges": {"path": str(tmp_path / "edges.ome.zarr"), "steps": steps},
        "copy": {"path": str(tmp_path / "copy.ome.zarr")},
    }
    workflow = {"name": "two", "input": {"path": str(tmp_path / "in.zarr")}, "outputs": outputs, "block": [3, 64, 128]}
    convolume.run(workflow, config={**HERE, "threads_per_worker": 1}, overrides=overrides)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which a run wrote two images."""
    with monkeypatch.context() as undone:
        undone.setattr("convolume.stores.zarr.ZarrSource.read", read_voxels)
        run(tmp_path)
    return tmp_path


def read_voxels(self: Any, region: Region) -> npt.NDArray[Any]:
    """Read as a source does where nothing forbids it."""
    return ZarrArray(self.array_path).read(region)


def broken_read(self: Any, region: Region) -> npt.NDArray[Any]:
    """Read the first two blocks of three."""
    if region.start[1] >= 100:
        message = "no further"
        raise RunError(message)
    return read_voxels(self, region)


def test_what_a_run_left(written: Path) -> None:
    """Which filters of which input, on what, by which version."""
    paragraphs = told(written / "edges.ome.zarr")
    device = inspect(str(written / "edges.ome.zarr")).as_dict()["run"]["device"]
    assert paragraphs["writer"] == f"convolume {convolume.runner.versions()['convolume']}, on {device}"
    assert paragraphs["made"] == f"gaussian, then laplace of {written}/in.zarr"
    assert told(written / "copy.ome.zarr")["made"] == f"a copy of {written}/in.zarr"
    values = as_json(written / "edges.ome.zarr")["run"]
    assert (values["state"], values["written_share"]) == ("finished", 1.0)
    assert values["steps"] == ["gaussian", "laplace"]
    assert set(values) == {"state", "written_share", "steps", "workflow", "versions", "device", "input"}
    assert "name: two" in values["workflow"]
    # Nobody knows which output of the run an image with another name was.
    (written / "edges.ome.zarr").rename(written / "other.ome.zarr")
    assert told(written / "other.ome.zarr")["made"] == f"by unknown steps of {written}/in.zarr"


def test_what_a_broken_run_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no image yet: shape, levels, storage, and how far it came."""
    monkeypatch.setattr("convolume.stores.zarr.ZarrSource.read", broken_read)
    with pytest.raises(RunError):
        run(tmp_path)
    path = tmp_path / "edges.ome.zarr"
    with pytest.raises(InputError, match="did not finish"):
        convolume.Volume.open(str(path))
    paragraphs = told(path)
    assert paragraphs["image"] == "3 x 150 x 20 voxels (z, y, x), float32 9,000 voxels, 35.2 KiB uncompressed"
    assert paragraphs["levels"] == "0 3 x 150 x 20 35.2 KiB 1 2 x 75 x 10 5.86 KiB"
    assert paragraphs["made"] == f"gaussian, then laplace of {tmp_path}/in.zarr"
    share = 3 * 128 * 20 / (3 * 150 * 20 + 2 * 75 * 10)
    state = "not finished, and no image yet: run its workflow again, and it goes on"
    assert paragraphs["state"] == f"{state}; {share:.0%} of its voxels are written"
    assert "valid" not in paragraphs
    values = as_json(path)["run"]
    assert (values["state"], values["written_share"]) == ("unfinished", share)
    claim = Claim.take(str(path), f"{path}.convolume")
    assert told(path)["state"].startswith("not finished: a run is writing it at this moment; ")
    claim.release()
    for file in (tmp_path / "edges.ome.zarr.convolume").iterdir():
        file.unlink()
    assert told(path)["made"] == "by unknown steps of an unknown input"


@pytest.mark.parametrize(
    ("written_format", "told_format"), [("ome-zarr-0.4", "ome_zarr, OME-Zarr 0.4, Zarr v2"), ("zarr", "zarr, Zarr v3")]
)
def test_other_formats_that_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_format: str, told_format: str
) -> None:
    """Broken off and finished: what a run left is found there, too."""
    edges = tmp_path / "edges.zarr"
    overrides = (f"outputs.edges.format={written_format}", f"outputs.edges.path={edges}")
    with monkeypatch.context() as broken:
        broken.setattr("convolume.stores.zarr.ZarrSource.read", broken_read)
        with pytest.raises(RunError):
            run(tmp_path, *overrides)
    paragraphs = told(edges)
    assert paragraphs["format"].endswith(told_format.rpartition(", ")[2])
    assert paragraphs["image"] == "3 x 150 x 20 voxels (z, y, x), float32 9,000 voxels, 35.2 KiB uncompressed"
    assert paragraphs["state"].startswith("not finished, and no image yet: run its workflow again, and it goes on; ")
    with monkeypatch.context() as whole:
        whole.setattr("convolume.stores.zarr.ZarrSource.read", read_voxels)
        run(tmp_path, *overrides)
    paragraphs = told(edges)
    assert paragraphs["format"] == told_format
    assert paragraphs["made"] == f"gaussian, then laplace of {tmp_path}/in.zarr"
    assert "state" not in paragraphs
    assert ("valid" in paragraphs) == (written_format != "zarr")


def test_many_channels_fit_a_screen(tmp_path: Path) -> None:
    """The rest is counted."""
    axes = (Axis("c", "channel"), Axis("y", "space"), Axis("x", "space"))
    channels = tuple(Channel(f"channel {number}") for number in range(40))
    sink = create_sink(str(tmp_path / "in.zarr"), ImageInfo((40, 5, 6), "uint8", axes, channels=channels))
    sink.create()
    sink.finish({}, ((0.0, 1.0, 0.0, 1.0),) * 40)
    assert told(tmp_path / "in.zarr")["channels"].endswith("of 0 to 1 and 35 more: --json tells all")
    assert len(command("info", str(tmp_path / "in.zarr")).stdout.splitlines()) <= 24
    assert len(as_json(tmp_path / "in.zarr")["channels"]) == 40


def test_one_dataset_of_a_file_that_holds_several(tmp_path: Path) -> None:
    """It is named; without a name the error lists them."""
    path = tmp_path / "several.h5"
    with h5py.File(path, "w") as file:
        file["raw"], file["labels"] = np.zeros((3, 4), "uint16"), np.zeros((5, 6, 7), "uint8")
    assert inspect(str(path), dataset="labels").image.shape == (5, 6, 7)
    with pytest.raises(InputError, match=r"holds several images; name the one that is meant, such as `dataset: /"):
        inspect(str(path))
    refused = CliRunner().invoke(cli.commands, ["info", str(path)])
    assert "such as `--dataset /labels`; there are: /labels, /raw" in refused.stderr
    done = CliRunner().invoke(cli.commands, ["info", str(path), "--dataset", "raw", "--json"])
    assert json.loads(done.output)["shape_voxels"] == [3, 4]


@pytest.mark.parametrize("ending", ["nii.gz", "ome.tif"])
def test_an_unfinished_file(tmp_path: Path, ending: str) -> None:
    """Blocks that are gathered for it are told as those of other outputs are."""
    path = str(tmp_path / f"mean.{ending}")
    create_sink(path, ImageInfo((4, 6, 8), "float32", default_axes(3))).create()
    report = inspect(path)
    assert report.path == path
    assert report.image.shape == (4, 6, 8)
    assert report.run is not None
    assert report.run.state == "unfinished"
    with pytest.raises(InputError, match="was left by a run that did not finish; run its workflow again"):
        convolume.Volume.open(path)
