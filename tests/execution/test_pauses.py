"""Ctrl-C while blocks wait to try a call again: the run ends without waiting for the pauses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
import zarr

import convolume
from convolume.errors import InputError
from convolume.stores import open_source

if TYPE_CHECKING:
    from pathlib import Path

# Read by every Python process that finds it: all reads fail, and the pause before the next try outlasts the test.
SITECUSTOMIZE = """
import errno, os
from pathlib import Path
from convolume.execution import patience
from convolume.stores.zarr import ZarrSource

def read(self, region):
    raise OSError(errno.EIO, "Input/output error")

def pause(seconds, wait=patience.pause):
    Path(os.environ["CONVOLUME_TEST_PAUSES"]).touch()
    return wait(seconds)

ZarrSource.read, patience.pause, patience.PAUSES_S = read, pause, (3600.0,)
"""
SOON_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make an image of 8 blocks and its workflow, and what lets reading fail."""
    image = np.ones((16, 32, 32), np.float32)
    zarr.create_array(str(tmp_path / "in.zarr"), data=image, chunks=(8, 16, 16), dimension_names=("z", "y", "x"))
    outputs = {"edges": {"path": str(tmp_path / "edges.ome.zarr"), "chunks": [8, 16, 16], "steps": ["laplace"]}}
    workflow = {"input": {"path": str(tmp_path / "in.zarr")}, "block": [8, 16, 16], "outputs": outputs}
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(workflow))
    (tmp_path / "failing").mkdir()
    (tmp_path / "failing/sitecustomize.py").write_text(SITECUSTOMIZE)
    return tmp_path


def started(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start the run, in a session of its own, and return when its first block waits."""
    pauses = folder / "pauses"
    code = [str(folder / "failing"), *(entry for entry in sys.path if entry)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(code), "CONVOLUME_TEST_PAUSES": str(pauses)}
    sets = [word for each in ("device=numpy", *overrides) for word in ("--set", each)]
    run = subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-m", "convolume", "run", str(folder / "w.yaml"), *sets],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + SOON_S
    while not pauses.exists():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    return run


@pytest.mark.parametrize(
    "overrides",
    [("cluster=in_process",), ("cluster=in_process", "strategy=overlap"), ("cluster=local", "workers=2")],
    ids=["threads", "overlap", "workers"],
)
def test_an_interrupt_does_not_wait_for_pauses(folder: Path, overrides: tuple[str, ...]) -> None:
    """Code 130, and nothing opens; when reading works again, the run is begun or gone on with as ever."""
    run = started(folder, *overrides)
    os.killpg(run.pid, signal.SIGINT)
    try:
        _, errors = run.communicate(timeout=SOON_S)
    finally:
        run.kill()
    assert errors == "error: interrupted: outputs that are not finished do not open as images; run it again to go on\n"
    assert run.returncode == 130
    with pytest.raises(InputError, match="did not finish"):
        open_source(str(folder / "edges.ome.zarr"))
    is_overlap = "strategy=overlap" in overrides
    again = {"config": {"cluster": "in_process", "device": "numpy"}, "restart": is_overlap}
    assert convolume.run(str(folder / "w.yaml"), **again).block_count == 8
