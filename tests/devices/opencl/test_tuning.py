"""The search for the fastest variants: what fails, hangs or kills the compiler is skipped and remembered."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from convolume.devices.opencl import _trial, _tuning, available, tune
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._discovery import find, traits_of
from convolume.devices.opencl._jobs import Traits
from convolume.devices.opencl._variants import CASES, Case, Variant, Variants, candidates
from convolume.errors import DeviceError
from convolume.testing.devices import correlated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convolume.records import DeviceInfo

pytestmark = pytest.mark.skipif(
    not available() or available()[0].kind != "cpu", reason="this machine has no OpenCL on a processor"
)

CASE = CASES[0]
# The process of a trial, in which the source of some variants is another one.
TAMPERED = (
    sys.executable,
    "-c",
    """
from convolume.devices.opencl import _programs, _trial
rendered = _programs.render
def render(job):
    source = rendered(job)
    if job.template != "strip.cl":
        return source
    if job.rows == 8 and job.vectors == 2:
        return "#pragma clang __debug crash\\n" + source
    if job.rows == 6 and job.vectors == 2:
        return source.replace("+= part", "-= part")
    if job.rows == 6:
        return source.replace("int step", "lung step")
    return source
_programs.render = render
_trial.main()
""",
)


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the cache of the user out of it, and let the search be small."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_tuning, "CASES", (CASE,))
    monkeypatch.setattr(_tuning, "EXTENT", 64)
    monkeypatch.setattr(_tuning, "REPEATS", 1)


@pytest.fixture
def info() -> DeviceInfo:
    """Return the device under test."""
    return available()[0]


def _whole(info: DeviceInfo) -> list[Variant]:
    """Return the candidates of whole vectors, the default first."""
    found = candidates(CASE, traits_of(find(info.identifier)))
    return [variant for variant in found if variant.vector_width == found[0].vector_width]


def _fake(monkeypatch: pytest.MonkeyPatch, seconds: Mapping[Variant, float]) -> None:
    def fakes(_info: DeviceInfo, _case: Case, variants: list[Variant]) -> dict[Variant, float]:
        return {variant: seconds.get(variant, 1.0) for variant in variants}

    monkeypatch.setattr(_tuning, "_seconds", fakes)


def test_what_does_not_work_is_skipped_and_remembered(info: DeviceInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ways to go wrong; the process goes on, the result is right, and none is tried again."""
    variants = _whole(info)[:5]
    first, working, failing, dying, wrong = variants
    monkeypatch.setattr(_tuning, "candidates", lambda *_: tuple(variants))
    monkeypatch.setattr(_trial, "COMMAND", TAMPERED)
    told: list[str] = []
    records = {record.variant: record for record in tune(info, told.append)}
    assert "could not compile a program" in records[str(failing)].skipped
    assert "lung" in records[str(failing)].skipped
    assert records[str(dying)].skipped.startswith("killed the compiler (SIG")
    assert records[str(wrong)].skipped == "computes other bits than the generic program"
    assert [records[str(variant)].skipped for variant in (first, working)] == ["", ""]
    assert all(records[str(variant)].gflops > 0 for variant in (first, working))
    assert sum(record.is_chosen for record in records.values()) == 1
    assert len(told) == len(variants)

    refused = Variants.recalled(info, traits_of(find(info.identifier))).skipped[CASE.label]
    assert set(refused) == {failing, dying, wrong}
    monkeypatch.setattr(_trial, "refusal", lambda _info, _case, variant: "tried again" * (variant != working))
    again = {record.variant: record.skipped for record in tune(info, told.append)}
    assert again == {name: record.skipped for name, record in records.items()}

    padded, stencil = _trial.correlation_of(CASE, (9, 9, 70))
    devices = (OpenCLDevice(info, 0), OpenCLDevice(info, 1 << 62))
    results = [correlated(device, padded, stencil, CASE.precision).tobytes() for device in devices]
    assert results[0] == results[1]


def test_a_compiler_that_hangs_is_left(info: DeviceInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while."""
    monkeypatch.setattr(_trial, "COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(_trial, "LIMIT_S", 0.5)
    assert _trial.refusal(info, CASE, _whole(info)[0]) == "did not end within 0.5 s"


def test_a_trial_that_cannot_begin_blames_no_variant(info: DeviceInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the environment's fault, and nothing is remembered."""
    monkeypatch.setattr(_trial, "COMMAND", (sys.executable, "-c", "raise SystemExit('no such module')"))
    with pytest.raises(DeviceError, match="in a process of their own, which did not start: no such module"):
        tune(info, print)
    assert not Variants.recalled(info, traits_of(find(info.identifier))).skipped


def test_the_fastest_is_taken_and_used(info: DeviceInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the next device that is opened on."""
    variants = _whole(info)
    taken = variants[3]
    monkeypatch.setattr(_trial, "refusal", lambda *_: "")
    _fake(monkeypatch, {taken: 0.5, variants[1]: 0.7})
    records = tune(info, lambda _: None)
    assert [record.variant for record in records if record.is_chosen] == [str(taken)]
    stencil = _trial.correlation_of(CASE, (1, 1, 1))[1]
    source = OpenCLDevice(info).source_for(stencil, (64, 64, 256), ("float32", "float32"), CASE.precision)
    assert f"computes {taken.rows} rows" in source
    assert f"x {taken.vectors} vectors of {taken.vector_width} " in source


@pytest.mark.parametrize(("seconds", "place"), [(0.98, 0), (0.9, 1), (1.1, 0)])
def test_noise_does_not_replace_the_default(seconds: float, place: int) -> None:
    """A gain must be larger than what two timings of one program differ."""
    variants = [Variant(4, 4, 16), Variant(6, 4, 16)]
    assert _tuning.fastest(dict(zip(variants, (1.0, seconds), strict=True)), variants[0]) == variants[place]


def test_devices_whose_programs_have_one_shape_are_not_tuned(info: DeviceInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried, nothing is told."""
    monkeypatch.setattr(_tuning, "traits_of", lambda _: Traits(on_cpu=False, vector_bytes=64, loose_pointers=False))
    assert tune(info, print) == ()
