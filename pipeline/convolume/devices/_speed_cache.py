"""Measured speeds of devices, kept on disk under the device's and the driver's name."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = [
    "cache_folder",
    "remember_figures",
    "remember_speed_gflops",
    "remembered_figures",
    "remembered_speed_gflops",
]


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


def remembered_speed_gflops(device: str, driver: str) -> float:
    """Return what was measured for a device once, 0 where nothing was."""
    speed = _read().get(_key(device, driver), 0.0)
    return float(speed) if isinstance(speed, (int, float)) and speed > 0 else 0.0


def remember_speed_gflops(device: str, driver: str, speed_gflops: float) -> None:
    """Keep a measured speed; a folder that cannot be written is no error."""
    _write(_key(device, driver), round(speed_gflops, 3))


def remembered_figures(device: str, driver: str, what: str) -> dict[str, float]:
    """Return several figures that were measured for a device together; none where they were not."""
    found = _read().get(_key(device, driver, what))
    numbers = found if isinstance(found, dict) else {}
    return {str(name): float(figure) for name, figure in numbers.items() if isinstance(figure, (int, float))}


def remember_figures(device: str, driver: str, what: str, figures: dict[str, float]) -> None:
    """Keep several figures; a folder that cannot be written is no error."""
    _write(_key(device, driver, what), {name: float(f"{figure:.4g}") for name, figure in figures.items()})


def _write(key: str, value: object) -> None:
    speeds = {**_read(), key: value}
    with suppress(OSError, RuntimeError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".json", delete=False, encoding="utf-8") as file:
            json.dump(speeds, file, indent=1)
        Path(file.name).replace(folder / "speeds.json")


def _read() -> dict[str, object]:
    # Unreadable or broken: measure again. RuntimeError: there is no home folder.
    with suppress(OSError, ValueError, RuntimeError):
        found = json.loads((cache_folder() / "speeds.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _key(*parts: str) -> str:
    return " / ".join(parts)
