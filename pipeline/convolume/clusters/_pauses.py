"""Pauses of a task that a cluster which is being closed does not have to wait for."""

from __future__ import annotations

import threading
from time import sleep

__all__ = ["end_pauses_with", "pause"]

_of_thread = threading.local()


def end_pauses_with(closing: threading.Event) -> None:
    """Let pauses of this thread end when the event is set."""
    _of_thread.closing = closing


def pause(seconds: float) -> bool:
    """Wait; return whether there is reason to go on.

    Examples
    --------
    >>> pause(0.0)
    True
    """
    closing: threading.Event | None = getattr(_of_thread, "closing", None)
    if closing is not None:
        return not closing.wait(seconds)
    sleep(seconds)
    return True
