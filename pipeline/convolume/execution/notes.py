"""Notes that stand in a block's record: what was done otherwise than planned, told from wherever it happens."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["note", "noted", "noting"]

_notes: ContextVar[list[str] | None] = ContextVar("convolume_notes", default=None)


def note(text: str) -> None:
    """Add to the notes of whoever collects them in this thread; nobody may."""
    notes = _notes.get()
    if notes is not None:
        notes.append(text)


def noted() -> tuple[str, ...]:
    """Return the notes that were made so far, each once; none where nobody collects them."""
    return tuple(dict.fromkeys(_notes.get() or ()))


@contextmanager
def noting() -> Iterator[None]:
    """Collect the notes that are made inside.

    Examples
    --------
    >>> with noting():
    ...     note("done in 2 parts")
    ...     noted()
    ('done in 2 parts',)
    >>> noted()
    ()
    """
    token = _notes.set([])
    try:
        yield
    finally:
        _notes.reset(token)
