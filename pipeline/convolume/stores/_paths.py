"""Paths before anything is written: whether two of them meet, a folder can be made, and there is space."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from convolume.errors import InputError

__all__ = ["check_creatable", "check_disk_space", "existing_ancestor", "same_or_nested"]

# What tells apart one place on a disk: device and inode where it exists, else its parent's and its name.
_Place = tuple[object, ...]


def same_or_nested(input_path: str, output_path: str) -> str | None:
    """Say why an output would destroy an input, however the two are spelled; None if they do not meet.

    Links, ``..``, trailing slashes and places that do not exist yet are followed.

    Examples
    --------
    >>> same_or_nested("brain.zarr", "brain.zarr/../brain.zarr/")
    'it is the input itself'
    >>> same_or_nested("brain.zarr", "brain.zarr/filtered.zarr")
    'it lies inside the input'
    >>> same_or_nested("data/brain.zarr", "data")
    'the input lies inside it'
    >>> same_or_nested("brain.zarr", "smooth.zarr") is None
    True
    """
    source, target = _places(input_path), _places(output_path)
    if source[-1] == target[-1]:
        return "it is the input itself"
    if source[-1] in target:
        return "it lies inside the input"
    if target[-1] in source:
        return "the input lies inside it"
    return None


def _places(path: str) -> list[_Place]:
    """Return the places on the way from the root to `path`, itself last."""
    if path.startswith(("lazy:", "memory:", "sample:")):
        return [(path,)]
    real = Path(os.path.realpath(Path(path).expanduser()))
    places: list[_Place] = []
    for step in (*reversed(real.parents), real):
        try:
            status = step.stat()
            places.append((status.st_dev, status.st_ino))
        except OSError:
            places.append((places[-1] if places else None, step.name))
    return places


def existing_ancestor(path: str) -> Path:
    """Return the nearest place on the way to `path` that exists, `path` itself included."""
    place = Path(os.path.realpath(path))
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def check_creatable(path: str) -> None:
    """Try whether a folder could be made at `path`, and leave nothing behind.

    Raises
    ------
    InputError
        A file stands in the way, or there is no permission.
    """
    ancestor = existing_ancestor(str(Path(path).parent))
    if not ancestor.is_dir():
        message = f"{path}: cannot be made, because {ancestor} is a file; choose another path"
        raise InputError(message)
    try:
        # Asking the system for the right to write is not enough: it says yes to root even where nothing can be made.
        with tempfile.TemporaryDirectory(prefix=".convolume-", dir=ancestor):
            pass
    except OSError as error:
        message = f"{path}: nothing can be written in {ancestor} ({error.strerror}); choose another path"
        raise InputError(message) from error


def check_disk_space(path: str, needed_bytes: int) -> None:
    """Compare what an output may take with what is free where it will lie.

    Parameters
    ----------
    path : str
        The output; it need not exist.
    needed_bytes : int
        Bytes that may be written there.

    Raises
    ------
    InputError
        Not enough is free; the message has both numbers.
    """
    ancestor = existing_ancestor(path)
    free_bytes = shutil.disk_usage(ancestor).free
    if needed_bytes > free_bytes:
        message = (
            f"{path}: up to {needed_bytes / 1e9:,.3g} GB will be written, and {free_bytes / 1e9:,.3g} GB are free on "
            f"the disk of {ancestor}; make room, choose another disk, or filter a smaller region"
        )
        raise InputError(message)
