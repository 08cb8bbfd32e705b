"""A disk that is really full: a run ends soon, by an error that tells, and after room was made it is done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convolume.image import ImageInfo, default_axes
from convolume.regions import Region
from convolume.stores import create_sink, read_array

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = np.random.default_rng(1).integers(0, 2**16, (64, 128, 128)).astype(np.uint16)
SOON_S = 60
# Others write to the disk too: what is free when a run is planned is not what is free when it writes.
COMMAND = """
import resource, shutil, signal, sys
from collections import namedtuple
usage = namedtuple("usage", "total used free")
shutil.disk_usage = lambda place: usage(10**12, 0, 10**12)
limit = int(sys.argv.pop(1))
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from convolume.cli import main
main()
"""
# A file system of its own in a name space of its own: nobody else sees it, and it ends with the shell.
SMALL_DISK = """
mount -t tmpfs -o size=1m,nr_inodes=500 tmpfs {disk} || exit 99
{run} 0 {words} 2> {errors} || echo "code $?"
mount -o remount,size=64m {disk} || exit 99
{run} 0 {words} --set outputs.copy.if_exists=overwrite && cp -r {disk}/copy.ome.zarr {folder}/kept.ome.zarr
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make an image of noise, which cannot be compressed, and a place for a disk."""
    sink = create_sink(str(tmp_path / "noise.ome.zarr"), ImageInfo(IMAGE.shape, "uint16", default_axes(3)))
    sink.create()
    sink.write(0, Region.whole(IMAGE.shape), IMAGE)
    sink.finish({}, ((0.0, 1.0, 0.0, 1.0),))
    (tmp_path / "disk").mkdir()
    workflow = f"""\
        input: {{path: {tmp_path}/noise.ome.zarr}}
        block: [16, 64, 64]
        outputs:
          copy: {{path: {tmp_path}/disk/copy.ome.zarr, chunks: [16, 64, 64], pyramid: false}}
        """
    (tmp_path / "copy.yaml").write_text(textwrap.dedent(workflow), encoding="utf-8")
    return tmp_path


def words(folder: Path) -> list[str]:
    """Return the command's words."""
    sets = ("cluster=in_process", "device=numpy")
    return ["run", f"{folder}/copy.yaml", *(word for each in sets for word in ("--set", each))]


def small_disk(folder: Path) -> subprocess.CompletedProcess[str] | None:
    """Run on a disk that is too small, and again when it was made larger; None where the system lets nobody mount."""
    script = SMALL_DISK.format(
        disk=folder / "disk",
        folder=folder,
        errors=folder / "errors",
        run=f"{sys.executable} {folder}/main.py",
        words=" ".join(words(folder)),
    )
    (folder / "main.py").write_text(COMMAND, encoding="utf-8")
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    if shutil.which("unshare") is None:
        return None
    command = ["unshare", *user, "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * SOON_S, check=False)  # noqa: S603 (our own script)
    return None if done.returncode in {1, 99} and not (folder / "errors").exists() else done


def limited(folder: Path) -> str:
    """Run where the system refuses files beyond a size, as a file system that is full; return what it said."""
    (folder / "main.py").write_text(COMMAND, encoding="utf-8")
    command = [sys.executable, f"{folder}/main.py", "100000", *words(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)  # noqa: S603 (our own program)
    assert done.returncode == 3
    return done.stderr


def check_told(folder: Path, told: str, cause: str) -> None:
    """Hold the message to naming file, block, cause and the command that goes on."""
    first, *_, summary, last = told.splitlines()
    assert first.startswith("error: output 'copy', block (")
    assert f"{folder}/disk/copy.ome.zarr/0: voxels [" in first
    assert cause in first
    assert "failed, " in summary
    assert summary.endswith(" the outputs stay unfinished")
    assert last == f"when the cause is mended, go on with: convolume {' '.join(words(folder))}"


def test_a_disk_that_is_full(folder: Path) -> None:
    """It is a small file system where one can be mounted; the same message, the same code, where none can."""
    done = small_disk(folder)
    if done is None:
        check_told(folder, limited(folder), "allows no such large file")
        return
    assert done.stdout.count("code 3") == 1, (done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    check_told(folder, (folder / "errors").read_text(encoding="utf-8"), "the disk is full: make room")
    np.testing.assert_array_equal(read_array(str(folder / "kept.ome.zarr")), IMAGE)


def test_a_file_that_may_not_grow(folder: Path) -> None:
    """A limit of the process is told as what it is."""
    check_told(folder, limited(folder), "allows no such large file")
