"""What is refused, before anything is written: by what message, at which place of the YAML, with which exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from convolume import cli
from convolume.errors import InputError
from convolume.regions import Region
from convolume.registry import member_names
from convolume.stores import create_sink, memory, open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

KNOWN = ", ".join(member_names("stores"))
WRITTEN = "memory:, .ome.zarr, .zarr, .nii, .nii.gz, .ome.tif, .ome.tiff, .tif, .tiff"
IMAGE = np.arange(2 * 4 * 6 * 8, dtype=np.float32).reshape(2, 4, 6, 8)
WORKFLOW = """\
input:
  path: {input}
  {selection}
outputs:
  mean:
    path: {output}
    if_exists: {if_exists}
    steps:
      - convolve: {{kernel: {kernel}, origin: {origin}}}
{more}
"""
INPUT = "<yaml>:2:9: input.path: "
SELECTION = "<yaml>:3:"
OUTPUT = "<yaml>:6:11: outputs.mean.path: "
STEP = "<yaml>:9:19: outputs.mean.steps[0].convolve: "
KERNEL = "<yaml>:9:28: outputs.mean.steps[0].convolve.kernel: "
ANOTHER = "choose another path"
GONE_S = 30.0


def write_image(path: Path) -> None:
    """Write an OME-Zarr of two channels."""
    memory.put("refusals", IMAGE)
    sink = create_sink(str(path), open_source("memory:refusals").info)
    sink.create()
    sink.write(0, Region.whole(IMAGE.shape), IMAGE)
    sink.finish({}, ((0.0, 1.0, 0.0, 1.0),) * 2)


def write_group(path: Path, ome: dict[str, Any]) -> None:
    """Write a Zarr group with OME attributes."""
    path.mkdir()
    document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5", **ome}}}
    (path / "zarr.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with an image, links to it, kernels and things that are no image."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_image(folder / "brain.ome.zarr")
    write_image(folder / "there.ome.zarr")
    (folder / "link").symlink_to("brain.ome.zarr")
    (folder / "here").symlink_to(".")
    (folder / "text.txt").write_text("no image", encoding="utf-8")
    (folder / "plain.zarr").mkdir()
    wells = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}]
    write_group(folder / "plate.zarr", {"plate": {"columns": [{"name": "1"}], "rows": [{"name": "A"}], "wells": wells}})
    write_group(folder / "series.zarr", {"bioformats2raw.layout": 3})
    np.save(folder / "complex.npy", np.ones((3, 3), np.complex128))
    np.save(folder / "nan.npy", np.array([1, np.nan]))
    np.save(folder / "empty.npy", np.ones((0, 3)))
    return folder


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Return everything below a folder, with size and time."""
    found = {}
    for place in folder.rglob("*"):
        status = place.lstat()
        found[str(place.relative_to(folder))] = (status.st_size if place.is_file() else 0, status.st_mtime_ns)
    return found


def written(folder: Path, **changes: str) -> Path:
    """Write a workflow that is right but for the changes."""
    usual = {
        "input": "brain.ome.zarr",
        "output": "out.ome.zarr",
        "selection": "level: 0",
        "if_exists": "error",
        "kernel": "[1, 2, 3]",
        "origin": "0",
        "more": "",
    }
    file = folder / "workflow.yaml"
    file.write_text(WORKFLOW.format_map({**usual, **changes}), encoding="utf-8")
    return file


def command(name: str, file: Path, *overrides: str) -> Result:
    """Call the command line in this process, with threads."""
    sets = [part for override in ("cluster=in_process", "device=numpy", *overrides) for part in ("--set", override)]
    return CliRunner().invoke(cli.commands, [name, str(file), *sets], prog_name="convolume")


def refused(folder: Path, *overrides: str, **changes: str) -> str:
    """Return how `run` refuses a workflow: nothing was written, `plan` says the same, the code is the user's."""
    file = written(folder, **changes)
    before = tree(folder)
    results = [command(name, file, *overrides) for name in ("run", "plan")]
    assert tree(folder) == before
    assert [result.exit_code for result in results] == [InputError.exit_code] * 2 == [2, 2]
    assert [result.stdout for result in results] == ["", ""]
    assert results[0].stderr == results[1].stderr
    head, _, message = results[0].stderr.partition("\n")
    assert head == f"error: 1 mistake in {file}:"
    return message.rstrip("\n").replace(str(file), "<yaml>").replace(str(folder), "<folder>")


def test_the_workflow_itself_is_right(folder: Path) -> None:
    """What the other tests change is all that is wrong with it."""
    result = command("run", written(folder))
    assert (result.exit_code, result.stderr) == (0, "")
    assert open_source(str(folder / "out.ome.zarr")).info.shape == IMAGE.shape


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing.zarr", "<folder>/nothing.zarr: there is no such file or folder"),
        ("text.txt", f"<folder>/text.txt: none of the formats that are known ({KNOWN}) is found there"),
        ("plain.zarr", f"<folder>/plain.zarr: none of the formats that are known ({KNOWN}) is found there"),
        ("memory:nothing", "memory:nothing: no such image in this process's memory"),
        ("sample:moon", "sample:moon: there is no such sample (there are: mni152-t1)"),
        (
            "plate.zarr",
            (
                "<folder>/plate.zarr: is a plate of 1 wells, not one image; write the path of one field, such as "
                "<folder>/plate.zarr/A/1/0"
            ),
        ),
        (
            "series.zarr",
            (
                "<folder>/series.zarr: is a bioformats2raw series without an image; copy it again, or convert the "
                "image again"
            ),
        ),
    ],
)
def test_input(folder: Path, path: str, message: str) -> None:
    """Nothing there, no format, or a group that holds images and is none."""
    assert refused(folder, input=path).startswith(INPUT + message)


@pytest.mark.parametrize(
    ("selection", "place", "message"),
    [
        ("level: 3", "10: input.level", "level 3 is not there; there are 1 (0 to 0)"),
        ("channel: 7", "12: input.channel", "channel 7 is not there; there are 2 (0 to 1)"),
        ("channel: dapi", "12: input.channel", "there is no channel 'dapi' (there are: Channel 0, Channel 1)"),
        (
            "time: 0",
            "9: input.time",
            "a time point is asked for, and the image's axes, 'czyx', hold none; leave it out",
        ),
        (
            "region: {z: [1, 9]}",
            "11: input.region",
            "region: z from 1 to 9 does not lie in the image, whose z goes from 0 to 4 (the end is not included)",
        ),
        (
            "dataset: raw",
            "12: input.dataset",
            "the dataset 'raw' is named, and this is no file of datasets, as HDF5 is; leave it out",
        ),
        ("region: {q: [1, 2]}", "11: input.region", "region: there is no axis 'q' (there are: c, z, y, x)"),
    ],
)
def test_parts_that_are_not_there(folder: Path, selection: str, place: str, message: str) -> None:
    """Each at its own place, not at the path's."""
    assert refused(folder, selection=selection) == f"{SELECTION}{place}: <folder>/brain.ome.zarr: {message}"


def test_voxel_sizes_in_two_units(folder: Path) -> None:
    """They are told at their place too."""
    message = "<yaml>:3:12: input.spacing: 1 um, 2 mm: write the voxel sizes of all axes in one unit"
    assert refused(folder, selection="spacing: [1 um, 2 mm]") == message


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (
            "[[[[1]]]]",
            STEP + "the kernel has 4 axes (shape (1, 1, 1, 1)) and the filter works on 3 axes (z, y, x): "
            "give a kernel with 3 or fewer",
        ),
        ("[]", KERNEL + "the kernel has shape (0,): it needs at least one axis and one weight"),
        ("[1, .nan]", KERNEL + "the kernel's weight at (1,) is nan: weights must be finite"),
        ("[1, 1j]", KERNEL + "the kernel is not made of numbers: '1' is one of its weights"),
        ("[[1], [1, 2]]", KERNEL + "the kernel's rows differ in length: every row of an axis needs as many weights"),
        (
            "complex.npy",
            STEP + "kernel file <folder>/complex.npy: the kernel is complex: give real weights (filter the two parts "
            "one by one)",
        ),
        ("nan.npy", STEP + "kernel file <folder>/nan.npy: the kernel's weight at (1,) is nan: weights must be finite"),
        (
            "empty.npy",
            STEP + "kernel file <folder>/empty.npy: the kernel has shape (0, 3): it needs at least one axis and one "
            "weight",
        ),
        (
            "text.txt",
            STEP + "kernel file <folder>/text.txt: <folder>/text.txt: none of the formats that are known "
            f"({KNOWN}) is found there",
        ),
    ],
)
def test_kernel(folder: Path, kernel: str, message: str) -> None:
    """More axes than the image, empty, complex, not finite, not numbers; in the YAML or in a file."""
    assert refused(folder, kernel=kernel) == message


@pytest.mark.parametrize(("origin", "value"), [("2", 2), ("-2", -2), ("[2]", 2)])
def test_origin(folder: Path, origin: str, value: int) -> None:
    """It is scipy's rule."""
    message = f"origin {value} on the kernel's axis 0 is out of range: a size of 3 allows -1 to 1"
    assert refused(folder, origin=origin) == STEP + message


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("link", "it is the input itself"),
        ("link/", "it is the input itself"),
        ("here/here/brain.ome.zarr/", "it is the input itself"),
        ("brain.ome.zarr/0", "it lies inside the input"),
        ("link/../brain.ome.zarr/new/out.ome.zarr", "it lies inside the input"),
        ("link/new.ome.zarr/", "it lies inside the input"),
        (".", "the input lies inside it"),
        ("here/", "the input lies inside it"),
        ("../data", "the input lies inside it"),
        ("..", "the input lies inside it"),
    ],
)
@pytest.mark.parametrize("if_exists", ["error", "overwrite"])
def test_output_that_meets_the_input(folder: Path, path: str, reason: str, if_exists: str) -> None:
    """By any spelling, and not even `overwrite` lets it pass."""
    told = refused(folder, output=path, if_exists=if_exists)
    assert told.startswith(OUTPUT)
    assert told.endswith(f": {reason}: the input would be destroyed; {ANOTHER}")


@pytest.mark.parametrize(
    "path", ["brain.ome.zarr", "./brain.ome.zarr//", "x/../brain.ome.zarr", "../data/brain.ome.zarr"]
)
def test_output_that_is_the_input(folder: Path, path: str) -> None:
    """Where the text alone tells it, reading the document does."""
    message = "<folder>/brain.ome.zarr is the path of the input too: each needs its own"
    assert refused(folder, output=path, if_exists="overwrite") == OUTPUT + message


def test_input_by_a_link(folder: Path) -> None:
    """The other way round."""
    told = refused(folder, input="link", output="here/brain.ome.zarr", if_exists="overwrite")
    assert told == OUTPUT + (
        f"<folder>/here/brain.ome.zarr: it is the input itself: the input would be destroyed; {ANOTHER}"
    )


@pytest.mark.parametrize(
    ("path", "if_exists", "message"),
    [
        ("there.ome.zarr", "error", "exists already; choose another path, or `if_exists: overwrite`"),
        ("plain.zarr", "overwrite", "is a folder that is no Zarr hierarchy, and is never overwritten; " + ANOTHER),
        ("text.txt/x.ome.zarr", "error", f"cannot be made, because <folder>/text.txt is a file; {ANOTHER}"),
        ("text.txt", "overwrite", f"no format writes to such a path; give it one of these: {WRITTEN}"),
        ("out.png", "error", f"no format writes to such a path; give it one of these: {WRITTEN}"),
    ],
)
def test_output_that_cannot_be_made(folder: Path, path: str, if_exists: str, message: str) -> None:
    """Something is there, or nothing can be."""
    assert refused(folder, output=path, if_exists=if_exists) == f"{OUTPUT}<folder>/{path}: {message}"


@pytest.mark.parametrize(
    ("setting", "place", "message"),
    [
        ("chunks: [2, 2]", "13: outputs.second.chunks: ", "chunks (2, 2) have 2 numbers, and the image has 4 axes"),
        ("shards: [2, 2]", "13: outputs.second.shards: ", "shards (2, 2) have 2 numbers, and the image has 4 axes"),
        (
            "shards: [1, 2, 2, 2]\n    format: ome-zarr-0.4",
            "13: outputs.second.shards: ",
            (
                "shards (1, 2, 2, 2): this format has none, each chunk is a file of its own; leave `shards` out, or "
                "write `format: ome-zarr`"
            ),
        ),
    ],
)
def test_units_of_storage(folder: Path, setting: str, place: str, message: str) -> None:
    """They are told at their own place."""
    told = refused(folder, more=f"  second:\n    path: second.ome.zarr\n    {setting}")
    assert told == f"<yaml>:12:{place}<folder>/second.ome.zarr: {message}"


@pytest.mark.parametrize("format_", ["ome-zarr-0.4", "zarr"])
def test_format_of_an_output_in_memory(folder: Path, format_: str) -> None:
    """An array in memory has none."""
    told = refused(folder, more=f"  second:\n    path: memory:second\n    format: {format_}")
    message = f"memory:second: cannot be written as `format: {format_}`; leave `format` out, or write to a folder"
    assert told == f"<yaml>:12:13: outputs.second.format: {message}"


def test_format_that_is_none(folder: Path) -> None:
    """All are told."""
    told = refused(folder, more="  second:\n    path: second.zarr\n    format: zar")
    message = "must be one of ome-zarr, ome-zarr-0.4, zarr, not 'zar'; did you mean 'zarr'?"
    assert told == f"<yaml>:12:13: outputs.second.format: {message}"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_no_permission(folder: Path) -> None:
    """Not even root can write there; asking the system for the right to would say yes."""
    told = refused(folder, output="/proc/new/out.ome.zarr")
    assert re.fullmatch(
        re.escape(f"{OUTPUT}/proc/new/out.ome.zarr: nothing can be written in /proc (") + r".+\); " + ANOTHER, told
    )


def test_not_enough_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All outputs together are counted, before compression."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 (the type that shutil returns)
    level = IMAGE.nbytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: usage(10**6, 0, 2 * level - 1))
    second = "  second:\n    path: second.ome.zarr"
    message = (
        "<yaml>:11:11: outputs.second.path: <folder>/second.ome.zarr: up to 3.07e-06 GB will be written, and 3.07e-06 "
        "GB are free on the disk of <folder>; make room, choose another disk, or filter a smaller region"
    )
    assert refused(folder, more=second) == message
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: usage(10**6, 0, 2 * level))
    assert command("run", written(folder, more=second)).exit_code == 0


def test_no_outputs(folder: Path) -> None:
    """None are named, or the key is missing."""
    file = folder / "workflow.yaml"
    for text, message in (
        ("input: {path: brain.ome.zarr}\noutputs: {}\n", "<yaml>:2:10: outputs: needs at least 1 entry, and has 0"),
        ("input: {path: brain.ome.zarr}\n", "<yaml>:1:1: outputs: is missing"),
    ):
        file.write_text(text, encoding="utf-8")
        before, result = tree(folder), command("run", file)
        assert (result.exit_code, tree(folder)) == (2, before)
        assert result.stderr.replace(str(file), "<yaml>") == f"error: 1 mistake in <yaml>:\n{message}\n"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./out.ome.zarr/", "<folder>/out.ome.zarr is the path of outputs.mean too: each needs its own"),
        ("here/out.ome.zarr", "<folder>/here/out.ome.zarr: it is outputs.mean itself: each needs a place of its own; "),
        (
            "out.ome.zarr/x.zarr",
            "<folder>/out.ome.zarr/x.zarr: it lies inside outputs.mean: each needs a place of its ",
        ),
    ],
)
@pytest.mark.parametrize("if_exists", ["error", "overwrite"])
def test_two_outputs_that_meet(folder: Path, path: str, message: str, if_exists: str) -> None:
    """One path by any spelling, or one inside the other."""
    second = f"  second:\n    path: {path}\n    if_exists: {if_exists}"
    told = refused(folder, more=second, if_exists=if_exists)
    assert told.startswith(f"<yaml>:11:11: outputs.second.path: {message}")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("brain.ome.zarr/f.png", "it lies inside input: each needs a place of its own; choose another path"),
        ("out.ome.zarr/f.png", "it lies inside outputs.mean: each needs a place of its own; choose another path"),
        ("text.txt/f.png", "cannot be made, because <folder>/text.txt is a file; choose another path"),
        ("plot.png", "is a folder; write the name of a file, such as <folder>/plot.png/figure.png"),
    ],
)
def test_figure_that_cannot_be_drawn(folder: Path, path: str, message: str) -> None:
    """It is told before the run, not at its end."""
    (folder / "plot.png").mkdir()
    told = refused(folder, more=f"figures:\n  - path: {path}\n    panels: [input]")
    assert told == f"<yaml>:11:11: figures[0].path: <folder>/{path}: {message}"


def test_all_mistakes_at_once(folder: Path) -> None:
    """What reading can see is told together."""
    file = written(folder, kernel="[]", if_exists="never", selection="levle: 0")
    result = command("run", file)
    assert result.exit_code == 2
    assert result.stderr.replace(str(file), "<yaml>").splitlines() == [
        "error: 3 mistakes in <yaml>:",
        (
            "<yaml>:3:3: input.levle: this key is not known; did you mean 'level'? (there are: path, level, channel, "
            "time, region, axes, spacing, dataset, missing)"
        ),
        "<yaml>:7:16: outputs.mean.if_exists: must be one of error, overwrite, not 'never'",
        KERNEL + "the kernel has shape (0,): it needs at least one axis and one weight",
    ]


@pytest.mark.parametrize("strategy", ["windows", "overlap", "in_memory"])
@pytest.mark.parametrize("cluster", ["in_process", "local"])
def test_failed_block(folder: Path, cluster: str, strategy: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A line names output, place, file and cause, the last the command that goes on; what was written does not open."""
    chunk = next(place for place in (folder / "brain.ome.zarr" / "0" / "c").rglob("*") if place.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 255
    chunk.write_bytes(data)
    where = (f"cluster={cluster}", "workers=1", "dashboard=false")
    result = command("run", written(folder), f"strategy={strategy}", *where)
    assert result.exit_code == 3
    first, *summary, last = result.stderr.splitlines()
    assert re.fullmatch(
        r"error: output 'mean', block \(\d, 0, 0, 0\) at \S.*: \S*brain\.ome\.zarr/0: voxels .* cannot be read; the "
        r"file is damaged, or not there any more \(.*\)",
        first,
    )
    # dask drives an overlap run, and ends it at the first failure.
    finished = {"windows": 1, "in_memory": 0}
    told = [f"1 failed, {finished[strategy]} finished: the outputs stay unfinished"] if strategy in finished else []
    assert summary == told
    assert last.startswith(f"when the cause is mended, go on with: convolume run {folder}/workflow.yaml --set ")
    # Worker processes write to the same terminal.
    assert capfd.readouterr() == ("", "")
    with pytest.raises(InputError, match="did not finish"):
        open_source(str(folder / "out.ome.zarr"))


@dataclass
class Slow:
    """A real run in processes of its own that takes long enough to be interrupted."""

    process: subprocess.Popen[str]
    outputs: Path

    @classmethod
    def start(cls, folder: Path, cluster: str) -> Slow:
        """Start it."""
        text = (
            "input: {path: sample:mni152-t1}\nblock: [1, 64, 64]\noutputs:\n  slow:\n    path: slow.ome.zarr\n"
            "    chunks: [1, 64, 64]\n    shards: [1, 64, 64]\n    steps: [{gaussian: {sigma: 8}}]\n"
        )
        (folder / "slow.yaml").write_text(text, encoding="utf-8")
        config = f"cluster: {cluster}\nworkers: 1\n"
        (folder / "where.yaml").write_text(config, encoding="utf-8")
        names = [str(folder / name) for name in ("slow.yaml", "where.yaml")]
        command = [sys.executable, "-m", "convolume", "run", names[0], "--config", names[1]]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
        return cls(subprocess.Popen(command, text=True, **pipes), folder / "slow.ome.zarr")  # noqa: S603 (our own program)

    def wait_for_blocks(self) -> None:
        """Wait until blocks are under way."""
        assert self.process.stdout is not None
        begun = any(line.startswith("filter: ") for line in iter(self.process.stdout.readline, ""))
        assert begun, self.process.stderr and self.process.stderr.read()

    def wait_for_workers(self) -> None:
        """Wait until worker processes begin to start, beside the run and the tracker of its resources."""
        until = time.monotonic() + GONE_S
        while len(self.processes()) < 3:
            assert self.process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)

    def processes(self) -> list[int]:
        """Return all processes of the run that are there, by their session."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = re.sub(r".*\) ", "", (folder / "stat").read_text()).split()[:4]
            except (OSError, ValueError):
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(folder.name))
        return found


def _terminate(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)


def _press_control_c(process: subprocess.Popen[str]) -> None:
    # A terminal's Ctrl-C goes to all processes of the foreground.
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are counted in /proc")
@pytest.mark.parametrize("interrupt", [_terminate, _press_control_c])
@pytest.mark.parametrize(
    ("cluster", "wait"),
    [("in_process", Slow.wait_for_blocks), ("local", Slow.wait_for_blocks), ("local", Slow.wait_for_workers)],
    ids=["threads", "workers", "starting"],
)
def test_interrupted(
    tmp_path: Path, cluster: str, wait: Callable[[Slow], None], interrupt: Callable[[subprocess.Popen[str]], None]
) -> None:
    """Within seconds, by one line, with code 130; no process stays, and the output does not open."""
    slow = Slow.start(tmp_path, cluster)
    try:
        wait(slow)
        interrupt(slow.process)
        _, errors = slow.process.communicate(timeout=GONE_S)
        told = "interrupted: outputs that are not finished do not open as images; run it again to go on"
        assert errors == f"error: {told}\n"
        assert slow.process.returncode == 130
        _wait_until_gone(slow)
    finally:
        for process in slow.processes():
            os.kill(process, signal.SIGKILL)
    message = "no such file" if wait is Slow.wait_for_workers else "did not finish"
    with pytest.raises(InputError, match=message):
        open_source(str(slow.outputs))


def _wait_until_gone(slow: Slow) -> None:
    until = time.monotonic() + GONE_S
    while slow.processes() and time.monotonic() < until:
        time.sleep(0.05)
    assert slow.processes() == []
