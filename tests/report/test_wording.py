"""Numbers as people read them, and paragraphs that keep their width."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.regions import Halo
from convolume.report.wording import (
    bytes_text,
    clock_text,
    counted,
    halo_text,
    labelled,
    large,
    printable,
    seconds_text,
    shape_text,
)

UNITS = {"B": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4, "PiB": 5}


@given(st.integers(0, 2**60))
def test_bytes_are_told_to_three_digits(size_bytes: int) -> None:
    """What is told is what it was, within half a unit of the third digit."""
    number, unit = bytes_text(size_bytes).split()
    assert float(number) * 1024 ** UNITS[unit] == pytest.approx(size_bytes, rel=0.0051, abs=0.5)
    assert len(number.replace(".", "")) <= 4


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 thousand"), (26_025_321, "26.0 million"), (5e12, "5.00 trillion")],
)
def test_large_counts_are_told_with_a_word(count: float, text: str) -> None:
    """Three digits, at the borders too."""
    assert large(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.000 s"),
        (0.0213, "0.021 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (95, "1 min 35 s"),
        (3725, "1 h 02 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """Seconds, then minutes, then hours; never 60 s."""
    assert seconds_text(seconds) == text


@given(st.floats(0, 1e7))
def test_a_clock_never_shows_sixty(seconds: float) -> None:
    """Rounding carries over."""
    assert not re.search(r"\b60 (s|min)", clock_text(seconds))


def test_counts_and_shapes() -> None:
    """Plural, thousands, extents."""
    assert (counted(0, "block"), counted(1, "block"), counted(2500, "block")) == ("0 blocks", "1 block", "2,500 blocks")
    assert shape_text((189, 233, 197)) == "189 x 233 x 197"


def test_a_halo_names_only_the_axes_that_have_one() -> None:
    """The last axes are meant where a halo has fewer."""
    axes = ("c", "z", "y", "x")
    assert halo_text(Halo((0, 1, 2), (0, 1, 1)), axes) == "halo y 1, x 2 before and 1 after"
    assert halo_text(Halo((0, 0, 0, 0), (0, 0, 0, 0)), axes) == "no halo"


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.integers(30, 100))
def test_lines_keep_their_width_unless_a_path_is_longer(text: str, width: int) -> None:
    """Any text at any width."""
    for line in labelled("label", [text], 9, width):
        assert len(line) <= width or any(slash in line for slash in "/\\")


@given(st.lists(st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True), max_size=40))
def test_wrapping_loses_no_word(words: list[str]) -> None:
    """Words come back in order."""
    lines = labelled("label", [" ".join(words)], 9, 60)
    assert " ".join(lines).split() == ["label", *words]


def test_a_label_that_is_too_long_stands_alone() -> None:
    """The text begins on the next line."""
    assert labelled("a_very_long_label", ["text"], 9) == ["a_very_long_label", "         text"]


def test_a_path_is_never_broken() -> None:
    """It can be copied."""
    path = "/folder" * 20
    assert labelled("output", [path], 9) == [f"output   {path}"]


@given(st.text())
def test_nothing_that_is_written_controls_a_terminal(text: str) -> None:
    """A file's name cannot move the cursor."""
    assert all(c.isprintable() or c == "\n" for c in printable(text))
