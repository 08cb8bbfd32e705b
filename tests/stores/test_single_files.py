"""Outputs that are one file: NIfTI and OME-TIFF, as their own libraries see them, and as runs that are broken off."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
import scipy.ndimage
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import convolume
from convolume.errors import ConvolumeError, InputError, StorageError
from convolume.image import Axis, Channel, ImageInfo
from convolume.regions import BlockGrid, Region
from convolume.runner import verify
from convolume.stores import SinkOptions, SourceOptions, create_sink, memory, open_source
from convolume.testing.stores import DTYPES, image_info, random_array

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.stores import Sink

WHERE = {"cluster": "in_process", "device": "numpy"}
NOT_HELD = {".nii": {"bool", "float16"}, ".nii.gz": {"bool", "float16"}}
NOT_HELD[".ome.tif"] = {"bool", "float16", "int64", "uint64"}
WINDOWS = ((0.0, 9.0, 1.0, 8.0),)


def written(path: Path, array: npt.NDArray[Any], info: ImageInfo | None = None, **options: Any) -> Sink:
    """Write an image block by block, each with a sink that crossed a process border, and finish it."""
    sink = create_sink(str(path), info or image_info(array), SinkOptions(**options))
    sink.create()
    for level in range(len(sink.levels)):
        write_level(sink, level, array if level == 0 else random_array(sink.levels[level].shape, array.dtype.name))
    with pytest.raises(InputError, match="did not finish"):
        open_source(str(path))
    sink.finish({"workflow": {"cval": float("nan")}}, WINDOWS)
    sink.remove_leftovers()
    return sink


def write_level(sink: Sink, number: int, voxels: npt.NDArray[Any]) -> None:
    """Write a level unit by unit."""
    level = sink.levels[number]
    for _, region in BlockGrid(level.shape, level.shards or level.chunks or level.shape):
        travelled: Sink = pickle.loads(pickle.dumps(sink))  # noqa: S301  # our own bytes
        travelled.write(number, region, voxels[region.slices])
        assert_array_equal(travelled.read(number, region), voxels[region.slices])


@pytest.mark.parametrize("ending", NOT_HELD)
@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple),
    dtype=st.sampled_from(DTYPES),
    chunk=st.integers(2, 9),
)
def test_voxels_come_back(ending: str, shape: tuple[int, ...], dtype: str, chunk: int) -> None:
    """Bit for bit, in the same axes but for those of one voxel, which neither format tells of all."""
    array = random_array(shape, dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"image{ending}")
        if dtype in NOT_HELD[ending]:
            with pytest.raises(InputError, match=f"has no voxels of {dtype}; give the output `dtype: "):
                written(path, array)
            return
        chunks = tuple(min(chunk, n) for n in shape)
        sink = written(path, array, chunks=chunks)
        source = open_source(str(path))
        axes = dict(zip((axis.name for axis in source.info.axes), source.info.shape, strict=True))
        expected = dict(zip((axis.name for axis in image_info(array).axes), shape, strict=True))
        assert {name: n for name, n in axes.items() if n > 1} == {name: n for name, n in expected.items() if n > 1}
        assert source.info.dtype == dtype
        assert_array_equal(source.read(Region.whole(source.info.shape)).ravel(), array.ravel())
        assert_array_equal(sink.read(0, Region.whole(shape)), array)
        for axis in source.info.axes:
            of_image = {axis.name: axis for axis in image_info(array).axes}.get(axis.name)
            assert of_image is None or axis.spacing_um == pytest.approx(of_image.spacing_um)
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        with pytest.raises(InputError, match="exists already"):
            create_sink(str(path), sink.levels[0], SinkOptions()).check()


def test_tiff_levels_are_pages_of_fewer_rows_and_columns(tmp_path: Path) -> None:
    """As tifffile finds them, in tiles; opened here by level, their voxels larger."""
    array = random_array((2, 3, 300, 520), "uint16")
    path = tmp_path / "pyramid.ome.tif"
    sink = written(path, array)
    shapes = [(2, 3, 300, 520), (2, 3, 150, 260), (2, 3, 75, 130), (2, 3, 38, 65)]
    assert [level.shape for level in sink.levels] == shapes
    with tifffile.TiffFile(path) as file:
        (series,) = file.series
        assert file.is_ome
        assert series.axes == "CZYX"
        assert [level.shape for level in series.levels] == [level.shape for level in sink.levels]
        assert_array_equal(series.asarray(), array)
        assert file.pages[0].tile == (256, 256)
        assert not file.is_bigtiff
    for number, level in enumerate(sink.levels):
        source = open_source(str(path), SourceOptions(level=number))
        assert source.info.space_spacing_um == tuple(
            step * scale for step, scale in zip((2.0, 0.5, 0.5), (1, 2**number, 2**number), strict=True)
        )
        assert_array_equal(source.read(Region.whole(level.shape)), sink.read(number, Region.whole(level.shape)))
    with pytest.raises(InputError, match=r"level 4 is not there; there are 4 \(0 to 3\)"):
        open_source(str(path), SourceOptions(level=4))


def test_tiff_tells_channels_and_time(tmp_path: Path) -> None:
    """Names and colours of channels, voxel size and the step of time come back."""
    axes = (
        Axis("t", "time", "millisecond", 40.0),
        Axis("c", "channel"),
        Axis("y", "space", "nanometer", 65.0),
        Axis("x", "space", "nanometer", 60.0),
    )
    channels = (Channel("DAPI", "0000FF"), Channel("GFP", "FF8000"))
    array = random_array((3, 2, 20, 30), "float32")
    written(tmp_path / "a.tiff", array, ImageInfo(array.shape, "float32", axes, channels=channels))
    info = open_source(str(tmp_path / "a.tiff")).info
    assert info.axes == axes
    assert info.channels == channels
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        assert '"convolume"' in image["Description"]


def test_tiff_of_names_that_xml_cannot_hold(tmp_path: Path) -> None:
    """The file opens, and says that a letter is lost."""
    array = random_array((2, 5, 6), "uint8")
    axes = (Axis("c", "channel"), Axis("y", "space"), Axis("x", "space"))
    channels = (Channel("a\x01b"), Channel("<&>"))
    written(tmp_path / "a.tif", array, ImageInfo(array.shape, "uint8", axes, channels=channels))
    names = [channel.name for channel in open_source(str(tmp_path / "a.tif")).info.channels]
    assert names == ["a\N{REPLACEMENT CHARACTER}b", "<&>"]


SFORM = np.array([[-1.5, 0.125, 0, 90], [0.125, 2, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1.0]])
QFORM = np.diag([-1.5, 2, 2.5, 1.0])


@pytest.mark.parametrize(("sform_code", "qform_code"), [(4, 1), (0, 1), (2, 0), (0, 0)])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_keeps_the_placement_of_a_region(tmp_path: Path, ending: str, sform_code: int, qform_code: int) -> None:
    """What nibabel says of the same region of the input."""
    array = random_array((20, 18, 16), "int16").T
    image = nibabel.Nifti1Image(array, SFORM)
    image.set_sform(SFORM, sform_code)
    image.set_qform(QFORM, qform_code)
    image.header.set_xyzt_units("mm")
    image.to_filename(tmp_path / "in.nii")
    output = {"path": str(tmp_path / f"out{ending}"), "steps": [{"box": {"size": 3}}], "dtype": "float64"}
    source = {"path": str(tmp_path / "in.nii"), "region": {"x": [3, 15], "z": [2, 20]}}
    convolume.run({"input": source, "outputs": {"mean": output}}, config=WHERE)
    found = nibabel.load(output["path"])
    expected = image.slicer[3:15, :, 2:20]
    assert (int(found.header["sform_code"]), int(found.header["qform_code"])) == (sform_code, qform_code)
    if sform_code or qform_code:
        assert_allclose(found.affine, expected.affine, atol=1e-5)
    assert_allclose(found.header.get_zooms(), nibabel.load(source["path"]).header.get_zooms())
    assert found.header.get_xyzt_units()[0] == "mm"
    mean = scipy.ndimage.uniform_filter(np.asarray(expected.dataobj).astype(np.float64), 3)
    assert_allclose(np.asarray(found.dataobj), mean, rtol=1e-5, atol=0.05)
    assert "workflow" in str(found.header.extensions[0].get_content())


def test_nifti_of_other_images_lies_at_their_translation(tmp_path: Path) -> None:
    """Aligned to coordinates of its own, in a unit that NIfTI has."""
    array = random_array((4, 5, 6), "uint8")
    steps = zip("zyx", (300.0, 100.0, 50.0), (0.0, 10.0, 20.0), strict=True)
    axes = tuple(Axis(name, "space", "nanometer", step, place) for name, step, place in steps)
    written(tmp_path / "a.nii", array, ImageInfo(array.shape, "uint8", axes))
    found = nibabel.load(tmp_path / "a.nii")
    assert_allclose(found.affine, [[0.05, 0, 0, 0.02], [0, 0.1, 0, 0.01], [0, 0, 0.3, 0], [0, 0, 0, 1]], rtol=1e-6)
    assert (int(found.header["sform_code"]), found.header.get_xyzt_units()[0]) == (2, "micron")
    assert (float(found.header["cal_min"]), float(found.header["cal_max"])) == (1.0, 8.0)
    assert_array_equal(np.asarray(found.dataobj), array.T)


@pytest.mark.parametrize(("sform_code", "qform_code"), [(1, 0), (0, 1), (2, 1)])
@pytest.mark.parametrize("unit", ["mm", "um"])
def test_nifti_is_stretched_to_the_users_voxel_size(
    tmp_path: Path, sform_code: int, qform_code: int, unit: str
) -> None:
    """It wins over what the file says, for the placement too: directions stay, and where the first voxel lies."""
    affine = np.array([[-2.0, 0, 0, 90], [0, 0, 3, -70], [0, 2, 0, 10], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(random_array((5, 6, 7), "uint8"), affine)
    image.set_sform(affine, sform_code)
    image.set_qform(affine, qform_code)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii")
    source = {"path": str(tmp_path / "a.nii"), "spacing": [f"{step} {unit}" for step in (1, 4, 5)]}
    convolume.run({"input": source, "outputs": {"copy": {"path": str(tmp_path / "b.nii")}}}, config=WHERE)
    found = nibabel.load(tmp_path / "b.nii")
    assert_allclose(found.header.get_zooms(), [5, 4, 1])
    assert found.header.get_xyzt_units()[0] == {"mm": "mm", "um": "micron"}[unit]
    place = affine[:3, 3] * {"mm": 1, "um": 1000}[unit]
    assert_allclose(found.affine[:3], [[-5, 0, 0, place[0]], [0, 0, 1, place[1]], [0, 4, 0, place[2]]], atol=1e-4)


def test_nifti_of_two_units(tmp_path: Path) -> None:
    """A header tells one: all are micrometres then; an axis without a unit leaves the others theirs."""
    array = random_array((4, 5, 6), "uint8")
    for units, expected in (
        (("micrometer", "nanometer", "nanometer"), ("micron", (0.002, 0.002, 2.0))),
        ((None, "micrometer", "micrometer"), ("micron", (2.0, 2.0, 2.0))),
        ((None, "millimeter", "millimeter"), ("mm", (2.0, 2.0, 2.0))),
        ((None, None, None), ("unknown", (2.0, 2.0, 2.0))),
    ):
        axes = tuple(Axis(name, "space", unit, 2.0) for name, unit in zip("zyx", units, strict=True))
        written(tmp_path / "a.nii", array, ImageInfo(array.shape, "uint8", axes), if_exists="overwrite")
        header = nibabel.load(tmp_path / "a.nii").header
        assert header.get_xyzt_units()[0] == expected[0]
        assert_allclose(header.get_zooms(), expected[1], rtol=1e-6)
        (tmp_path / "a.nii").unlink()


def test_a_long_axis_is_nifti_2(tmp_path: Path) -> None:
    """NIfTI-1 counts up to 32,767."""
    array = random_array((2, 40_000), "uint8")
    written(tmp_path / "a.nii", array)
    assert isinstance(nibabel.load(tmp_path / "a.nii"), nibabel.Nifti2Image)
    assert_array_equal(np.asarray(nibabel.load(tmp_path / "a.nii").dataobj), array.T)


def test_axes_in_another_order_are_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    axes = (Axis("y", "space"), Axis("z", "space"), Axis("x", "space"))
    for ending in NOT_HELD:
        with pytest.raises(InputError, match=r"hold \(t, c, z, y, x\) in this order, and this image has 'yzx'"):
            create_sink(str(tmp_path / f"a{ending}"), ImageInfo((2, 3, 4), "uint8", axes))
    with pytest.raises(InputError, match=r"holds planes \(y, x\), and this image has 'zx'; write an OME-Zarr"):
        create_sink(str(tmp_path / "a.ome.tif"), ImageInfo((2, 4), "uint8", axes[1:]))


def test_a_file_of_the_input_is_not_replaced(tmp_path: Path) -> None:
    """Nor where the input is a pattern, or refers to it."""
    for number in range(3):
        tifffile.imwrite(tmp_path / f"plane{number}.tif", random_array((5, 6), "uint8"), photometric="minisblack")
    target = {"path": str(tmp_path / "plane1.tif"), "if_exists": "overwrite"}
    workflow = {"input": {"path": str(tmp_path / "plane*.tif")}, "outputs": {"copy": target}}
    with pytest.raises(InputError, match=r"plane1\.tif: it is the input itself: the input would be destroyed"):
        convolume.run(workflow, config=WHERE)


WORKFLOW = """
input: {{path: 'memory:single'}}
outputs:
  mean: {{path: '{path}', steps: [{{box: {{size: 3}}}}], chunks: [4, 8, 8], if_exists: {if_exists}}}
block: [4, 8, 8]
"""


@pytest.fixture
def image() -> npt.NDArray[Any]:
    """Put a volume of 12 blocks into memory."""
    array = random_array((12, 16, 16), "float32")
    memory.put("single", array)
    return array


@pytest.mark.parametrize("ending", NOT_HELD)
def test_a_finished_file_is_verified(tmp_path: Path, ending: str, image: npt.NDArray[Any]) -> None:
    """Against the marks of its blocks; a byte that changes is found, in the block that it belongs to."""
    path = tmp_path / f"mean{ending}"
    convolume.run(WORKFLOW.format(path=path, if_exists="error"), config=WHERE)
    expected = scipy.ndimage.uniform_filter(image.astype(np.float64), 3)
    assert_allclose(open_source(str(path)).read(Region.whole(image.shape)), expected, atol=1e-3)
    verdict = verify(str(path), config=WHERE)
    assert (verdict.block_count, verdict.is_whole) == (12, True)
    assert not list(tmp_path.rglob("gathered*"))
    with pytest.raises(InputError, match="exists already"):
        convolume.run(WORKFLOW.format(path=path, if_exists="error"), config=WHERE)
    memory.put("single", image + 1)
    convolume.run(WORKFLOW.format(path=path, if_exists="overwrite"), config=WHERE)
    assert_allclose(open_source(str(path)).read(Region.whole(image.shape)), expected + 1, atol=1e-3)


@pytest.mark.usefixtures("image")
def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    """By the block that the byte belongs to."""
    path = tmp_path / "mean.nii"
    convolume.run(WORKFLOW.format(path=path, if_exists="error"), config=WHERE)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (flaw,) = verify(str(path), config=WHERE).flaws
    assert (flaw.what, flaw.index, flaw.file) == ("damaged", (2, 1, 1), str(path))


@pytest.mark.parametrize("ending", NOT_HELD)
@pytest.mark.parametrize("broken", ["write", "finish", "remove_leftovers"])
def test_a_run_goes_on_with_what_was_gathered(
    tmp_path: Path, ending: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it was broken off: while blocks are written, the file is, or nothing is left but to clear away."""
    source = tmp_path / "in.ome.zarr"
    array = random_array((12, 16, 16), "float32")
    sink = create_sink(str(source), image_info(array))
    sink.create()
    sink.write(0, Region.whole(array.shape), array)
    sink.finish({}, WINDOWS)
    path = tmp_path / f"mean{ending}"
    text = WORKFLOW.format(path=path, if_exists="error").replace("memory:single", str(source))
    kind = type(create_sink(str(path), image_info(array)))
    sound, count = getattr(kind, broken), 0

    def breaks(self: Sink, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > (5 if broken == "write" else 0):
            message = f"{path}: broken off"
            raise StorageError(message)
        return sound(self, *arguments)

    monkeypatch.setattr(kind, broken, breaks)
    with pytest.raises(ConvolumeError, match="broken off"):
        convolume.run(text, config=WHERE)
    assert path.exists() == (broken == "remove_leftovers")
    monkeypatch.undo()
    before = verify(str(path), config=WHERE)
    assert not before.flaws
    assert bool(before.unmarked_voxels) == (broken == "write")
    record = convolume.run(text, config=WHERE)
    assert any("resumed" in note for note in record.notes)
    expected = scipy.ndimage.uniform_filter(array.astype(np.float64), 3)
    assert_allclose(open_source(str(path)).read(Region.whole(array.shape)), expected, atol=1e-3)
    assert verify(str(path), config=WHERE).is_whole
    assert {each.name for each in tmp_path.iterdir()} == {"in.ome.zarr", path.name, f"{path.name}.convolume"}
    assert {each.name for each in Path(f"{path}.convolume").iterdir()} == {"all.marks", "plan.json", "run.json"}


@pytest.mark.parametrize("level", [0, 1])
def test_the_placement_survives_an_ome_zarr(tmp_path: Path, level: int) -> None:
    """NIfTI to OME-Zarr, a region or a coarser level of that to NIfTI: as nibabel places the same voxels."""
    image = nibabel.Nifti1Image(random_array((150, 20, 18), "int16").T, SFORM)
    image.header.set_xyzt_units("mm")
    image.to_filename(tmp_path / "in.nii")
    between, end = str(tmp_path / "between.ome.zarr"), str(tmp_path / "end.nii")
    convolume.run({"input": {"path": str(tmp_path / "in.nii")}, "outputs": {"copy": {"path": between}}}, config=WHERE)
    source = {"path": between, "level": level, "region": {"x": [4, 8], "z": [2, 70]}}
    convolume.run({"input": source, "outputs": {"copy": {"path": end}}}, config=WHERE)
    found = nibabel.load(end).affine
    # Voxels are longest along z, which the first coarser level leaves as it is.
    step = np.array([2, 2, 1]) ** level
    corner = np.array([4, 0, 2]) * step + (step - 1) / 2
    assert_allclose(found[:3, :3], SFORM[:3, :3] * step, atol=1e-5)
    assert_allclose(found[:3, 3], SFORM[:3, :3] @ corner + SFORM[:3, 3], atol=1e-4)
