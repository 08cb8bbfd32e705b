"""Runs that do not fit: what the refusal says, and that what it offers helps."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import convolume
from convolume.errors import InputError, RunError
from convolume.execution import task
from convolume.planning.blocks import BlockOption
from convolume.planning.plan import Resources, check_memory
from convolume.planning.reading import Reading
from convolume.stores import _layout

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
SHAPE = (64, 128, 128)


def refusal(base_mib: int, limit_mib: int, workers: int, threads: int) -> str:
    """Return what is said of blocks of 8 MiB a thread beside what a process holds; nothing where they fit."""

    def needs(at_once: int, block: tuple[int, ...]) -> int:
        return base_mib * MIB + at_once * 8 * prod(block)

    chosen = BlockOption(SHAPE, Reading(0, 0, 0, 0), 1.0, needs(threads, SHAPE))
    try:
        check_memory(chosen, needs, Resources("local", workers, threads, limit_mib * MIB), "'laplace' needs most")
    except InputError as error:
        return str(error)
    return ""


def test_what_fits_is_not_refused() -> None:
    """To the byte."""
    assert refusal(100, 116, 1, 2) == ""


@pytest.mark.parametrize(
    ("resources", "ways"),
    [
        (
            (100, 110, 1, 2),
            ["`threads_per_worker: 1` (108 MiB)", "smaller blocks, `block: [32, 64, 64]` (102 MiB)"],
        ),
        (
            (100, 101, 2, 2),
            [
                "`workers: 1` (202 MiB for each)",
                "`threads_per_worker: 1` (108 MiB, not enough by itself)",
                "smaller blocks, `block: [16, 32, 32]` (101 MiB)",
            ],
        ),
        (
            (100, 108, 1, 3),
            ["`threads_per_worker: 1` (108 MiB)", "smaller blocks, `block: [32, 64, 64]` (103 MiB)"],
        ),
        (
            (100, 100, 1, 2),
            [
                "`threads_per_worker: 1` (108 MiB, not enough by itself)",
                "smaller blocks do not help: with 1 of 8 x 16 x 16 voxels at a time it is 101 MiB",
            ],
        ),
        ((100, 90, 1, 1), ["smaller blocks do not help: with 1 of 8 x 16 x 16 voxels at a time it is 101 MiB"]),
    ],
)
def test_ways_out_are_told_with_their_numbers(resources: tuple[int, int, int, int], ways: list[str]) -> None:
    """Those that help; of others that they do not."""
    _, limit, workers, threads = resources
    needed = 100 + 8 * threads
    more = f"`memory: {needed * workers} MiB` in the configuration"
    assert refusal(*resources) == (
        f"a worker needs {needed} MiB for {threads} block{'s' * (threads > 1)} of 64 x 128 x 128 voxels at a time, "
        f"and has {limit} MiB; 'laplace' needs most. Ways out: {'; '.join([more, *ways])}"
    )


@given(st.integers(1, 400), st.integers(1, 500), st.integers(1, 5), st.integers(1, 5))
def test_what_is_offered_helps(base: int, limit: int, workers: int, threads: int) -> None:
    """Whoever does one of the things that a refusal offers without a warning is not refused again."""
    told = refusal(base, limit, workers, threads)
    if memory := re.search(r"`memory: (\d+) MiB`", told):
        assert refusal(base, int(memory[1]) // workers, workers, threads) == ""
    if fewer := re.search(r"`workers: (\d+)`", told):
        assert refusal(base, limit * workers // int(fewer[1]), int(fewer[1]), threads) == ""
    if re.search(r"`threads_per_worker: 1` \(\d+ MiB\)", told):
        assert refusal(base, limit, workers, 1) == ""


def test_a_workflow_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """The step that needs most is named; with the memory that is asked for the plan is made."""
    zarr.create_array(str(tmp_path / "image.zarr"), data=np.zeros((64, 64, 64), np.float32), chunks=(32, 32, 32))
    output = {"path": str(tmp_path / "out.ome.zarr"), "steps": ["laplace", {"gaussian": {"sigma": 2}}]}
    workflow = {
        "input": {"path": str(tmp_path / "image.zarr"), "missing": "fill"},
        "outputs": {"smooth": {**output, "pyramid": False}},
    }
    where = {"cluster": "in_process", "threads_per_worker": 1}
    step = r"step 2 of output 'smooth' \(gaussian\) needs most, \d+ MiB a block"
    with pytest.raises(InputError, match=step + r". Ways out: `memory: \d+ MiB` in the configuration; ") as caught:
        convolume.run(workflow, config={**where, "memory": "50 MiB"})
    assert not (tmp_path / "out.ome.zarr").exists()
    asked = re.search(r"`memory: (\d+) MiB`", str(caught.value))
    assert asked is not None
    assert convolume.plan(workflow, config={**where, "memory": f"{int(asked[1]) + 64} MiB"}).block_count >= 1


def test_a_pyramid_that_needs_most_is_named(tmp_path: Path) -> None:
    """Averaging takes eight times the voxels of a chunk; a small filter on small blocks takes less."""
    zarr.create_array(str(tmp_path / "image.zarr"), shape=(256, 256, 256), dtype="float32", chunks=(64, 64, 64))
    output = {"path": str(tmp_path / "out.ome.zarr"), "steps": ["laplace"], "chunks": [128, 128, 128], "pyramid": True}
    workflow = {"input": {"path": str(tmp_path / "image.zarr"), "missing": "fill"}, "outputs": {"edges": output}}
    told = r"the pyramid needs most, \d+ MiB a block whatever the others' shape \(`pyramid: false` leaves it out\)"
    with pytest.raises(InputError, match=told):
        convolume.plan(workflow, config={"cluster": "in_process", "memory": "50 MiB"})


@pytest.fixture
def of_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a workflow whose output has shards of 256 voxels an axis, where nothing is named."""
    monkeypatch.setattr(_layout, "MOST_CHUNKS_WITHOUT_SHARDS", 4)
    image = np.random.default_rng(0).integers(0, 200, (256, 256, 300), np.uint8)
    zarr.create_array(str(tmp_path / "image.zarr"), data=image, chunks=(128, 128, 128))
    output = {"path": str(tmp_path / "out.ome.zarr"), "steps": [{"box": {"size": 3, "statistic": "sum"}}]}
    return {"input": {"path": str(tmp_path / "image.zarr")}, "outputs": {"smooth": output}}


def where(memory_bytes: int) -> dict[str, Any]:
    """Return a configuration of one thread with so much memory."""
    return {"cluster": "in_process", "threads_per_worker": 1, "device": "numpy", "memory": f"{memory_bytes} B"}


def test_usual_shards_are_given_up_before_a_plan_is_refused(of_many_chunks: dict[str, Any]) -> None:
    """Nobody asked for them; the plan says so. Those that are named stay."""
    roomy = convolume.plan(of_many_chunks, config=where(2**34), overrides=["block=[256,256,256]"])
    assert roomy.outputs[0].shards == (256, 256, 256)
    tight = where(roomy.peak_host_bytes - 64 * MIB)
    planned = convolume.plan(of_many_chunks, config=tight)
    assert (planned.outputs[0].chunks, planned.outputs[0].shards) == ((128, 128, 128), None)
    assert planned.notes[-1].startswith("every chunk is a file, where no shards are named: ")
    with pytest.raises(InputError, match="block of 256 x 256 x 256 voxels at a time"):
        convolume.plan(of_many_chunks, config=tight, overrides=["outputs.smooth.shards=[256,256,256]"])


def test_a_run_goes_on_in_the_layout_that_it_chose(
    of_many_chunks: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more memory the next attempt would choose shards; what is written already has none."""
    roomy = convolume.plan(of_many_chunks, config=where(2**34), overrides=["block=[256,256,256]"])
    done = iter(range(1))
    filter_patch = task.filter_patch
    monkeypatch.setattr(task, "filter_patch", lambda *arguments: (next(done), filter_patch(*arguments))[1])
    with pytest.raises((RunError, StopIteration)):
        convolume.run(of_many_chunks, config=where(roomy.peak_host_bytes - 64 * MIB))
    monkeypatch.setattr(task, "filter_patch", filter_patch)
    record = convolume.run(of_many_chunks, config=where(2**34))
    assert [note for note in record.notes if note.startswith("resumed: 1 of ")]
    (path,) = (output["path"] for output in of_many_chunks["outputs"].values())
    written = zarr.open_array(f"{path}/0", mode="r")
    assert written.shards is None
    image = zarr.open_array(of_many_chunks["input"]["path"], mode="r")[...]
    assert np.array_equal(written[...], np.rint(27 * ndimage.uniform_filter(image.astype(float), 3)))


@pytest.mark.parametrize("block", [[64, 128, 128], [96, 192, 256], [20, 256, 300]])
def test_usual_chunks_suit_a_named_block(of_many_chunks: dict[str, Any], block: list[int]) -> None:
    """A block that is named is taken, without chunks or shards that would have to be named too."""
    planned = convolume.plan(of_many_chunks, config=where(2**34), overrides=[f"block={block}"])
    assert planned.block_shape_voxels == tuple(block)
    output = planned.outputs[0]
    assert all(
        b % c == 0 or b == n for b, c, n in zip(block, output.shards or output.chunks, (256, 256, 300), strict=True)
    )
