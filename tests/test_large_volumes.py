"""A volume many times larger than its worker's memory goes through it, and memory does not grow on the way."""

from __future__ import annotations

import os
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr

import convolume
from convolume.execution.journal import Journal
from convolume.execution.run_file import RunFile
from convolume.stores import journal_folder

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

CHUNK = (128, 128, 128)
LIMIT_BYTES = 640 * 2**20


# A short run has not met everything after a quarter of it.
@pytest.mark.parametrize(("times", "most_growth"), [(4, 1.1), pytest.param(64, 1.03, marks=pytest.mark.long)])
def test_memory_does_not_grow_with_the_volume(tmp_path: Path, times: int, most_growth: float) -> None:
    """From a quarter of the blocks to the end of the run, pyramid included, the peak stays where it was."""
    source = _volume(tmp_path / "in.zarr", times * LIMIT_BYTES)
    path = str(tmp_path / "out.ome.zarr")
    output = {"path": path, "dtype": "uint8", "steps": [{"box": {"size": 3}}]}
    where = {"workers": 1, "threads_per_worker": 1, "memory": f"{LIMIT_BYTES} B", "dashboard": False}
    record = convolume.run(
        {"input": {"path": str(source)}, "outputs": {"out": output}}, config={"cluster": "local", **where}
    )
    (peak,) = record.worker_peak_bytes.values()
    after_a_quarter = _peaks(path)[record.block_count // 4]
    assert record.forecast is not None
    assert peak <= record.forecast.peak_host_bytes <= LIMIT_BYTES
    assert after_a_quarter <= peak <= most_growth * after_a_quarter


def _volume(path: Path, size_bytes: int) -> Path:
    """Make an image of so many bytes at least, whose chunks are all the same file: a long way through few pages."""
    count = ceil(size_bytes / prod(CHUNK) / 16)
    image = zarr.create_array(path, shape=(count * CHUNK[0], 4 * CHUNK[1], 4 * CHUNK[2]), chunks=CHUNK, dtype="uint8")
    image[: CHUNK[0], : CHUNK[1], : CHUNK[2]] = _smooth()
    first, *others = (path / "c" / str(z) / str(y) / str(x) for z, y, x in np.ndindex(count, 4, 4))
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        os.link(first, other)
    return path


def _smooth() -> npt.NDArray[np.uint8]:
    """Return voxels that compress to about a third, as those of a microscope do."""
    waves = sum(np.sin(np.arange(n) / 9).reshape(-1, *[1] * axis) for axis, n in enumerate(CHUNK))
    return (waves * 20 + 100 + np.random.default_rng(0).normal(0, 2, CHUNK)).astype(np.uint8)


def _peaks(path: str) -> list[int]:
    """Return what the worker had held at most when it had done each block, in their order."""
    folder = journal_folder(path)
    run = RunFile.read(folder)
    assert run is not None
    marks = Journal(folder, run.run, run.units).marks()
    return [mark.record.peak_host_bytes for mark in marks if mark.record is not None]
