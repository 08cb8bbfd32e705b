"""Paths that meet, places where nothing can be made, disks that are full."""

from __future__ import annotations

from pathlib import Path

import pytest

from convolume.errors import InputError
from convolume.stores import check_disk_space, same_or_nested
from convolume.stores._paths import check_creatable


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    """Make a folder that stands for an image, and a link to it."""
    (tmp_path / "data" / "brain.zarr" / "0").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "dangling").symlink_to(tmp_path / "data" / "brain.zarr" / "new")
    return tmp_path / "data" / "brain.zarr"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("data/brain.zarr", "it is the input itself"),
        ("data/brain.zarr/", "it is the input itself"),
        ("data/../data/./brain.zarr", "it is the input itself"),
        ("link/brain.zarr", "it is the input itself"),
        ("link/../data/brain.zarr", "it is the input itself"),
        ("data/missing/../brain.zarr", "it is the input itself"),
        ("data/brain.zarr/0", "it lies inside the input"),
        ("link/brain.zarr/not/there/yet.zarr", "it lies inside the input"),
        ("dangling", "it lies inside the input"),
        ("data", "the input lies inside it"),
        ("link", "the input lies inside it"),
        (".", "the input lies inside it"),
        ("data/brain.zarr2", None),
        ("other/brain.zarr", None),
        ("memory:data", None),
    ],
)
def test_output_meets_input(brain: Path, output: str, reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By any spelling, relative or not."""
    monkeypatch.chdir(brain.parent.parent)
    assert same_or_nested(str(brain), output) == reason
    assert same_or_nested("data/brain.zarr/", str(Path.cwd() / output) if ":" not in output else output) == reason


def test_two_places_that_do_not_exist(tmp_path: Path) -> None:
    """Two outputs are compared before either is there."""
    assert same_or_nested(str(tmp_path / "a" / "b.zarr"), f"{tmp_path}/c/../a/b.zarr/") == "it is the input itself"
    assert same_or_nested(str(tmp_path / "a" / "b.zarr"), str(tmp_path / "a" / "b.zarr" / "c")) is not None
    assert same_or_nested(str(tmp_path / "a" / "b.zarr"), str(tmp_path / "b" / "b.zarr")) is None
    assert same_or_nested("memory:a", "memory:a") == "it is the input itself"


def test_file_in_the_way(tmp_path: Path) -> None:
    """Nothing can be made under a file, not even by root."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be made, because .*file is a file; choose another path"):
        check_creatable(str(tmp_path / "file" / "deep" / "new.zarr"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root can write")
def test_no_permission() -> None:
    """It is tried, because the system says yes to root."""
    with pytest.raises(InputError, match=r"nothing can be written in /proc \(.*\); choose another path"):
        check_creatable("/proc/new.zarr")


def test_disk_space(tmp_path: Path) -> None:
    """The message has both numbers."""
    check_disk_space(str(tmp_path / "not" / "yet"), 1)
    with pytest.raises(InputError, match=r"up to 1e\+09 GB will be written, and [\d.,e+]+ GB are free on the disk of"):
        check_disk_space(str(tmp_path / "not" / "yet"), 10**18)
