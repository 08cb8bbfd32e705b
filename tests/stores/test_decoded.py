"""Decoded pieces that a process keeps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.stores._decoded import DecodedPieces

if TYPE_CHECKING:
    import numpy.typing as npt


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 600)), max_size=60))
def test_what_was_used_longest_ago_goes_first(uses: list[tuple[int, int]]) -> None:
    """As in a list of names that is written by hand; the bound may change from use to use."""
    pieces, expected, decoded = DecodedPieces(), [], []
    for name, most_bytes in uses:
        let_go(expected, most_bytes)
        found = pieces.get(
            name, lambda name=name: decoded.append(name) or np.full(name + 1, name, "uint64"), most_bytes
        )
        np.testing.assert_array_equal(found, np.full(name + 1, name))
        if name in expected:
            expected.remove(name)
        else:
            assert decoded.pop() == name
        expected.append(name)
        let_go(expected, most_bytes)
    assert not decoded


def let_go(names: list[int], most_bytes: int) -> None:
    """Drop the first names as long as the pieces of all take more."""
    while sum(8 * (name + 1) for name in names) > most_bytes:
        names.pop(0)


def test_a_piece_that_two_want_is_decoded_once() -> None:
    """The second waits for the first."""
    pieces, may_go_on = DecodedPieces(), Event()

    def decode() -> npt.NDArray[np.uint8]:
        may_go_on.wait(10)
        return np.zeros(9, "uint8")

    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(pieces.get, "piece", decode, 100) for _ in range(4)]
        may_go_on.set()
        found = [each.result(10) for each in waiting]
    assert all(each is found[0] for each in found)
    assert pieces.decoded_count == 1


def test_a_piece_that_takes_long_does_not_keep_others() -> None:
    """What was decoded since goes as ever."""
    pieces, may_go_on, began = DecodedPieces(), Event(), Event()

    def decode() -> npt.NDArray[np.uint8]:
        began.set()
        may_go_on.wait(10)
        return np.zeros(60, "uint8")

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pieces.get, "long", decode, 100)
        began.wait(10)
        for name in (*"abc", "a"):
            pieces.get(name, lambda: np.zeros(60, "uint8"), 100)
        assert pieces.decoded_count == len(["long", *"abc", "a"])
        may_go_on.set()
        assert waiting.result(10).size == 60


def test_an_error_is_not_kept() -> None:
    """The next one tries again."""
    pieces = DecodedPieces()

    def fail() -> npt.NDArray[np.uint8]:
        message = "damaged"
        raise ValueError(message)

    with pytest.raises(ValueError, match="damaged"):
        pieces.get("piece", fail, 100)
    assert pieces.get("piece", lambda: np.zeros(3, "uint8"), 100).size == 3
