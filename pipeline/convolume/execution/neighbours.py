"""Runs on one machine know of each other: each says what it may take, and the plan of the next one tells it.

A file for each run lies in the user's cache folder while it runs. Those of dead processes count for nothing.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import inf
from typing import TYPE_CHECKING

from convolume.clusters import machine_memory_bytes
from convolume.devices._cache import cache_folder
from convolume.execution.ownership import Owner, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from convolume.records import DeviceInfo

__all__ = ["Share", "announced", "neighbours_note"]


@dataclass(frozen=True, slots=True)
class Share:
    """What a run may take of its machine: memory of all its workers, and of each card.

    Parameters
    ----------
    host_bytes, device_bytes : int
        As its plan promises; `device_bytes` is 0 where the device has no memory of its own.
    devices : tuple of str
        Identifiers.
    """

    host_bytes: int
    device_bytes: int = 0
    devices: tuple[str, ...] = ()


@contextmanager
def announced(share: Share) -> Iterator[None]:
    """Let other runs on this machine know of this one while the block runs; no run fails for want of that."""
    owner = Owner.this_process()
    file = _folder() / f"{owner.token}.json"
    with suppress(OSError, RuntimeError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"owner": asdict(owner), "share": asdict(share)}, indent=2))
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def neighbours_note(share: Share, device: DeviceInfo) -> tuple[str, ...]:
    """Return a note of other runs on this machine, and of what all may take together; none where there are none."""
    others = _neighbours()
    if not others:
        return ()
    processes = ", ".join(str(owner.pid) for owner, _ in others)
    runs = f"another run is under way on this machine, in process {processes}"
    if len(others) > 1:
        runs = f"{len(others)} other runs are under way on this machine, in processes {processes}"
    host = share.host_bytes + sum(other.host_bytes for _, other in others)
    told = f"{runs}: with this one up to {_of(host, machine_memory_bytes())} of its memory"
    rivals = [other for _, other in others if share.device_bytes and set(share.devices) & set(other.devices)]
    on_device = share.device_bytes + sum(other.device_bytes for other in rivals)
    if rivals:
        told += f", and {_of(on_device, device.memory_bytes)} of {device.name}'s"
    lacks = host > machine_memory_bytes() or (rivals and on_device > device.memory_bytes > 0)
    return (f"{told}; that is more than there is: wait for it, or give each less `memory:`" if lacks else told,)


def _neighbours() -> list[tuple[Owner, Share]]:
    """Return the other runs of this user on this machine; what dead ones left is removed."""
    found = []
    here = Owner.this_process()
    with suppress(OSError, RuntimeError):
        for file in sorted(_folder().glob("*.json")):
            entry = _read(file)
            # Of a process on another machine, whose folder this is too, nothing is known.
            if entry is not None and entry[0].is_alive(inf):
                found.append(entry)
            elif entry is None or entry[0].host == here.host:
                file.unlink(missing_ok=True)
    return found


def _read(file: Path) -> tuple[Owner, Share] | None:
    try:
        values = json.loads(file.read_bytes())
        share = values["share"]
        return Owner(**values["owner"]), Share(**{**share, "devices": tuple(share["devices"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _folder() -> Path:
    return cache_folder() / "runs"


def _of(size_bytes: int, whole_bytes: int) -> str:
    return f"{-(-size_bytes // 2**20):,} of {whole_bytes // 2**20:,} MiB"
