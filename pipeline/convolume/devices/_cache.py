"""What was measured on devices, kept on disk under the device's and the driver's name, for as long as programs last."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Literal

__all__ = ["cache_folder", "programs_digest", "recall", "remember", "write_json"]

Kind = Literal["footprints", "methods", "speeds", "variants"]


def cache_folder() -> Path:
    """Return the user's cache folder for Convolume; ``XDG_CACHE_HOME`` is respected everywhere."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named) / "convolume"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "convolume" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "convolume"
    return Path.home() / ".cache" / "convolume"


def recall(kind: Kind, device: str, driver: str) -> object:
    """Return what was remembered of a device with the programs of today; None where there is nothing."""
    return _read(kind).get(_key(device, driver))


def remember(kind: Kind, device: str, driver: str, value: object) -> None:
    """Keep a value that JSON can hold; a folder that cannot be written is no error."""
    content = {"programs": programs_digest(), "devices": {**_read(kind), _key(device, driver): value}}
    with suppress(OSError, RuntimeError):
        write_json(cache_folder() / f"{kind}.json", content)


def write_json(path: Path, content: object) -> None:
    """Write a file at once: who reads it meanwhile finds the old one or the new one.

    Raises
    ------
    OSError
        The folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".json", delete=False, encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    Path(file.name).replace(path)


@cache
def programs_digest() -> str:
    """Return a digest of all templates: what was measured with other programs does not count."""
    templates = [entry for entry in files("convolume.devices.opencl").iterdir() if entry.name.endswith(".cl")]
    texts = [f"{entry.name}\n{entry.read_text(encoding='utf-8')}" for entry in templates]
    return sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]


def _read(kind: Kind) -> dict[str, object]:
    # Unreadable or broken: measure again. RuntimeError: there is no home folder.
    with suppress(OSError, ValueError, RuntimeError):
        found = json.loads((cache_folder() / f"{kind}.json").read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("programs") == programs_digest():
            devices = found.get("devices")
            return devices if isinstance(devices, dict) else {}
    return {}


def _key(device: str, driver: str) -> str:
    return f"{device} / {driver}"
