"""Whatever happened to a file of an output is found, and told by block and file."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

import convolume
from convolume import cli
from convolume.errors import InputError, RunError
from convolume.execution import task
from convolume.image import ImageInfo, default_axes
from convolume.regions import Region
from convolume.stores import create_sink, memory

if TYPE_CHECKING:
    from click.testing import Result

    from convolume.execution.verify import Verdict

SHAPE = (8, 150, 200)
# 2 x 2 blocks of 4 chunks each, and one of the pyramid's level.
BLOCK, CHUNK, BLOCKS = [8, 128, 128], [8, 64, 64], 5
IMAGE = np.random.default_rng(3).integers(1, 200, SHAPE).astype(np.float32)
# The second block is of fill value only: no file tells of it.
IMAGE[:, :128, 128:] = 0


def workflow(path: Path, **output: Any) -> dict[str, Any]:
    """Return a workflow that copies the image."""
    return {
        "input": {"path": "memory:verify"},
        "block": BLOCK,
        "outputs": {"copy": {"path": str(path), "chunks": CHUNK, **output}},
    }


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Write one."""
    path = tmp_path / "copy.ome.zarr"
    memory.put("verify", IMAGE)
    convolume.run(workflow(path))
    memory.drop("verify")
    return path


def verified(path: Path) -> Verdict:
    """Verify it in this process."""
    return convolume.runner.verify(str(path), config={"cluster": "in_process", "device": "numpy"})


def command(*arguments: str) -> Result:
    """Call the command line."""
    return CliRunner().invoke(cli.commands, ["verify", *arguments])


def test_what_is_whole_is_called_so(output: Path) -> None:
    """Blocks of fill value only too, which have no files; 0 for scripts."""
    assert not (output / "0" / "c" / "0" / "0" / "2").exists()
    verdict = verified(output)
    assert (verdict.block_count, verdict.flaws, verdict.is_whole) == (BLOCKS, (), True)
    result = command(str(output))
    assert (result.exit_code, result.stdout) == (0, f"{output}: {BLOCKS} blocks are as they were written\n")


def test_every_file_is_watched(output: Path) -> None:
    """One bit of any of them, any of them gone, any of them cut short or exchanged for another."""
    files = [file for file in output.rglob("*") if "c" in file.relative_to(output).parts and file.is_file()]
    assert len(files) > 6
    for file in files:
        data = file.read_bytes()
        flipped = bytes([*data[: len(data) // 2], data[len(data) // 2] ^ 16, *data[len(data) // 2 + 1 :]])
        another = next(other for other in files if other != file and other.parts[-5:-3] == file.parts[-5:-3])
        for changed in (flipped, data[:-7], None, another.read_bytes()):
            file.unlink()
            if changed is not None:
                file.write_bytes(changed)
            (flaw,) = verified(output).flaws
            assert (flaw.what, flaw.file) == ("missing" if changed is None else "damaged", str(file))
            assert str(flaw.level) == file.relative_to(output).parts[0]
            file.write_bytes(data)
    assert verified(output).is_whole


def test_the_command_names_block_and_file(output: Path) -> None:
    """And ends with 3; by the cluster of a configuration too."""
    gone, cut = output / "0" / "c" / "0" / "1" / "1", output / "0" / "c" / "0" / "2" / "3"
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-5])
    result = command(str(output), "--set", "threads_per_worker=1")
    assert result.exit_code == 3
    first, second = result.stdout.splitlines()
    told = re.escape(f"missing: level 0, block (0, 0, 0), voxels [0:8, 64:128, 64:128]: {gone} (its digest is ")
    assert re.fullmatch(rf"{told}\w{{8}}, and \w{{8}} was written\)", first)
    told = f"damaged: level 0, block (0, 1, 1), voxels [0:8, 128:150, 192:200]: {cut} (it cannot be decoded)"
    assert second == told
    assert result.stderr == f"error: {output}: 2 files are damaged or missing, of those of {BLOCKS} blocks\n"


def test_what_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is marked is looked at, and what is not is told."""
    path = tmp_path / "copy.ome.zarr"
    memory.put("verify", IMAGE)
    write, calls = task.write_results, []

    def fail_third(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) >= 3:
            message = "as if it were killed"
            raise OSError(message)
        return write(*arguments)

    monkeypatch.setattr(task, "write_results", fail_third)
    with pytest.raises(RunError, match="as if it were killed"):
        convolume.run(workflow(path), config={"cluster": "in_process", "threads_per_worker": 1})
    verdict = verified(path)
    left = IMAGE.size - 8 * 128 * 200 + 4 * 75 * 100
    assert (verdict.block_count, verdict.flaws, verdict.unmarked_voxels) == (2, (), left)
    result = command(str(path))
    message = (
        f"2 blocks are as they were written, and {left:,} voxels of all levels are not written yet; run its workflow"
    )
    assert (result.exit_code, result.stderr.count(message)) == (3, 1)
    memory.drop("verify")


def test_outputs_of_an_overlap_run(tmp_path: Path) -> None:
    """They have marks, though they cannot be gone on with; sharded ones too."""
    path = tmp_path / "copy.ome.zarr"
    memory.put("verify", IMAGE)
    convolume.run({**workflow(path, shards=BLOCK), "strategy": "overlap"})
    memory.drop("verify")
    assert verified(path).is_whole
    (path / "0" / "c" / "0" / "0" / "0").unlink()
    (flaw,) = verified(path).flaws
    assert flaw.file == str(path / "0" / "c" / "0" / "0" / "0")


def test_what_has_no_marks(output: Path, tmp_path: Path) -> None:
    """An image of another program, and a place where nothing is."""
    with pytest.raises(InputError, match=r"none\.zarr: there is no output of a run"):
        verified(tmp_path / "none.zarr")
    info = ImageInfo(SHAPE, "float32", default_axes(3))
    foreign = create_sink(str(tmp_path / "foreign.ome.zarr"), info)
    foreign.create()
    foreign.write(0, Region.whole(SHAPE), IMAGE)
    message = (
        r"foreign\.ome\.zarr: has no marks to be compared with; a run leaves them in \S*foreign.ome.zarr.convolume"
    )
    with pytest.raises(InputError, match=message):
        verified(Path(foreign.path))
    shutil.rmtree(f"{output}.convolume")
    assert command(str(output)).exit_code == 2
