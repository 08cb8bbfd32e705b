"""Notes that stand in a block's record: what was done otherwise than planned, told from wherever it happens."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["note", "noting"]

_notes: ContextVar[list[str] | None] = ContextVar("convolume_notes", default=None)


def note(text: str) -> None:
    """Add to the notes of whoever collects them in this thread; nobody may."""
    notes = _notes.get()
    if notes is not None:
        notes.append(text)


@contextmanager
def noting() -> Iterator[list[str]]:
    """Collect the notes that are made inside.

    Examples
    --------
    >>> with noting() as notes:
    ...     note("done in 2 parts")
    >>> notes
    ['done in 2 parts']
    """
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)
