"""The first trials of a device's programs: a compiler that dies takes no run with it, and is not asked again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convolume.devices import Pass
from convolume.devices.opencl import _guard, available, open_device
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._discovery import find, traits_of
from convolume.devices.opencl._guard import FAMILIES, SAFE_BYTES, FirstTrials, Record, lock_of, vector_sizes
from convolume.devices.opencl._jobs import Numbers
from convolume.numerics import Precision
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from pathlib import Path

    from convolume.devices.opencl._jobs import Traits
    from convolume.records import DeviceInfo

pytestmark = pytest.mark.skipif(
    not available() or available()[0].kind != "cpu", reason="this machine has no OpenCL on a processor"
)

SINGLE = Numbers("float32", "float32", "float32", exact=False)
# The process of the trials, whose compiler dies of some programs: of strips with vectors that are not the narrowest,
# and of every walk in float64; walks in float32 do not compile, strips in float64 give wrong results.
TAMPERED = """
from convolume.devices.opencl import _first_trials, _programs
rendered = _programs.render
def render(job):
    source = rendered(job)
    is_wide = job.vector_width * 4 > 16
    if job.template == "strip.cl" and job.numbers.sum == "float32" and is_wide:
        return "#pragma clang __debug crash\\n" + source
    if job.template == "walk.cl" and job.numbers.sum == "float64":
        return "#pragma clang __debug crash\\n" + source
    if job.template == "walk.cl":
        return "#error not this one\\n" + source
    if job.template == "strip.cl" and job.numbers.sum == "float64":
        return source.replace("+= part", "-= part")
    return source
_programs.render = render
_first_trials.main()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the cache of the user out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convolume" / "trials"


@pytest.fixture
def info() -> DeviceInfo:
    """Return the device under test."""
    return available()[0]


@pytest.fixture
def traits(info: DeviceInfo) -> Traits:
    """Return what its programs are made for."""
    return traits_of(find(info.identifier))


def _smoothed(device: Any) -> bytes:
    """Return what a device makes of an image that is enough for a program of its own."""
    image = np.random.default_rng(0).random((40, 40, 64), dtype=np.float32)
    stencil = Stencil.correlate(np.random.default_rng(1).random((3, 3, 3)))
    places = tuple(np.clip(np.arange(-1, n + 1), 0, n - 1) for n in image.shape)
    out = np.empty_like(image)
    if not device.correlate_passes(image, [Pass(stencil, places, 0.0)], out, Precision.SINGLE):
        device.correlate(image[np.ix_(*places)], stencil, out, Precision.SINGLE)
    return out.tobytes()


def test_nobody_waits_and_bits_stay(info: DeviceInfo, traits: Traits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the trials the generic program serves, for narrow vectors; after them every family, to the same bits."""
    guard = FirstTrials(info, traits)
    with monkeypatch.context() as patch:
        patch.setattr(_guard, "COMMAND", (sys.executable, "-c", "import time; time.sleep(30)"))
        assert not guard.is_settled
        generic = guard.allowed("generic", SINGLE)
        assert generic is not None
        assert generic.vector_bytes == min(SAFE_BYTES, traits.vector_bytes)
        assert [guard.allowed(template, SINGLE) for template in ("strip", "walk")] == [None, None]
        assert guard.expected("strip", SINGLE) == traits
        assert guard.process is not None
        guard.process.kill()
        guard.process.wait()
    device = OpenCLDevice(info, 0, guard=FirstTrials)
    before = _smoothed(device)
    lock_of(guard.path).unlink()
    prepared = device.prepared()
    assert device.is_tried
    assert device.guard.allowed("walk", SINGLE) == traits
    assert before == _smoothed(device) == _smoothed(prepared) == _smoothed(OpenCLDevice(info, 1 << 62))


def test_what_kills_the_compiler_is_not_made(
    info: DeviceInfo, traits: Traits, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Narrower vectors where they work, else the generic program; the next process knows."""
    monkeypatch.setattr(_guard, "COMMAND", (sys.executable, "-c", TAMPERED))
    guard = FirstTrials(info, traits)
    guard.wait()
    (path,) = folder.glob("*.json")
    record = Record.read(path)
    wide = [size for size in vector_sizes(traits) if size > SAFE_BYTES]
    assert record.settled["generic float32"] == traits.vector_bytes
    assert record.settled["strip float32"] == min(SAFE_BYTES, traits.vector_bytes)
    assert record.settled["walk float64"] == record.settled["walk float32"] == 0
    for size in wide:
        assert record.refused[f"strip float32 {size}"].startswith("killed the process that tried it")
    assert "could not compile a program" in record.refused[f"walk float32 {traits.vector_bytes}"]
    assert record.settled["strip float64"] == 0
    assert record.refused[f"strip float64 {SAFE_BYTES}"] == "computes other bits than the generic program"
    assert not list(folder.glob("*.lock"))

    monkeypatch.setattr(_guard, "_spawned", lambda _: pytest.fail("tried again"))
    device = open_device(info)
    assert isinstance(device, OpenCLDevice)
    known = device.guard
    assert known.is_settled
    assert known.allowed("walk", SINGLE) is None
    strip = known.allowed("strip", SINGLE)
    assert strip is not None
    assert strip.vector_bytes == min(SAFE_BYTES, traits.vector_bytes)
    assert _smoothed(device) == _smoothed(OpenCLDevice(info, 1 << 62))
    lines = [Stencil.correlate(np.ones(3)).on_axes((axis,), 3) for axis in range(3)]
    assert not device.prepares(lines, 1 << 40)


def test_one_death_is_not_the_compiler_s(info: DeviceInfo, traits: Traits, folder: Path) -> None:
    """A machine may have been switched off: what a process did not live to tell is tried once more."""
    FirstTrials(info, traits)
    widest = f"strip float32 {traits.vector_bytes}"
    FirstTrials(info, traits)
    record = Record(trying=widest)
    guard = FirstTrials(info, traits)
    record.write(guard.path)
    guard.wait()
    found = Record.read(guard.path)
    assert found.deaths == {widest: 1}
    assert found.settled == dict.fromkeys(FAMILIES, traits.vector_bytes)
    assert not found.refused
    assert not list(folder.glob("*.lock"))


def test_a_compiler_that_hangs_is_left(
    info: DeviceInfo, traits: Traits, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, twice; then the next vectors are tried."""
    hanging = (
        "from convolume.devices.opencl import _first_trials as trials\n"
        "import time\n"
        "trials.LIMIT_S = 0.5\n"
        "trials._reason_against = lambda info, family, traits: time.sleep(5 * (family == 'walk float64'))\n"
        "trials.main()"
    )
    monkeypatch.setattr(_guard, "COMMAND", (sys.executable, "-c", hanging))
    guard = FirstTrials(info, traits)
    guard.wait()
    (path,) = folder.glob("*.json")
    assert Record.read(path).settled["walk float64"] == 0
    assert guard.allowed("walk", SINGLE) == traits


def test_one_process_tries_for_all(info: DeviceInfo, traits: Traits, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one finds the lock, goes on, and takes it over when it is old."""
    started: list[str] = []
    monkeypatch.setattr(_guard, "_spawned", started.append)
    monkeypatch.setattr(_guard, "LOOK_EVERY_S", 0.0)
    first, second = FirstTrials(info, traits), FirstTrials(info, traits)
    assert not first.is_settled
    assert not second.is_settled
    assert len(started) == 1
    monkeypatch.setattr(_guard, "STALE_S", -1.0)
    assert not second.is_settled
    assert len(started) == 2


BROKEN = """
from convolume.devices.opencl import _first_trials
_first_trials._result = lambda device, kind: 1 / 0
_first_trials.main()
"""


@pytest.mark.parametrize("code", ["raise SystemExit('no such module')", BROKEN])
def test_where_trials_go_wrong_the_compiler_is_trusted(
    code: str, info: DeviceInfo, traits: Traits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so; nothing is remembered."""
    monkeypatch.setattr(_guard, "COMMAND", (sys.executable, "-c", code))
    guard = FirstTrials(info, traits)
    guard.wait()
    assert guard.allowed("strip", SINGLE) == traits
    assert "are tried in a process of their own, which went wrong (exit code 1); they are used untried" in caplog.text
    assert Record.read(guard.path) == Record()


def test_a_folder_that_cannot_be_written_is_no_error(
    info: DeviceInfo, traits: Traits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process tries for itself, in a folder of its own."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(_guard, "cache_folder", lambda: tmp_path / "file")
    guard = FirstTrials(info, traits)
    guard.wait()
    assert guard.allowed("strip", SINGLE) == traits
    assert tmp_path not in guard.path.parents


@pytest.mark.parametrize("content", ["", "[]", '{"settled": 3}', '{"colour": {}}', '{"settled": {}, "refused": []}'])
def test_a_broken_record_counts_as_none(content: str, tmp_path: Path) -> None:
    """It is written anew."""
    (tmp_path / "record.json").write_text(content)
    assert Record.read(tmp_path / "record.json") == Record()
