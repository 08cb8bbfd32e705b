"""Signals as the command line takes them, for all tests of clusters."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def interrupted() -> Iterator[None]:
    """Let SIGTERM count as Ctrl-C, as the command line does; shells start what runs behind them with SIGINT ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
