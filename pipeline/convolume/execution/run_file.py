"""The file beside an output that says which run it belongs to, and whether that run is over."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from convolume.execution.ownership import write_whole
from convolume.execution.patience import patiently

__all__ = ["RunFile"]

_NAME = "run.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class RunFile:
    """What a run that writes an output is.

    Parameters
    ----------
    run : str
        The run's name, the same for all attempts at it and all its outputs.
    state : {'unfinished', 'finished'}
        Finished where every output of the run is whole.
    fingerprint : dict
        Everything that the voxels depend on, JSON-like.
    cannot_resume : str
        Why no other attempt can go on with it; empty where one can.
    shapes, units : tuple of tuple of int
        Extents of every level, and of what one writer owns there.
    version : int
        Of this file's format.
    """

    run: str
    state: Literal["unfinished", "finished"]
    fingerprint: dict[str, Any]
    cannot_resume: str
    shapes: tuple[tuple[int, ...], ...]
    units: tuple[tuple[int, ...], ...]
    version: int = _FORMAT

    @classmethod
    def read(cls, folder: str) -> Self | None:
        """Return what stands in an output's folder; None where nothing does that this version understands.

        Raises
        ------
        RunError
            It is there and cannot be read: that is not as if it were not.
        """
        try:
            values = json.loads(patiently(folder, f"{_NAME} cannot be read", partial(_text_of, folder)))
            shapes = tuple(map(tuple, values.pop("shapes")))
            made = cls(shapes=shapes, units=tuple(map(tuple, values.pop("units"))), **values)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        return made if made.version == _FORMAT else None

    def write(self, folder: str) -> None:
        """Write it, in one step."""
        write_whole(Path(folder, _NAME), json.dumps(asdict(self), indent=2))


def _text_of(folder: str) -> bytes:
    """Return what stands in the file; nothing where there is none."""
    try:
        return Path(folder, _NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
