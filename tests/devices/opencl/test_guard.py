"""The first trials of a device's programs: a compiler that dies takes no run with it, and is not asked again."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import psutil
import pytest

from convolume import ndimage
from convolume.devices import Pass
from convolume.devices.opencl import _guard, _state, available, open_device
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._discovery import find, traits_of
from convolume.devices.opencl._first_trials import reason_against
from convolume.devices.opencl._guard import (
    FAMILIES,
    SAFE_BYTES,
    VARIABLE,
    FirstTrials,
    Guard,
    Record,
    Template,
    guard_of,
    lock_of,
    vector_sizes,
)
from convolume.devices.opencl._jobs import Numbers
from convolume.devices.opencl._walk import WalkJob
from convolume.numerics import Precision
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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
    """Keep the cache of the user out of it, and trust nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE)
    return tmp_path / "convolume" / "trials"


@pytest.fixture
def info() -> DeviceInfo:
    """Return the device under test."""
    return available()[0]


@pytest.fixture
def traits(info: DeviceInfo) -> Traits:
    """Return what its programs are made for."""
    return traits_of(find(info.identifier))


def _wait(guard: Guard) -> None:
    while not guard.is_settled:
        time.sleep(0.05)


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
        assert guard.generic(SINGLE).vector_bytes == min(SAFE_BYTES, traits.vector_bytes)
        assert [guard.allowed(template, SINGLE) for template in get_args(Template)] == [None] * 3
        assert guard.expected("strip", SINGLE) == traits
        assert guard.process is not None
        guard.process.kill()
        guard.process.wait()
    device = OpenCLDevice(info, 0, guard=FirstTrials)
    before = _smoothed(device)
    lock_of(guard.path).unlink()
    device.wait_for_trials()
    prepared = device.prepared()
    assert device.is_tried
    assert device.guard.allowed("walk", SINGLE) == traits
    assert before == _smoothed(device) == _smoothed(prepared) == _smoothed(OpenCLDevice(info, 1 << 62))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_tried_by_its_own_programs(
    family: str, info: DeviceInfo, traits: Traits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be declined would be no trial."""
    made: list[tuple[str, str]] = []
    run = _state.State.run
    monkeypatch.setattr(
        _state.State,
        "run",
        lambda state, launches: (
            made.extend((launch.job.template, launch.job.numbers.sum) for launch in launches) or run(state, launches)
        ),
    )
    assert not reason_against(info, family, traits)
    template, sums = family.split()
    assert set(made) == {("generic.cl", sums), (f"{template}.cl", sums)}


def test_a_walk_is_tried_with_every_choice_of_passes(
    info: DeviceInfo, traits: Traits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a program of its own: along three axes, along one that is not x, and along x alone."""
    made: set[tuple[bool, bool]] = set()
    run = _state.State.run

    def noted(state: _state.State, launches: Sequence[_state.Launch]) -> None:
        jobs = [launch.job for launch in launches]
        made.update((job.a is not None, job.x is not None) for job in jobs if isinstance(job, WalkJob))
        run(state, launches)

    monkeypatch.setattr(_state.State, "run", noted)
    assert not reason_against(info, "walk float32", traits)
    assert made == {(True, True), (False, False), (False, True)}


def test_a_user_may_trust_the_compiler(info: DeviceInfo, traits: Traits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is tried; so it is in the process of the trials itself."""
    monkeypatch.setenv(VARIABLE, "0")
    assert isinstance(guard_of(info, traits), FirstTrials)
    monkeypatch.setenv(VARIABLE, "1")
    assert type(guard_of(info, traits)) is Guard
    monkeypatch.delenv(VARIABLE)
    told = "import os; from pathlib import Path; Path(os.environ['XDG_CACHE_HOME'], 'told').write_text(os.environ[%r])"
    monkeypatch.setattr(_guard, "COMMAND", (sys.executable, "-c", told % VARIABLE))
    guard = FirstTrials(info, traits)
    _wait(guard)
    assert (guard.path.parents[2] / "told").read_text() == "1"


# A process that hangs in its first trial, and says so.
HANGING = """
import time
from convolume.devices.opencl import _first_trials
_first_trials.reason_against = lambda *_: time.sleep(300)
_first_trials.main()
"""


def test_trials_end_with_who_began_them(info: DeviceInfo, traits: Traits, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of one, which counts as no death; the next process may try."""
    monkeypatch.setattr(_guard, "COMMAND", (sys.executable, "-c", HANGING))
    guard = FirstTrials(info, traits)
    assert not guard.is_settled
    process = guard.process
    assert process is not None
    assert process.stdin is not None
    while not Record.read(guard.path).trying:
        assert process.poll() is None
        time.sleep(0.05)
    # As the system does when this process is killed.
    process.stdin.close()
    assert process.wait(60) == 0
    assert Record.read(guard.path) == Record()
    assert not lock_of(guard.path).exists()


SHORT = """
import os, signal, sys
from convolume.devices.opencl import available, open_device
guard = open_device(available()[0]).guard
assert not guard.is_settled
print(guard.process.pid, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Untried(Guard):
    """A guard for which the trials never end."""

    @property
    def is_settled(self) -> bool:
        """Never."""
        return False

    def generic(self, numbers: Numbers) -> Traits:
        """Return narrow vectors."""
        del numbers
        return replace(self.traits, vector_bytes=SAFE_BYTES)

    def allowed(self, template: Template, numbers: Numbers) -> Traits | None:
        """Allow nothing."""
        del template, numbers
        return None


FILTERS: dict[str, Callable[..., Any]] = {
    "dense": lambda image, **how: ndimage.convolve(image, np.random.default_rng(1).integers(-9, 9, (5, 4, 3)), **how),
    "gaussian": lambda image, **how: ndimage.gaussian_filter(image, 1.5, **how),
    "short mean": lambda image, **how: ndimage.uniform_filter(image, 5, **how),
    "long mean": lambda image, **how: ndimage.uniform_filter(image, 21, **how),
    "line": lambda image, **how: ndimage.uniform_filter1d(image, 15, axis=1, **how),
    "gaussian along z": lambda image, **how: ndimage.gaussian_filter1d(image, 2.5, axis=0, **how),
    "gaussian along x": lambda image, **how: ndimage.gaussian_filter1d(image, 2.5, **how),
    "sobel": ndimage.sobel,
    "laplace": ndimage.laplace,
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16"])
@pytest.mark.parametrize("name", FILTERS)
def test_whichever_program_serves_the_bits_are_the_same(
    name: str, dtype: str, info: DeviceInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the trials and after them, by calls as users write them."""
    image = np.random.default_rng(0).uniform(0, 60000, (37, 41, 99)).astype(dtype)
    results = []
    for guard in (Untried, Guard):
        device = OpenCLDevice(info, 0, guard=guard)
        assert device.is_tried == (guard is Guard)
        monkeypatch.setattr("convolume.ndimage._weighing.open_device", lambda _, device=device: device)
        results += [FILTERS[name](image, mode=mode) for mode in ("mirror", "constant")]
    before, after = results[:2], results[2:]
    assert [each.tobytes() for each in before] == [each.tobytes() for each in after]


def _lives(process: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("way", ["over", "killed"])
def test_nothing_is_left_of_a_short_script(way: str) -> None:
    """However it ends, silently; only what is complete is kept."""
    done = subprocess.run(  # noqa: S603 (our own interpreter and code)
        [sys.executable, "-W", "error", "-c", SHORT, way], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stderr == ""
    assert bool(done.returncode) == (way == "killed")
    ends = time.monotonic() + 60
    while _lives(int(done.stdout)):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_what_kills_the_compiler_is_not_made(
    info: DeviceInfo, traits: Traits, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Narrower vectors where they work, else the generic program; the next process knows."""
    monkeypatch.setattr(_guard, "COMMAND", (sys.executable, "-c", TAMPERED))
    guard = FirstTrials(info, traits)
    _wait(guard)
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

    monkeypatch.setattr(_guard, "_spawned", lambda *_: pytest.fail("tried again"))
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
    _wait(guard)
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
        "trials.reason_against = lambda info, family, traits: time.sleep(5 * (family == 'walk float64'))\n"
        "trials.main()"
    )
    monkeypatch.setattr(_guard, "COMMAND", (sys.executable, "-c", hanging))
    guard = FirstTrials(info, traits)
    _wait(guard)
    (path,) = folder.glob("*.json")
    assert Record.read(path).settled["walk float64"] == 0
    assert guard.allowed("walk", SINGLE) == traits


def test_one_process_tries_for_all(info: DeviceInfo, traits: Traits, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one finds the lock, goes on, and takes it over when it is old."""
    started: list[Path] = []
    monkeypatch.setattr(_guard, "_spawned", lambda _, path: started.append(path))
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
    _wait(guard)
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
    _wait(guard)
    assert guard.allowed("strip", SINGLE) == traits
    assert tmp_path not in guard.path.parents


@pytest.mark.parametrize("content", ["", "[]", '{"settled": 3}', '{"colour": {}}', '{"settled": {}, "refused": []}'])
def test_a_broken_record_counts_as_none(content: str, tmp_path: Path) -> None:
    """It is written anew."""
    (tmp_path / "record.json").write_text(content)
    assert Record.read(tmp_path / "record.json") == Record()
