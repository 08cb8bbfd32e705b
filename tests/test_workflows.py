"""Every file in ``workflows/``, run on a small part of its image; one of them in worker processes, watched by HTTP."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from urllib.request import urlopen

import numpy as np
import pytest
from bokeh.client import pull_session

import convolume
from convolume.filters import FilterContext
from convolume.operations import Sequence
from convolume.planning.spec import read_workflow
from convolume.preparation import source_options
from convolume.regions import Region
from convolume.stores import open_source, read_array
from convolume.testing.evaluation import assert_close, rounding_bound
from convolume.testing.processes import LOOPBACK_ADDRESSES, listening_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from convolume.planning.models import Workflow

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.yaml"))
REGION = {"z": (85, 105), "y": (90, 130), "x": (80, 116)}
PLANE = {"z": 10, "y": 15, "x": 12}


def small(workflow: Path, folder: Path) -> list[str]:
    """Return overrides that take a part of the image and write everything below `folder`."""
    model = read_workflow(workflow).model
    region = ", ".join(f"{axis}: [{start}, {stop}]" for axis, (start, stop) in REGION.items())
    overrides = [f"input.region={{{region}}}"]
    overrides += [f"outputs.{name}.path={folder}/{name}.ome.zarr" for name in model.outputs]
    for position, figure in enumerate(model.figures):
        plane = ", ".join(f"{axis}: {PLANE[axis]}" for axis in figure.plane)
        overrides += [f"figures[{position}].path={folder}/{position}.png", f"figures[{position}].plane={{{plane}}}"]
        overrides += [f"figures[{position}].crop={{}}"]
    return overrides


def read(path: str) -> npt.NDArray[Any]:
    """Return all voxels of an image."""
    source = open_source(path)
    return source.read(Region.whole(source.info.shape))


def by_scipy(workflow: Workflow) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Return what each output means, and how far float32 sums may lie from it, voxel by voxel.

    The filters' references are taken one after the other, on the whole image in float64.
    """
    source = open_source(workflow.input.path, source_options(workflow))
    info = source.info
    context = FilterContext(
        info.ndim,
        info.space_axes,
        info.space_spacing_um,
        workflow.mode,
        workflow.cval,
        read_array,
        tuple(info.axes[axis].name for axis in info.space_axes),
    )
    results = {}
    for name, output in workflow.outputs.items():
        image = source.read(Region.whole(info.shape)).astype(np.float64)
        result = reduce(lambda voxels, step: step.filter.reference(voxels, context), output.steps, image)
        operation = Sequence(tuple(step.filter.operation(context) for step in output.steps))
        results[name] = result, rounding_bound(operation, image, np.float32)
    return results


def test_there_are_workflows() -> None:
    """The next test cannot pass for want of files."""
    assert {"convolution_tour", "convolution_tour_3d", "smooth_edges_overlap"} <= {file.stem for file in WORKFLOWS}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_runs_small(workflow: Path, tmp_path: Path) -> None:
    """It loads, plans and runs, and every voxel of every output is scipy's."""
    overrides = small(workflow, tmp_path)
    model = read_workflow(workflow, overrides).model
    plan = convolume.plan(workflow, overrides=overrides)
    assert list(tmp_path.iterdir()) == []
    record = convolume.run(workflow, overrides=overrides)
    assert record.block_count >= plan.block_count >= 1
    assert record.workflow == model.name
    assert [output.name for output in record.outputs] == list(model.outputs)
    for name, (expected, bound) in by_scipy(model).items():
        result = read(f"{tmp_path}/{name}.ome.zarr")
        assert result.shape == tuple(stop - start for start, stop in REGION.values())
        rounded = 0.5 if result.dtype.kind in "iu" else 0.0
        assert_close(result, expected, bound + rounded, name)
        error = np.abs(result.astype(np.float64) - expected).max()
        assert error <= (0.5 + 1e-6 if rounded else 1e-6 * np.abs(expected).max())
    assert [Path(figure).read_bytes()[:4] for figure in record.figures] == [b"\x89PNG"] * len(model.figures)
    # Beside every output lies its journal.
    assert len(list(tmp_path.iterdir())) == 2 * len(model.outputs) + len(model.figures)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a tour of many blocks by the command line on two worker processes; with the dashboard's address."""
    (tmp_path / "two.yaml").write_text("cluster: local\nworkers: 2\nthreads_per_worker: 1\n", encoding="utf-8")
    tour = ROOT / "workflows" / "convolution_tour.yaml"
    overrides = [*small(tour, tmp_path), "input.region={z: [0, 120]}", "block=[1, 256, 256]", "figures=[]"]
    for name in read_workflow(tour).model.outputs:
        overrides += [f"outputs.{name}.{what}" for what in ("chunks=[1, 64, 64]", "shards=[1, 256, 256]")]
    command = [sys.executable, "-m", "convolume", "run", str(tour), "--config", str(tmp_path / "two.yaml")]
    command += [part for override in overrides for part in ("--set", override)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 (our own)
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next((line.split()[1] for line in lines if line.startswith("dashboard: ")), None)
        assert address, process.stderr and process.stderr.read()
        yield process, address
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.usefixtures("event_loop")
def test_dashboard_of_two_workers(running: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    """Its pages name our tasks while they run, and nothing but this machine can see them."""
    process, address = running
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/status", address)
    base = address.removesuffix("status")
    _check_loopback(process.pid)
    on_pages, on_progress = _watch(process, base)
    name = "sum, mean, laplacian: convolve"
    assert any(re.search(rf"{name}-[0-9a-f]{{8}}', \d+, 0, 0", page) for page in on_pages)
    assert name in on_progress
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "120 of 120 blocks (100%)" in output
    for each in ("sum", "mean", "laplacian"):
        assert read(f"{tmp_path}/{each}.ome.zarr").any()


@pytest.fixture
def event_loop() -> Iterator[None]:
    """Give this thread an event loop: bokeh asks for one, which Python does not make by itself any more."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def _watch(process: subprocess.Popen[str], base: str) -> tuple[set[str], set[str]]:
    """Return the workers' pages with tasks on them, and the names on the page of progress, once both are there."""
    pages: set[str] = set()
    names: set[str] = set()
    while process.poll() is None and not (pages and names):
        workers = _fetch(f"{base}info/main/workers.html")
        for link in re.findall(r'href="\.\./(worker/[^"]+)"', workers):
            page = _fetch(f"{base}info/{link}")
            pages |= {page} if "convolve" in page else set()
            assert "inproc" not in unquote(link)
        session = pull_session(url=f"{base}individual-progress")
        for model in session.document.models:
            names |= set(getattr(model, "data", {}).get("name", ()))
        session.close()
    return pages, names


def _fetch(url: str) -> str:
    with urlopen(url, timeout=10) as answer:  # noqa: S310 (the address was checked)
        return str(answer.read().decode()).replace("&#x27;", "'")


def _check_loopback(process: int) -> None:
    """Fail where a process of the run listens on anything but loopback."""
    if not Path("/proc/net/tcp").exists():
        return
    ours = listening_addresses(process)
    # A scheduler with its dashboard, and two nannies with a worker each.
    assert len(ours) >= 5
    assert set(ours) <= LOOPBACK_ADDRESSES
