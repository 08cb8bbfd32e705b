"""The memory of a process as the system counts it: now, at its peak, and what a worker takes before its first block."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from convolume.devices._cache import recall, remember
from convolume.devices._selection import open_device
from convolume.numerics import Precision
from convolume.records import DeviceInfo
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Footprint",
    "Start",
    "begin_watch",
    "fresh_footprint",
    "peak_bytes",
    "remembered_footprint",
    "resident_bytes",
    "restart_peak",
    "worker_name",
    "worker_start",
]

# An interpreter with dask, NumPy and an OpenCL runtime that has compiled, where it cannot be measured.
_USUAL_BYTES = 320 * 2**20
_LIMIT_S = 60.0
_COMMAND = (sys.executable, "-m", "convolume.execution.footprint")
# What the process imports that runs blocks; the names are those of packages whose versions tell.
_PACKAGES = ("convolume", "distributed", "numpy", "pyopencl", "tensorstore", "zarr")
_MODULES = (
    "tensorstore",
    "scipy.fft",
    "convolume.execution.windows",
    "convolume.execution.pyramid",
)
# PoCL would take its programs from disk: a worker must have room for the compiler, too. Here it may die, too.
_COMPILING = {"POCL_KERNEL_CACHE": "0", "CONVOLUME_TRUST_COMPILER": "1"}


_watched: list[tuple[str, ...]] = []
_watching = Lock()


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a worker process that has everything imported, and of one whose device has compiled programs, too.

    `seconds` is what it takes from a process that has nothing but dask to one that is ready.
    """

    imported_bytes: int
    ready_bytes: int
    seconds: float


def resident_bytes() -> int:
    """Return the bytes of memory that this process holds now; 0 where the system does not say."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """Return the most that this process held since `restart_peak`; 0 where the system does not say."""
    return _status_bytes("VmHWM")


def restart_peak() -> None:
    """Let the peak begin at what is held now, where the system can (Linux); else it is that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker holds before its first block, its device ready, and how long it takes to become so."""

    held_bytes: int
    seconds: float
    is_measured: bool


def worker_start(
    info: DeviceInfo,
    environment: tuple[tuple[str, str], ...],
    held_bytes: int | None,
    *,
    is_worth: bool,
    has_compiled: bool = False,
) -> Start:
    """Return what a worker begins with.

    Parameters
    ----------
    info : DeviceInfo
        Its device.
    environment : tuple of (name, value)
        What it starts with.
    held_bytes : int, optional
        What it holds now, where it is there already; 0 where the system does not say.
    is_worth : bool
        Whether a process is to be started to find out, where that was never done before.
    has_compiled : bool
        Whether its compiler is known to be in what it holds.
    """
    if held_bytes and has_compiled:
        return Start(held_bytes, 0.0, is_measured=True)
    fresh = fresh_footprint(info, environment) if is_worth else remembered_footprint(info)
    if held_bytes is None and fresh:
        return Start(fresh.ready_bytes, fresh.seconds, is_measured=True)
    if not held_bytes:
        return Start(_USUAL_BYTES, 0.0, is_measured=False)
    # Its compiler is not in memory yet, or nobody can say.
    growth_bytes = fresh.ready_bytes - fresh.imported_bytes if fresh else _USUAL_BYTES // 2
    return Start(held_bytes + growth_bytes, 0.0, is_measured=fresh is not None)


def begin_watch(run: tuple[str, ...]) -> None:
    """Let the peak begin anew where another run begins in this process, told by the paths of its outputs."""
    with _watching:
        if _watched != [run]:
            _watched[:] = [run]
            restart_peak()


def worker_name() -> str:
    """Return what tells this process from the other workers of a run."""
    return f"{platform.node()}/{os.getpid()}"


@cache
def fresh_footprint(info: DeviceInfo, environment: tuple[tuple[str, str], ...] = ()) -> Footprint | None:
    """Return what a worker with this device takes before its first block, from disk where it was measured before.

    A process of its own is started for it, which takes a few seconds.

    Parameters
    ----------
    info : DeviceInfo
        The device that the worker opens.
    environment : tuple of (name, value)
        What a worker has in its environment.

    Returns
    -------
    Footprint or None
        None where no process can be started, or the system does not count.
    """
    known = remembered_footprint(info)
    if known is not None:
        return known
    found = _measured(info, dict(environment))
    if found is None:
        return None
    remember("footprints", *_where(info), found)
    return _footprint(found)


def remembered_footprint(info: DeviceInfo) -> Footprint | None:
    """Return what was measured before; None where nothing was."""
    known = recall("footprints", *_where(info))
    return _footprint(known) if isinstance(known, dict) and known.keys() == set(Footprint.__slots__) else None


def _footprint(found: Mapping[str, float]) -> Footprint:
    return Footprint(int(found["imported_bytes"]), int(found["ready_bytes"]), found["seconds"])


def _where(info: DeviceInfo) -> tuple[str, str]:
    return info.name, f"{info.driver}, python {platform.python_version()}, {_versions()}"


def _measured(info: DeviceInfo, environment: Mapping[str, str]) -> dict[str, float] | None:
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter and module)
            _COMMAND,
            input=json.dumps(asdict(info)),
            env={**os.environ, **environment, **_COMPILING},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=True,
        )
        found: dict[str, float] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return found if all(found.values()) else None


def _versions() -> str:
    found = []
    for name in _PACKAGES:
        with suppress(ImportError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def _status_bytes(name: str) -> int:
    """Return what Linux says of this process."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            label, _, rest = line.partition(":")
            if label == name:
                return int(rest.split()[0]) * 1024
    return 0


def main() -> None:
    """Become what a worker is when its first block comes, and print what that takes."""
    info = DeviceInfo(**json.load(sys.stdin))
    import_module("distributed")
    began = perf_counter()
    for name in _MODULES:
        import_module(name)
    imported = resident_bytes()
    device = open_device(info)
    stencil = Stencil.correlate(np.random.default_rng(0).random((3, 3, 3)))
    padded, out = np.ones((34, 34, 34), np.float32), np.empty((32, 32, 32), np.float32)
    for each in (device, device.prepared()):
        each.correlate(padded, stencil, out, Precision.SINGLE)
    seconds = round(perf_counter() - began, 3)
    json.dump({"imported_bytes": imported, "ready_bytes": peak_bytes(), "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
