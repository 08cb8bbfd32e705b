"""Blocks for which memory lacks, or whose device is lost, are done all the same, to the same bits, and it is noted."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convolume
from convolume.clusters import ClusterSettings, Task, local
from convolume.devices import _selection
from convolume.errors import DeviceError, DeviceLostError, DeviceMemoryError, RunError
from convolume.execution import task
from convolume.execution.splitting import halves, in_parts
from convolume.regions import Region
from convolume.stores import memory
from convolume.testing.faults import FailingDevice, Fuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.devices import Device, Pass, Voxels
    from convolume.numerics import Precision
    from convolume.records import DeviceInfo, RunRecord

MODES = ("reflect", "wrap", "grid-wrap", "constant", "mirror")


class SmallDevice(FailingDevice):
    """A device that has memory for so many voxels of output at once."""

    most_voxels = 1000

    def correlate_passes(self, voxels: Voxels, passes: Sequence[Pass], out: Voxels, precision: Precision) -> bool:
        """Compute, or refuse what is too large."""
        if int(np.prod(out.shape)) > self.most_voxels:
            message = f"{self.info.name} has no memory for {out.shape} voxels"
            raise DeviceMemoryError(message)
        return super().correlate_passes(voxels, passes, out, precision)


def run(
    image: np.ndarray[Any, Any],
    steps: list[Any],
    mode: str,
    device: str | list[str] = "numpy",
    strategy: str = "windows",
) -> RunRecord:
    """Run steps on an image in blocks."""
    memory.put("recovered", image)
    output = {
        "path": "memory:recovery",
        "steps": steps,
        "chunks": [8, 8, 16],
        "if_exists": "overwrite",
        "pyramid": False,
    }
    workflow = {
        "input": {"path": "memory:recovered"},
        "outputs": {"out": output},
        "block": [8, 8, 16],
        "mode": mode,
        "strategy": strategy,
    }
    return convolume.run(workflow, config={"cluster": "in_process", "device": device})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 2**16),
    sigma=st.sampled_from([0.7, 1.2]),
    strategy=st.sampled_from(["windows", "overlap"]),
)
def test_split_blocks_have_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, mode: str, seed: int, sigma: float, strategy: str
) -> None:
    """Chains too, in every kind of boundary; the record says in how many parts."""
    image = np.random.default_rng(seed).normal(size=(10, 9, 17)).astype(np.float32)
    steps = [{"gaussian": {"sigma": sigma}}, "laplace"]
    whole = run(image, steps, mode)
    expected = memory.get("recovery").copy()
    open_device = _selection.open_device
    with monkeypatch.context() as patched:
        patched.setattr(task, "open_device", lambda info: SmallDevice(open_device(info), Fuse(0, RuntimeError)))
        split = run(image, steps, mode, strategy=strategy)
    assert memory.get("recovery").tobytes() == expected.tobytes()
    assert not any("parts" in note for note in whole.notes)
    assert any("blocks: filtered in " in note and "for want of memory" in note for note in split.notes)


def test_halves() -> None:
    """They are apart, and together the whole, down to a voxel; then the error is told."""
    first, second = halves(Region((2, 3, 4), (4, 3 + 7, 5)))
    assert (str(first), str(second)) == ("[2:4, 3:6, 4:5]", "[2:4, 6:10, 4:5]")

    def never(part: Region) -> list[np.ndarray[Any, Any]]:
        asked.append(part.size_voxels)
        message = "too large"
        raise DeviceMemoryError(message)

    asked: list[int] = []
    with pytest.raises(DeviceMemoryError, match="too large"):
        in_parts(Region((0,), (1000,)), never)
    assert asked == [1000, 500, 250, 125, 62, 31, 15]


def test_a_lost_device_is_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next device that the wishes allow takes over; where they allow none, the run ends and says so."""
    image = np.random.default_rng(0).integers(0, 9, (20, 9, 17)).astype(np.float32)
    run(image, ["laplace"], "reflect")
    expected = memory.get("recovery").copy()
    first, *_ = _selection.list_devices()
    fuse = Fuse(20, lambda: DeviceLostError("it does not answer"), times=10**9)
    open_device = _selection.open_device

    def opened(info: DeviceInfo) -> Device:
        device = open_device(info)
        return FailingDevice(device, fuse) if info.identifier == first.identifier else device

    monkeypatch.setattr(task, "open_device", opened)
    monkeypatch.setattr(_selection, "_retired", set())
    record = run(image, ["laplace"], "reflect", device=[first.name, "numpy"])
    np.testing.assert_array_equal(memory.get("recovery"), expected)
    assert len(record.devices) == 2
    assert any(f"blocks: {first.name} is lost: done on another device" in note for note in record.notes)
    monkeypatch.setattr(_selection, "_retired", set())
    with pytest.raises((RunError, DeviceError), match="it does not answer"):
        run(image, ["laplace"], "reflect", device=first.name)


def on_one_worker_only(lost: int, number: int) -> tuple[int, int]:
    """Fail on the worker that has lost its device."""
    if os.environ["CONVOLUME_TEST_NUMBER"] == str(lost):
        message = "this worker's device is lost"
        raise DeviceLostError(message)
    time.sleep(0.02)
    return os.getpid(), number


def test_a_worker_without_a_device_is_retired() -> None:
    """Its blocks go to the others, each once; where there is no other worker they fail."""
    environments = tuple((("CONVOLUME_TEST_NUMBER", str(number)),) for number in range(2))
    two = ClusterSettings(workers=2, threads_per_worker=1, dashboard=False, worker_environments=environments)
    with local.open_cluster(two) as cluster:
        tasks = (Task("lose", (n,), on_one_worker_only, (0, n)) for n in range(40))
        told = list(cluster.map_outcomes(tasks, 8))
        assert sorted(outcome.result[1] for outcome in told) == list(range(40))
        assert len({outcome.result[0] for outcome in told}) == 1
        (failed,) = cluster.map_outcomes(iter([Task("lose", (40,), on_one_worker_only, (1, 40))]))
    assert isinstance(failed.error, DeviceLostError)
