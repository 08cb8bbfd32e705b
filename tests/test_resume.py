"""A run that was broken off goes on: what is marked is not done again, what is different is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorstore
import yaozarrs
import zarr
from click.testing import CliRunner
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

import convolume
from convolume import cli
from convolume.errors import DeviceMemoryError, InputError, RunError
from convolume.execution import pyramid, task
from convolume.execution.run_file import RunFile
from convolume.image import ImageInfo, default_axes
from convolume.regions import Region
from convolume.stores import create_sink, open_source
from convolume.testing.faults import FailingDevice, Fuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from convolume.records import RunRecord

SHAPE, CHUNK = (12, 150, 70), (12, 64, 64)
BLOCKS = 6
# Blocks of the coarser level.
LEVEL_BLOCKS = 2
NEVER = 10**9
RNG = np.random.default_rng(7)
IMAGE = RNG.integers(0, 200, SHAPE).astype(np.float32)
# One block of fill value only, and one of another constant: a chunk's file tells nothing of the first.
IMAGE[:, 64:128, :64] = 0
IMAGE[:, :64, :64] = 5


@dataclass
class Folder:
    """A folder with an image and a workflow of two outputs."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Write the image."""
        self.write_input(IMAGE)
        self.values = {
            "input": {"path": self.name("image.ome.zarr")},
            "block": list(CHUNK),
            "mode": "constant",
            "outputs": {
                "copy": {"path": self.name("copy.ome.zarr"), "chunks": list(CHUNK)},
                "sum": {
                    "path": self.name("sum.ome.zarr"),
                    "chunks": list(CHUNK),
                    "steps": [{"box": {"size": 3, "statistic": "sum"}}],
                },
            },
        }

    def name(self, path: str) -> str:
        """Return a path in the folder."""
        return str(self.path / path)

    def write_input(self, image: npt.NDArray[Any], name: str = "image.ome.zarr") -> None:
        """Write an image."""
        sink = create_sink(self.name(name), ImageInfo(image.shape, image.dtype.name, default_axes(image.ndim)))
        sink.create()
        sink.write(0, Region.whole(image.shape), image)
        sink.finish({}, ((0.0, 1.0, 0.0, 1.0),))

    def run(self, *overrides: str, **settings: Any) -> RunRecord:
        """Run the workflow in this process, one block at a time."""
        config = {"cluster": "in_process", "threads_per_worker": 1, "device": "numpy"}
        return convolume.run(self.values, config=config, overrides=overrides, **settings)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return every level of every output, by a reader that is not ours."""
        return {
            f"{output}/{level}": np.asarray(zarr.open_array(self.name(f"{output}.ome.zarr/{level}"), mode="r")[...])
            for output in self.values["outputs"]
            for level in (0, 1)
        }

    def files(self) -> set[str]:
        """Return all files, those of chunks left out."""
        return {
            str(file.relative_to(self.path))
            for file in self.path.rglob("*")
            if file.is_file() and "c" not in file.relative_to(self.path).parts
        }


class BrokenOffError(Exception):
    """Stands for whatever ends a run."""


class Calls:
    """Counts the calls of a function, and breaks the run off at one of them: it and all that follow fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self.count, self.breaks_at = 0, NEVER
        self._function: Callable[..., Any] = getattr(module, name)
        monkeypatch.setattr(module, name, self)

    def __call__(self, *arguments: Any) -> Any:
        """Count, break off, or do it."""
        self.count += 1
        if self.count >= self.breaks_at:
            raise BrokenOffError
        return self._function(*arguments)

    def break_off(self, folder: Folder, at: int, **settings: Any) -> None:
        """Run until the call of that number, and begin to count anew."""
        self.count, self.breaks_at = 0, at
        with pytest.raises((RunError, BrokenOffError)):
            folder.run(**settings)
        self.count, self.breaks_at = 0, NEVER


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Make it."""
    return Folder(tmp_path)


@pytest.fixture
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, npt.NDArray[Any]]:
    """Return what an undisturbed run writes."""
    undisturbed = Folder(tmp_path_factory.mktemp("undisturbed"))
    undisturbed.run()
    return undisturbed.arrays()


def assert_same(folder: Folder, expected: dict[str, npt.NDArray[Any]]) -> None:
    """Compare all voxels, and let every reader open the image."""
    arrays = folder.arrays()
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], name)
    for output in folder.values["outputs"]:
        yaozarrs.validate_zarr_store(folder.name(f"{output}.ome.zarr"))


def assert_closed(folder: Folder) -> None:
    """Nothing stays but images, marks and what says whose they are."""
    images = {f"{name}.ome.zarr/{inner}zarr.json" for name in ("image", "copy", "sum") for inner in ("", "0/", "1/")}
    beside = {
        f"{name}.ome.zarr.convolume/{file}"
        for name in ("copy", "sum")
        for file in ("run.json", "plan.json", "all.marks")
    }
    assert folder.files() == images | beside


@pytest.mark.parametrize("failing", range(1, BLOCKS + 1))
def test_goes_on_after_any_block(
    folder: Folder, expected: dict[str, npt.NDArray[Any]], monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The blocks before are not done again, those of fill value only too; the record counts all of them."""
    blocks = Calls(monkeypatch, task, "filter_patch")
    blocks.break_off(folder, failing)
    with pytest.raises(InputError, match="was left by a run that did not finish; run its workflow again"):
        open_source(folder.name("sum.ome.zarr"))
    record = folder.run()
    assert blocks.count == BLOCKS - failing + 1
    assert_same(folder, expected)
    assert_closed(folder)
    assert (record.block_count, record.output_voxels) == (BLOCKS, 2 * IMAGE.size)
    assert (record.earlier_voxels > 0) == (failing > 1)
    done_now = record.output_voxels - record.earlier_voxels
    assert record.voxels_per_second == done_now / record.seconds_blocks
    assert record.outputs[0].maximum == IMAGE.max()
    notes = [note for note in record.notes if note.startswith("resumed: ")]
    told = f"resumed: {failing - 1} of {BLOCKS} blocks were done by an earlier attempt"
    assert notes == ([told] if failing > 1 else [])


@pytest.mark.parametrize("failing", range(1, 2 * LEVEL_BLOCKS + 1))
def test_goes_on_in_the_pyramid(
    folder: Folder, expected: dict[str, npt.NDArray[Any]], monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """It has marks of its own."""
    monkeypatch.setattr(pyramid, "_BLOCK_VOXELS", 1)
    blocks, means = Calls(monkeypatch, task, "filter_patch"), Calls(monkeypatch, pyramid, "block_mean")
    means.break_off(folder, failing)
    blocks.count = 0
    folder.run()
    assert (blocks.count, means.count) == (0, 2 * LEVEL_BLOCKS - failing + 1)
    assert_same(folder, expected)
    assert_closed(folder)


def test_a_crash_between_data_and_mark(
    folder: Folder, expected: dict[str, npt.NDArray[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of such a block is there, its mark is not: it is done again. A block of zeros has a mark and no file."""
    blocks, left = Calls(monkeypatch, task, "filter_patch"), Calls(monkeypatch, task, "leave_marks")
    left.break_off(folder, 4)
    chunks = {str(file.relative_to(folder.path)) for file in folder.path.rglob("c/0/*/*")}
    written = {name for name in chunks if name.startswith("copy")}
    assert written == {f"copy.ome.zarr/0/c/0/{y}/{x}" for y, x in np.ndindex(3, 2) if (y, x) != (1, 0)}
    blocks.count = 0
    folder.run()
    assert blocks.count == BLOCKS - 3
    assert_same(folder, expected)


@pytest.mark.parametrize("output", ["copy", "sum"])
@pytest.mark.parametrize("what", ["{}.ome.zarr", "{}.ome.zarr.convolume"])
def test_what_was_taken_away_is_done_again(
    folder: Folder, expected: dict[str, npt.NDArray[Any]], monkeypatch: pytest.MonkeyPatch, output: str, what: str
) -> None:
    """Marks without their image are none, and an image without marks is not gone on with."""
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 4)
    shutil.rmtree(folder.name(what.format(output)))
    if what.endswith(".convolume"):
        path = re.escape(folder.name(f"{output}.ome.zarr"))
        with pytest.raises(InputError, match=f"{path}: exists already; choose another path, or `if_exists: overwrite`"):
            folder.run()
        shutil.rmtree(folder.name(f"{output}.ome.zarr"))
    folder.run()
    assert_same(folder, expected)
    assert_closed(folder)


@pytest.mark.parametrize(
    ("name", "number"),
    [("convolume.stores.ome_zarr.OmeZarrSink.finish", 1), ("convolume.stores.ome_zarr.OmeZarrSink.finish", 2)],
)
def test_goes_on_where_only_the_end_is_missing(
    folder: Folder, expected: dict[str, npt.NDArray[Any]], monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    """One output may be whole already, and the other not."""
    blocks = Calls(monkeypatch, task, "filter_patch")
    finished: list[str] = []
    finish = convolume.stores.ome_zarr.OmeZarrSink.finish

    def fail(sink: Any, *arguments: Any) -> None:
        if len(finished) == number - 1:
            raise BrokenOffError
        finished.append(sink.path)
        finish(sink, *arguments)

    monkeypatch.setattr(name, fail)
    with pytest.raises(RunError, match=r"output '(copy|sum)' \(.*\), at its end: BrokenOffError"):
        folder.run()
    monkeypatch.setattr(name, finish)
    blocks.count = 0
    folder.run()
    assert blocks.count == 0
    assert_same(folder, expected)
    assert_closed(folder)


def test_a_finished_run_is_not_run_again(folder: Folder) -> None:
    """Its outputs exist, as those of anybody."""
    folder.run()
    with pytest.raises(InputError, match="exists already; choose another path, or `if_exists: overwrite`"):
        folder.run()
    with pytest.raises(InputError, match="exists already"):
        folder.run(restart=True)
    both = [f"outputs.{name}.if_exists=overwrite" for name in ("copy", "sum")]
    assert folder.run(*both).notes == folder.run(*both).notes


def test_what_was_chosen_stays(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block grid and methods are those of the stored plan, whatever this machine would choose now."""
    del folder.values["block"]
    kernel = {"kernel": np.outer([1, 2, 3, 4], [4, 3, 2, 1]).tolist(), "method": "auto"}
    folder.values["outputs"]["sum"]["steps"].append({"convolve": {**kernel, "kernel": [kernel["kernel"]]}})
    blocks = Calls(monkeypatch, task, "filter_patch")
    blocks.break_off(folder, 1)
    stored = json.loads(Path(folder.name("sum.ome.zarr.convolume/plan.json")).read_text())
    monkeypatch.setattr("convolume.drafting.whole_units", lambda *_: iter([CHUNK]))
    monkeypatch.setattr("convolume.planning.method._FEWEST_SUMS", 0)
    monkeypatch.setattr("convolume.planning.method._forecast_ns", lambda *_: {"fft": 1.0, "direct": 2.0})
    plan = convolume.plan(folder.values, config={"cluster": "in_process", "device": "numpy"})
    assert list(plan.block_shape_voxels) == stored["block_shape_voxels"]
    assert plan.block_reason == "the run that is resumed chose it"
    (choice,) = plan.outputs[1].methods
    assert (choice.name, choice.reason) == ("direct", "the run that is resumed chose it")
    folder.run()


DIFFERENT = [
    (["cval=1.5"], "cval was 0.0 and is 1.5"),
    (["block=[12, 64, 128]"], "block was [12, 64, 64] and is [12, 64, 70]"),
    (["outputs.sum.steps[0].box.size=5"], "outputs.sum.steps[0].box.size was 3 and is 5"),
    (["outputs.sum.dtype=uint16"], 'outputs.sum.dtype was "float32" and is "uint16"'),
    (["outputs.sum.overflow=error", "outputs.sum.dtype=uint16"], 'outputs.sum.overflow was "saturate" and is "error"'),
    (["outputs.copy.pyramid=false"], "outputs.copy.levels was [[12, 150, 70], [6, 75, 35]] and is [[12, 150, 70]]"),
    (["precision=double"], 'precision was "single" and is "double"'),
    (["input.region.z=[0, 6]"], "input.region.z was nothing and is [0, 6]"),
]


@pytest.mark.parametrize(("overrides", "told"), DIFFERENT, ids=[told for _, told in DIFFERENT])
def test_a_different_run_is_refused(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, overrides: list[str], told: str
) -> None:
    """By what differs, and how to begin anew; nothing that was written is touched."""
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 3)
    before = folder.files()
    with pytest.raises(InputError) as refusal:
        folder.run(*overrides)
    first = folder.name("copy.ome.zarr")
    assert str(refusal.value).startswith(f"{first}: was left unfinished by a run that differs: ")
    assert told in str(refusal.value)
    ending = "; begin anew with `--restart` (or `if_exists: overwrite`), which deletes what it wrote"
    assert str(refusal.value).endswith(ending)
    assert folder.files() == before


def test_another_input_is_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where it looks the same: it has another path; and one that was replaced has another identity."""
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 3)
    shutil.copytree(folder.name("image.ome.zarr"), folder.name("other.ome.zarr"))
    with pytest.raises(InputError, match=r'differs: input\.path was "\S*/image\.ome\.zarr" and is "\S*/other\.ome\.z'):
        folder.run(f"input.path={folder.name('other.ome.zarr')}")
    shutil.rmtree(folder.name("image.ome.zarr"))
    folder.write_input(IMAGE.astype(np.float64))
    told = r'differs: input\.identity was "zarr \w+" and is "zarr \w+" \(the input\'s metadata were changed\); '
    with pytest.raises(InputError, match=told) as refusal:
        folder.run()
    assert "files of the input" not in str(refusal.value)


def test_another_version_is_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its voxels may differ in their last bits."""
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 3)
    monkeypatch.setattr("convolume.fingerprint.version", lambda _name: "9.9")
    with pytest.raises(
        InputError, match=r'differs: program was "convolume 0\.1\.0" and is "convolume 9\.9"; begin anew'
    ):
        folder.run()


def test_outputs_of_different_runs_are_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no common state to go on from."""
    broken = Calls(monkeypatch, task, "filter_patch")
    both = folder.values["outputs"]
    for name in both:
        folder.values["outputs"] = {name: both[name]}
        broken.break_off(folder, 3)
    folder.values["outputs"] = both
    with pytest.raises(InputError, match="outputs 'copy', 'sum' were left unfinished by different runs; begin anew"):
        folder.run()


@pytest.mark.parametrize("how", ["restart", "overwrite"])
def test_begins_anew_where_that_is_asked_for(folder: Folder, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Marks of the earlier run do not count, not even those that a worker of it leaves now."""
    blocks = Calls(monkeypatch, task, "filter_patch")
    blocks.break_off(folder, 4)
    old = {file: file.read_bytes() for file in folder.path.glob("*.convolume/*.marks")}
    different = ["outputs.sum.steps[0].box.size=5"]
    if how == "overwrite":
        different += [f"outputs.{name}.if_exists=overwrite" for name in ("copy", "sum")]
    blocks.breaks_at = 2
    with pytest.raises(RunError):
        folder.run(*different, restart=how == "restart")
    for file, text in old.items():
        Path(f"{file}-late.marks").write_bytes(text)
    blocks.count, blocks.breaks_at = 0, NEVER
    folder.run(*different)
    assert blocks.count == BLOCKS - 1
    assert_closed(folder)
    assert folder.arrays()["sum/0"].max() > 9 * IMAGE.max()


def test_the_same_run_is_gone_on_with_though_it_may_overwrite(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night's work is not deleted because the workflow may replace an older image."""
    for output in folder.values["outputs"].values():
        output["if_exists"] = "overwrite"
    folder.run()
    blocks = Calls(monkeypatch, task, "filter_patch")
    blocks.break_off(folder, 4)
    folder.run()
    assert blocks.count == BLOCKS - 3
    blocks.break_off(folder, 4)
    folder.run(restart=True)
    assert blocks.count == BLOCKS


def test_what_is_in_memory_cannot_be_gone_on_with(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array may have been changed since; and an overlap run is one graph."""
    broken = Calls(monkeypatch, task, "filter_patch")
    convolume.stores.memory.put("resume", IMAGE)
    for key, value, why in (
        ("input", {"path": "memory:resume"}, "its input memory:resume was in a process's memory"),
        ("strategy", "overlap", "its blocks were driven by `overlap`, as one graph"),
    ):
        before = folder.values.get(key)
        folder.values[key] = value
        if key == "strategy":
            monkeypatch.setattr("convolume.execution.overlap.filter_patch", broken)
        broken.break_off(folder, 3, restart=True)
        message = f"was left unfinished by a run that cannot be resumed, for {why}; begin anew with `--restart`"
        with pytest.raises(InputError, match=re.escape(message)):
            folder.run()
        folder.values[key] = before
    convolume.stores.memory.drop("resume")


def test_the_disk_of_a_resumed_run(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of what is needed is there already."""
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 5)
    asked: list[int] = []
    monkeypatch.setattr("convolume.stores.check_disk_space", lambda _path, needed_bytes: asked.append(needed_bytes))
    folder.run()
    assert asked == [0]


def test_notes_of_an_earlier_attempt_stay(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done otherwise than planned stands in the record, whichever attempt did it."""
    fuse, open_device = Fuse(2, lambda: DeviceMemoryError("too large"), times=2), task.open_device
    with monkeypatch.context() as patched:
        patched.setattr(task, "open_device", lambda info: FailingDevice(open_device(info), fuse))
        Calls(patched, task, "filter_patch").break_off(folder, 4)
    record = folder.run()
    (note,) = (each for each in record.notes if "for want of memory" in each)
    assert note.startswith(f"1 of {BLOCKS} blocks: filtered in 3 parts, for want of memory on NumPy")


def test_half_written_files_go(
    folder: Folder, expected: dict[str, npt.NDArray[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the names that tensorstore, zarr-python and this package give them."""
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 3)
    inside = ["0/c/0/0/1.__lock", "1/c/0/0/0.1234.partial", "zarr.json.abcd"]
    beside = ["all.marks.part", "run.json.1234.part"]
    for name in [*inside, *(f"../sum.ome.zarr.convolume/{name}" for name in beside)]:
        file = Path(folder.name("sum.ome.zarr"), name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    folder.run()
    assert_same(folder, expected)
    assert_closed(folder)
    assert not [file for file in folder.path.rglob("*") if file.name.endswith((".__lock", ".partial", ".part"))]


def test_a_run_that_someone_else_carries_out(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, even with `--restart`; the one that goes on is not disturbed."""
    refusals: list[str] = []

    def during(*arguments: Any) -> Any:
        if not refusals:
            for restart in (False, True):
                with pytest.raises(InputError) as refusal:
                    folder.run(restart=restart)
                refusals.append(str(refusal.value))
        return patch(*arguments)

    patch = task.filter_patch
    monkeypatch.setattr(task, "filter_patch", during)
    folder.run()
    told = re.escape(folder.name("copy.ome.zarr")) + r": is being written by process \d+ on \S+, since .*; wait for it "
    assert [bool(re.match(told, refusal)) for refusal in refusals] == [True, True]
    assert_closed(folder)


def test_does_not_open_elsewhere_before_it_is_whole(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in what validates OME-Zarr nor in what reads it; the bare arrays inside the format cannot hide."""
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 3)
    path = folder.name("sum.ome.zarr")
    with pytest.raises(ValueError, match="ome"):
        yaozarrs.validate_zarr_store(path)
    with pytest.raises(KeyError):
        zarr.open_group(path, mode="r").attrs["ome"]
    location = parse_url(path)
    assert location is None or list(Reader(location)()) == []
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    with pytest.raises(ValueError, match="node_type"):
        tensorstore.open(spec).result()


def test_the_plan_tells_that_a_run_goes_on(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how much is left."""
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 4)
    plan = convolume.plan(folder.values, config={"cluster": "in_process", "device": "numpy"})
    assert plan.notes[-1] == f"goes on with a run that was broken off: 3 of {BLOCKS} blocks are done"


def test_the_command_goes_on(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 at the end, 2 where it is refused; nothing is left where nothing was begun."""
    Path(folder.name("w.yaml")).write_text(json.dumps(folder.values))
    arguments = ["run", folder.name("w.yaml"), "--set", "cluster=in_process", "--set", "device=numpy"]
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 4)
    refused = CliRunner().invoke(cli.commands, [*arguments, "--set", "cval=2"])
    assert (refused.exit_code, refused.stderr.count("cval was 0.0 and is 2.0")) == (2, 1)
    done = CliRunner().invoke(cli.commands, arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"filter: 0 of {BLOCKS - 3} blocks (0%)" in done.stdout
    assert RunFile.read(folder.name("sum.ome.zarr.convolume")).state == "finished"  # type: ignore[union-attr]


def test_an_input_of_other_axes_is_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run chose for its own axes fits none of the new ones, and the refusal says what differs."""
    Calls(monkeypatch, task, "filter_patch").break_off(folder, 2)
    shutil.rmtree(folder.name("image.ome.zarr"))
    folder.write_input(IMAGE[0])
    for output in folder.values["outputs"].values():
        del output["chunks"]
    del folder.values["block"]
    with pytest.raises(InputError, match="was left unfinished by a run that differs: "):
        folder.run()
