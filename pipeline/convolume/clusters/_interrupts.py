"""Interrupts at moments when nothing is half done: a cluster that starts or stops, a lock that is being taken."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["interrupts_pass_by_processes", "interrupts_wait"]


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM wait until the block is left; the second one does not wait."""
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
        yield
    finally:
        restore()
    if came:
        signal.raise_signal(came[0])


@contextmanager
def interrupts_pass_by_processes() -> Iterator[None]:
    """Let processes that are started in the block begin with SIGINT blocked, where the system can.

    A terminal sends it to them too, and the client alone answers it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker  # noqa: PLC0415 - POSIX only

    # Its start unblocks SIGINT, and the first process would start it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
