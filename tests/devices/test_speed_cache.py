"""Measured speeds on disk: kept by device and driver, and never a reason to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convolume.devices._speed_cache import cache_folder, remember_speed_gflops, remembered_speed_gflops

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the cache of the user out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convolume"


def test_a_speed_belongs_to_a_device_and_a_driver(folder: Path) -> None:
    """A new driver is measured again."""
    assert cache_folder() == folder
    remember_speed_gflops("card", "1.0", 900.0)
    remember_speed_gflops("chip", "1.0", 50.0)
    assert remembered_speed_gflops("card", "1.0") == 900.0
    assert remembered_speed_gflops("chip", "1.0") == 50.0
    assert remembered_speed_gflops("card", "2.0") == 0.0
    assert [path.name for path in folder.iterdir()] == ["speeds.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"card / 1.0": "quick"}', '{"card / 1.0": -3}', "\xff"])
def test_a_broken_file_counts_as_none(folder: Path, content: str) -> None:
    """And is replaced by the next measurement."""
    folder.mkdir()
    (folder / "speeds.json").write_bytes(content.encode("latin-1"))
    assert remembered_speed_gflops("card", "1.0") == 0.0
    remember_speed_gflops("card", "1.0", 900.0)
    assert remembered_speed_gflops("card", "1.0") == 900.0


def test_a_folder_that_cannot_be_made_is_no_error(folder: Path) -> None:
    """A file stands where the folder should be."""
    folder.write_text("in the way")
    remember_speed_gflops("card", "1.0", 900.0)
    assert remembered_speed_gflops("card", "1.0") == 0.0
