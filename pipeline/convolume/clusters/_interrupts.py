"""Interrupts while worker processes start or stop: half a cluster cannot be stopped in good order."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["interrupts_wait"]


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM wait until the block is left; the second one does not wait.

    Processes that are started inside begin with SIGINT blocked, where the system can: a terminal sends it to them
    too, and the client alone answers it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came: list[int] = []

    def restore() -> None:
        for number, handler in handlers.items():
            # A handler that was not set from Python cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def remember(number: int, _frame: Any) -> None:
        came.append(number)
        restore()

    for number in handlers:
        signal.signal(number, remember)
    try:
        with _blocked(signal.SIGINT):
            yield
    finally:
        restore()
    if came:
        signal.raise_signal(came[0])


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Block a signal in this thread, and so in the threads and processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker  # noqa: PLC0415 - POSIX only

    # Its start unblocks SIGINT, and the first process would start it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
