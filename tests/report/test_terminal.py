"""Progress: lines in a pipe, a bar in a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convolume.report.progress import Progress, Silent
from convolume.report.terminal import TerminalProgress, plan_text, show, summary

if TYPE_CHECKING:
    from convolume.planning.plan import Plan
    from convolume.records import RunRecord


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Terminal(io.StringIO):
    """A stream that says that somebody watches."""

    def isatty(self) -> bool:
        """Return True."""
        return True


class Closed(io.StringIO):
    """A pipe whose reader left."""

    def write(self, _text: str) -> int:
        """Fail as a pipe does."""
        raise BrokenPipeError


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")


def told(plan: Plan, seconds: list[float]) -> list[str]:
    """Return the lines of a filter phase whose blocks take these times."""
    file, clock = io.StringIO(), Clock()
    progress = TerminalProgress(file, clock=clock)
    progress.started(replace(plan, block_count=max(len(seconds), 1)), None)
    file.truncate(file.seek(0))
    progress.phase("filter", len(seconds))
    for step in seconds:
        clock.now += step
        progress.advance()
    return file.getvalue().splitlines()


def test_both_are_progress() -> None:
    """Listeners are known by their methods."""
    assert isinstance(Silent(), Progress)
    assert isinstance(TerminalProgress(io.StringIO()), Progress)


def test_silence_is_silent(plan: Plan, record: RunRecord, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing reaches either stream."""
    silent = Silent()
    silent.started(plan, "http://127.0.0.1:8787/status")
    silent.phase("filter", 3)
    silent.advance()
    silent.finished(record)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_whole_run_in_a_pipe(plan: Plan, record: RunRecord) -> None:
    """Line by line: what begins, the dashboard, the phases, the summary."""
    file, clock = io.StringIO(), Clock()
    with TerminalProgress(file, clock=clock) as progress:
        progress.started(plan, "http://127.0.0.1:8787/status")
        progress.phase("filter", 8)
        for _ in range(8):
            clock.now += 2.0
            progress.advance()
        progress.phase("pyramid", 2)
        progress.advance(2)
        progress.finished(record)
    lines = file.getvalue().splitlines()
    assert lines[0] == f"convolution tour: 8 blocks of 128 x 128 x 128 voxels, on {plan.device.name}"
    assert lines[1] == "dashboard: http://127.0.0.1:8787/status"
    voxels = 2 * 189 * 233 * 197
    speed = f"{voxels / 8 / 2 / 1e6:.3g} million voxels/s"
    assert lines[2] == "filter: 0 of 8 blocks (0%)"
    assert lines[3] == f"filter: 1 of 8 blocks (12%), {speed}, about 14 s left"
    assert lines[10] == f"filter: 8 of 8 blocks (100%), {speed}, took 16 s"
    assert lines[11:13] == ["pyramid: 0 of 2 blocks (0%)", "pyramid: 2 of 2 blocks (100%), took 0 s"]
    assert file.getvalue().endswith(f"\n\n{summary(record)}\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=400))
def test_a_phase_has_at_most_twenty_two_plain_lines(plan: Plan, seconds: list[float]) -> None:
    """Whatever the blocks' times, and the last line says that all is done."""
    lines = told(plan, seconds)
    # The first and the last line stand beside the twentieths.
    assert 2 <= len(lines) <= 22
    assert all(line.isprintable() for line in lines)
    assert lines[-1].startswith(f"filter: {len(seconds):,} of ")
    assert "(100%)" in lines[-1]


def test_slow_blocks_are_told_every_twentieth_and_quick_ones_every_second(plan: Plan) -> None:
    """Tenths, twentieths where tenths take long, and nothing but the ends of a quick phase."""
    shares = [re.findall(r"\((\d+)%\)", line)[0] for line in told(plan, [40.0] * 100)]
    assert shares == [str(share) for share in range(0, 101, 5)]
    assert len(told(plan, [2.0] * 100)) == 11
    assert len(told(plan, [1e-4] * 100)) == 2


def test_nothing_to_do_is_told_too() -> None:
    """A phase without steps divides by nothing."""
    file = io.StringIO()
    progress = TerminalProgress(file)
    progress.phase("pyramid", 0)
    progress.advance()
    assert file.getvalue().startswith("pyramid: 0 of 0 blocks (100%)\n")


def test_a_terminal_shows_a_bar_with_blocks_speed_and_time(plan: Plan, record: RunRecord) -> None:
    """And above it the dashboard, below it the summary."""
    file, clock = Terminal(), Clock()
    with TerminalProgress(file, clock=clock) as progress:
        progress.started(plan, "http://127.0.0.1:8787/status")
        progress.phase("filter", 8)
        clock.now = 2.0
        progress.advance(8)
        progress.finished(record)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "dashboard: http://127.0.0.1:8787/status" in text
    bar = next(line for line in reversed(text.splitlines()) if line.startswith("filter"))
    assert "8/8" in bar
    assert "8.68 million voxels/s" in bar
    assert summary(record).splitlines()[-1] in text
    # The cursor was hidden while the bar moved, and is there again.
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")


def test_a_run_that_breaks_leaves_the_terminal_in_order(plan: Plan) -> None:
    """The cursor comes back."""

    def interrupted(progress: TerminalProgress) -> None:
        with progress:
            progress.started(plan, None)
            progress.phase("filter", 8)
            raise KeyboardInterrupt

    file = Terminal()
    with pytest.raises(KeyboardInterrupt):
        interrupted(TerminalProgress(file))
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")


def test_a_dumb_terminal_is_a_pipe(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not move its cursor."""
    monkeypatch.setenv("TERM", "dumb")
    file = Terminal()
    show(plan_text(plan), file)
    progress = TerminalProgress(file)
    progress.phase("filter", 1)
    progress.advance()
    assert "\x1b" not in file.getvalue()


def test_colours_change_no_character(plan: Plan) -> None:
    """Only the labels are coloured."""
    terminal, pipe = Terminal(), io.StringIO()
    show(plan_text(plan), terminal)
    show(plan_text(plan), pipe)
    assert "\x1b[" in terminal.getvalue()
    assert pipe.getvalue() == f"{plan_text(plan)}\n"
    assert re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()) == pipe.getvalue()


def test_a_reader_who_leaves_does_not_end_the_run(plan: Plan, record: RunRecord) -> None:
    """As in ``convolume run … | head``."""
    with TerminalProgress(Closed()) as progress:
        progress.started(plan, "http://127.0.0.1:8787/status")
        progress.phase("filter", 1)
        progress.advance()
        progress.finished(record)
