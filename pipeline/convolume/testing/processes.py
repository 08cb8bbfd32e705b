"""What the processes of a command listen on, as Linux tells it."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["LOOPBACK_ADDRESSES", "family", "listening_addresses"]

# 127.0.0.1 and ::ffff:127.0.0.1 and ::1, as /proc/net writes them.
LOOPBACK_ADDRESSES = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
_LISTENING = "0A"


def listening_addresses(process: int) -> list[str]:
    """Return the address of every socket on which a process, or one that it started, listens."""
    inodes = {inode for each in family(process) for inode in _sockets(each)}
    tables = [line.split() for name in ("tcp", "tcp6") for line in _lines(Path("/proc/net", name))]
    return [row[1].partition(":")[0] for row in tables if row[3] == _LISTENING and row[9] in inodes]


def family(process: int) -> list[int]:
    """Return a process and all that it started."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(re.sub(r".*\) \S ", "", (folder / "stat").read_text()).split()[0])
        except (OSError, ValueError):
            continue
    found = [process]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="ascii").splitlines()[1:] if file.exists() else []


def _sockets(process: int) -> list[str]:
    found = []
    try:
        for handle in Path(f"/proc/{process}/fd").iterdir():
            match = re.fullmatch(r"socket:\[(\d+)\]", str(handle.readlink()))
            found += [match[1]] if match else []
    except OSError:
        pass
    return found
