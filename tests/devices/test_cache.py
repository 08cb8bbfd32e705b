"""What was measured, on disk: kept by device, driver and programs, and never a reason to fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from convolume.devices import _cache
from convolume.devices._cache import cache_folder, recall, remember
from convolume.devices.opencl._discovery import remembered_speed_gflops

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the cache of the user out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convolume"


def test_what_is_remembered_belongs_to_a_device_and_a_driver(folder: Path) -> None:
    """A new driver is measured again; speeds and variants do not meet."""
    assert cache_folder() == folder
    remember("speeds", "card", "1.0", 900.0)
    remember("speeds", "chip", "1.0", 50.0)
    remember("variants", "chip", "1.0", {"3x3x3 float32": {}})
    assert remembered_speed_gflops("card", "1.0") == 900.0
    assert remembered_speed_gflops("chip", "1.0") == 50.0
    assert remembered_speed_gflops("card", "2.0") == 0.0
    assert recall("variants", "chip", "1.0") == {"3x3x3 float32": {}}
    assert recall("variants", "card", "1.0") is None
    assert sorted(path.name for path in folder.iterdir()) == ["speeds.json", "variants.json"]


def test_what_was_measured_with_other_programs_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes when something is remembered."""
    remember("speeds", "card", "1.0", 900.0)
    with monkeypatch.context() as patch:
        patch.setattr(_cache, "programs_digest", lambda: "of tomorrow")
        assert recall("speeds", "card", "1.0") is None
        remember("speeds", "chip", "1.0", 50.0)
    assert recall("speeds", "card", "1.0") is None


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "[]", '"quick"', '{"card / 1.0": "quick"}', '{"card / 1.0": -3}', "\xff"]
)
def test_a_broken_file_counts_as_none(folder: Path, content: str) -> None:
    """Broken in itself or in its devices; it is replaced by the next measurement."""
    folder.mkdir()
    inner = f'{{"programs": {json.dumps(_cache.programs_digest())}, "devices": {content}}}'
    for broken in (content, inner):
        (folder / "speeds.json").write_bytes(broken.encode("latin-1"))
        assert remembered_speed_gflops("card", "1.0") == 0.0
    remember("speeds", "card", "1.0", 900.0)
    assert remembered_speed_gflops("card", "1.0") == 900.0


def test_a_folder_that_cannot_be_made_is_no_error(folder: Path) -> None:
    """A file stands where the folder should be."""
    folder.write_text("in the way")
    remember("speeds", "card", "1.0", 900.0)
    assert remembered_speed_gflops("card", "1.0") == 0.0
