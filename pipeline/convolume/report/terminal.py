"""A run in the terminal: a live bar where one watches, plain lines in a pipe."""

from __future__ import annotations

import os
import sys
from math import prod
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from convolume.report.images import image_text
from convolume.report.texts import devices_text, plan_text, summary, tuning_text
from convolume.report.wording import clock_text, counted, large, printable, shape_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TextIO

    from rich.progress import Progress as Bars

    from convolume.planning.plan import Plan
    from convolume.records import RunRecord

__all__ = ["TerminalProgress", "devices_text", "image_text", "plan_text", "show", "summary", "tuning_text"]

# Lines of a phase in a pipe: one every tenth, and every twentieth where tenths take long.
_QUICKEST_LINE_S, _SLOW_LINE_S = 1.0, 30.0
_TENTH, _TWENTIETH = 10, 20
_COUNTED = {"filter": "block", "pyramid": "block"}


class TerminalProgress:
    """Tells a person how a run goes; a context manager, so that a broken run leaves the terminal in order.

    Parameters
    ----------
    file : text stream, optional
        Standard output, unless told otherwise. What is written to a stream that was closed on the other side
        (``| head``) is dropped: the run goes on.
    is_live : bool, optional
        Whether a bar is drawn; by default where `file` is a terminal.
    clock : callable
        Seconds, rising.
    """

    def __init__(
        self, file: TextIO | None = None, *, is_live: bool | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self._file = sys.stdout if file is None else file
        self._is_live = _is_terminal(self._file) if is_live is None else is_live
        self._clock = clock
        self._bars: Bars | None = None
        self._phase: _Phase | None = None
        self._voxels_per_block = 0.0

    def started(self, plan: Plan, dashboard_url: str | None) -> None:
        """Print what begins, and the dashboard's address."""
        outputs = sum(prod(output.level_shapes[0]) for output in plan.outputs)
        self._voxels_per_block = outputs / max(plan.block_count, 1)
        blocks = f"{counted(plan.block_count, 'block')} of {shape_text(plan.block_shape_voxels)} voxels"
        lines = [f"{plan.workflow}: {blocks}, on {plan.device.name}"]
        lines += [f"dashboard: {dashboard_url}"] if dashboard_url else []
        show("\n".join(map(printable, lines)), self._file)

    def phase(self, name: str, total: int) -> None:
        """Begin a bar, or a series of lines."""
        rate = self._voxels_per_block if name == "filter" else 0.0
        self._phase = _Phase(name, total, self._clock(), rate)
        if self._is_live:
            self._live_phase(self._phase)
        else:
            self._line(self._phase)

    def advance(self, count: int = 1) -> None:
        """Move on."""
        phase = self._phase
        if phase is None:
            return
        phase.done += count
        now = self._clock()
        if self._bars is not None:
            self._bars.update(self._bars.task_ids[-1], completed=phase.done, facts=phase.speed_text(now))
        elif phase.deserves_line(now):
            self._line(phase)

    def finished(self, record: RunRecord) -> None:
        """Stop the bar and print the summary."""
        self.close()
        show(f"\n{summary(record)}", self._file)

    def close(self) -> None:
        """Stop the bar where it stands."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._phase = None

    def __enter__(self) -> Self:
        """Return the progress itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bar."""
        self.close()

    def _live_phase(self, phase: _Phase) -> None:
        if self._bars is None:
            self._bars = _bars(self._file)
            self._bars.start()
        self._bars.add_task(phase.name, total=phase.total, facts="")

    def _line(self, phase: _Phase) -> None:
        now = self._clock()
        phase.said_at, phase.said_done = now, phase.done
        _write(f"{phase.line(now)}\n", self._file)


class _Phase:
    """How far a phase has come."""

    def __init__(self, name: str, total: int, began: float, voxels_per_step: float) -> None:
        self.name, self.total, self.began = name, total, began
        self.voxels_per_step = voxels_per_step
        self.done = 0
        self.said_at, self.said_done = began, 0

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 1.0

    def deserves_line(self, now: float) -> bool:
        """Say whether a line is due: at most one every twentieth, and the last one always."""
        if self.done == self.total:
            return True
        waited, parts = now - self.said_at, self.done - self.said_done
        return waited >= _QUICKEST_LINE_S and parts * (_TWENTIETH if waited >= _SLOW_LINE_S else _TENTH) >= self.total

    def speed_text(self, now: float) -> str:
        seconds = now - self.began
        if not self.voxels_per_step or not self.done or seconds <= 0:
            return ""
        return f"{large(self.done * self.voxels_per_step / seconds)} voxels/s"

    def line(self, now: float) -> str:
        steps = counted(self.total, _COUNTED[self.name]) if self.name in _COUNTED else f"{self.total:,}"
        facts = [f"{self.name}: {self.done:,} of {steps} ({self.share:.0%})"]
        facts += [speed] if (speed := self.speed_text(now)) else []
        if 0 < self.done < self.total:
            facts.append(f"about {clock_text((now - self.began) * (self.total - self.done) / self.done)} left")
        elif self.done:
            facts.append(f"took {clock_text(now - self.began)}")
        return ", ".join(facts)


def show(text: str, file: TextIO | None = None) -> None:
    """Print a text of this package: with coloured labels in a terminal, plain otherwise."""
    file = sys.stdout if file is None else file
    if not _is_terminal(file):
        _write(f"{text}\n", file)
        return
    from rich.text import Text  # noqa: PLC0415 - rich is loaded only where it is seen

    styled = Text(text)
    styled.highlight_regex(r"(?m)^\S.*?(?=\s{2,}\S)", "bold cyan")
    styled.highlight_regex(r"(?m)^(?:done|plan)\b.*$|^\*.*$", "bold")
    _console(file).print(styled, soft_wrap=True)


def _console(file: TextIO, **settings: Any) -> Any:
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(file=file, highlight=False, **settings)


def _bars(file: TextIO) -> Bars:
    from rich import progress as bars  # noqa: PLC0415 - see above

    return bars.Progress(
        bars.TextColumn("{task.description:8}"),
        bars.BarColumn(bar_width=24),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[facts]}"),
        bars.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=_console(file, force_terminal=True),
        redirect_stdout=False,
    )


def _is_terminal(file: TextIO) -> bool:
    return file.isatty() and os.environ.get("TERM") != "dumb"


def _write(text: str, file: TextIO) -> None:
    """Write at once; a reader who left is no error of the run."""
    try:
        file.write(text)
        file.flush()
    except BrokenPipeError:
        if file is sys.stdout:
            # Else Python complains when it flushes at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
