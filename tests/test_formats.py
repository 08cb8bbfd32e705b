"""Whatever is written: a run is broken off, goes on, becomes visible at its end, and is found again as it was."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import scipy.ndimage
import zarr

import convolume
from convolume.errors import InputError, RunError
from convolume.execution import task
from convolume.image import Axis, ImageInfo
from convolume.regions import Region
from convolume.stores import Format, SinkOptions, create_sink, memory, open_source
from convolume.stores._zarr_arrays import ZarrArray

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from convolume.records import RunRecord

FORMATS: tuple[Format, ...] = get_args(Format)
SHAPE, CHUNK, BLOCKS = (6, 150, 70), [6, 64, 64], 6
AXES = tuple(Axis(name, "space", "micrometer", size, 1.0) for name, size in (("z", 2.0), ("y", 0.5), ("x", 0.5)))
IMAGE = np.random.default_rng(11).integers(1, 200, SHAPE).astype(np.float32)
# One block whose result is of fill value only: no file tells of it.
IMAGE[:, 62:130, :66] = 0
EXPECTED = scipy.ndimage.correlate(IMAGE, np.ones((3, 3, 3)), mode="constant")
IN_PROCESS = {"cluster": "in_process", "threads_per_worker": 1, "device": "numpy"}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[str]:
    """Write the image where every process finds it."""
    path = str(tmp_path / "image.ome.zarr")
    sink = create_sink(path, ImageInfo(SHAPE, "float32", AXES), SinkOptions(pyramid=False))
    sink.create()
    sink.write(0, Region.whole(SHAPE), IMAGE)
    sink.finish({}, ())
    yield path
    memory.drop("formats")


def run(source: str, path: Path, format_: Format, block: Any = CHUNK, **output: Any) -> RunRecord:
    """Sum over boxes, block by block."""
    steps = [{"box": {"size": 3, "statistic": "sum"}}]
    written = {"path": str(path), "format": format_, "chunks": CHUNK, "steps": steps, **output}
    workflow = {"input": {"path": source}, "mode": "constant", "block": block, "outputs": {"sum": written}}
    return convolume.run(workflow, config=IN_PROCESS)


def break_off(monkeypatch: pytest.MonkeyPatch, at: int, *arguments: Any) -> None:
    """Run until a block fails, and all that follow."""
    calls, filter_patch = [], task.filter_patch

    def failing(*inner: Any) -> Any:
        calls.append(1)
        if len(calls) >= at:
            message = "as if it were killed"
            raise OSError(message)
        return filter_patch(*inner)

    with monkeypatch.context() as patched:
        patched.setattr(task, "filter_patch", failing)
        with pytest.raises(RunError, match="as if it were killed"):
            run(*arguments)


def whole(path: Path) -> npt.NDArray[Any]:
    """Return the voxels of a finished output."""
    source = open_source(str(path))
    assert (source.info.shape, source.info.axes) == (SHAPE, AXES)
    return source.read(Region.whole(SHAPE))


def is_whole(path: Path) -> bool:
    """Verify it in this process."""
    return convolume.runner.verify(str(path), config=IN_PROCESS).is_whole


@pytest.mark.parametrize("failing", [1, 4, BLOCKS])
@pytest.mark.parametrize("format_", FORMATS)
def test_goes_on(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: Format, failing: int) -> None:
    """What is unfinished opens nowhere as an image or as an array; blocks that are done are not done again."""
    path = tmp_path / "sum.zarr"
    break_off(monkeypatch, failing, source, path, format_)
    with pytest.raises(InputError, match="was left by a run that did not finish; run its workflow again"):
        open_source(str(path))
    group = zarr.open(str(path), mode="r")
    assert isinstance(group, zarr.Group)
    assert set(group.attrs) == {"convolume"}
    assert convolume.runner.verify(str(path), config=IN_PROCESS).block_count == failing - 1
    record = run(source, path, format_)
    told = f"resumed: {failing - 1} of {BLOCKS} blocks were done by an earlier attempt"
    assert [note for note in record.notes if note.startswith("resumed: ")] == ([told] if failing > 1 else [])
    np.testing.assert_array_equal(whole(path), EXPECTED)
    assert is_whole(path)
    assert not [file for file in tmp_path.rglob("*") if file.name.endswith((".__lock", ".partial", ".part"))]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_file_is_watched(source: str, tmp_path: Path, format_: Format) -> None:
    """One bit of any file of voxels, or all of it."""
    path = tmp_path / "sum.zarr"
    run(source, path, format_)
    files = [file for file in path.rglob("*") if file.is_file() and file.name.isdecimal()]
    assert len(files) == (BLOCKS - 1 if format_ == "zarr" else BLOCKS - 1 + 2)
    for file in files:
        data = file.read_bytes()
        middle = len(data) // 2
        for changed in (data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :], data[:-9], None):
            file.unlink()
            if changed is not None:
                file.write_bytes(changed)
            (flaw,) = convolume.runner.verify(str(path), config=IN_PROCESS).flaws
            assert (flaw.what, flaw.file) == ("missing" if changed is None else "damaged", str(file))
            file.write_bytes(data)
    assert is_whole(path)


def test_another_format_is_another_run(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one of them left unfinished is not gone on with as another, and finished ones replace each other."""
    path = tmp_path / "sum.zarr"
    break_off(monkeypatch, 3, source, path, "ome-zarr-0.4")
    with pytest.raises(InputError, match=r"outputs\.sum\.format was \"ome-zarr-0\.4\" and is \"zarr\""):
        run(source, path, "zarr")
    for format_ in (*FORMATS, *FORMATS[::-1]):
        run(source, path, format_, if_exists="overwrite")
        np.testing.assert_array_equal(whole(path), EXPECTED)
        assert is_whole(path)
        with pytest.raises(InputError, match="exists already"):
            run(source, path, format_)


@pytest.mark.parametrize("format_", FORMATS)
def test_broken_off_between_metadata_and_mark(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: Format
) -> None:
    """The image is visible, and the run is not closed: the next attempt writes no voxel, and closes it."""
    path = tmp_path / "sum.zarr"
    with monkeypatch.context() as patched:
        patched.setattr("convolume.resume.Undertaking.close", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(source, path, format_)
    np.testing.assert_array_equal(whole(path), EXPECTED)
    with monkeypatch.context() as patched:
        patched.setattr(ZarrArray, "write", lambda *_: 1 / 0)
        run(source, path, format_)
    np.testing.assert_array_equal(whole(path), EXPECTED)
    assert is_whole(path)


@pytest.mark.parametrize("format_", FORMATS)
def test_metadata_half_written_go(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: Format
) -> None:
    """Under the names that this package gives them."""
    path = tmp_path / "sum.zarr"
    break_off(monkeypatch, 3, source, path, format_)
    left = [path / f"{name}.abcd" for name in ("zarr.json", ".zattrs", ".zgroup")]
    for file in left:
        file.touch()
    run(source, path, format_)
    assert not any(file.exists() for file in left)


def test_plain_array(source: str, tmp_path: Path) -> None:
    """One array, sharded as asked, with its axes' names; nothing else but where it comes from and its voxel size."""
    path = tmp_path / "sum.zarr"
    run(source, path, "zarr", [6, 128, 128], shards=[6, 128, 128], dtype="uint16")
    array = zarr.open_array(path, mode="r", zarr_format=3)
    np.testing.assert_array_equal(np.asarray(array), EXPECTED.astype("uint16"))
    assert (array.shards, array.chunks, array.metadata.dimension_names) == ((6, 128, 128), (6, 64, 64), ("z", "y", "x"))
    assert list(array.attrs) == ["convolume"]
    ours = array.attrs["convolume"]
    assert ours["finished"] is True
    assert ours["axes"][0] == {"name": "z", "type": "space", "unit": "micrometer", "spacing": 2.0, "translation": 1.0}
    assert "format: zarr" in ours["workflow"]
    assert convolume.Volume.open(str(path)).gaussian("1 um").info.space_spacing_um == (2.0, 0.5, 0.5)


def _write_in_fork(sink: Any, region: Region) -> None:
    sink.write(0, region, np.full(region.shape, 7, "uint8"))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("format_", FORMATS)
def test_forked_processes_write(tmp_path: Path, format_: Format) -> None:
    """There tensorstore cannot be used, and other means serve, before the array's metadata are in their place too."""
    options = SinkOptions((4, 5), format=format_)
    sink = create_sink(str(tmp_path / "new.zarr"), ImageInfo((8, 5), "uint8", AXES[1:]), options)
    sink.create()
    sink.write(0, Region((0, 0), (4, 5)), np.full((4, 5), 3, "uint8"))
    process = multiprocessing.get_context("fork").Process(target=_write_in_fork, args=(sink, Region((4, 0), (8, 5))))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    sink.finish({}, ())
    voxels = open_source(sink.path).read(Region.whole((8, 5)))
    np.testing.assert_array_equal(voxels, np.repeat([3, 7], 4)[:, None].repeat(5, axis=1))
