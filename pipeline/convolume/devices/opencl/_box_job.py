"""Sums of boxes that wait for one another: what `box.cl` is made for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from convolume.addition_chain import addition_chain, additions
from convolume.devices.opencl._jobs import Job, box_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BoxJob", "steps_of"]

# Rows whose sums are made from one another in registers: so many that the ring is small.
STEPS = range(6, 9)
# Sums of two are as quick to make as to read.
PAIR = 2


@dataclass(frozen=True)
class Wait:
    """Sums of some length that wait for rows to come.

    Parameters
    ----------
    length : int
        Rows that are summed.
    rows : int
        Rows that they wait for.
    steps : int
        Rows that come at a time.
    place : int
        Rows before it in the ring.
    """

    length: int
    rows: int
    steps: int
    place: int

    @property
    def turns(self) -> int:
        """Turns until a place in the ring is written again."""
        return -(-self.rows // self.steps)

    @property
    def kept(self) -> int:
        """Rows in the ring: those of whole turns where the wait is longer than one."""
        return self.rows if self.turns == 1 else self.turns * self.steps

    @property
    def spare(self) -> int:
        """Rows that are kept longer than they wait."""
        return self.kept - self.rows


@dataclass(frozen=True, slots=True)
class BoxJob(Job):
    """A program for boxes of `b` voxels along b and `x` along x; 1 where there is no such pass.

    It takes `steps` rows along b at a time.
    """

    template: ClassVar[str] = "box.cl"
    steps: int
    b: int
    x: int

    @property
    def waits(self) -> list[Wait]:
        """What waits along b for later rows, one behind the other in the ring."""
        return waits_of(self.b, self.steps)

    @property
    def ring_rows(self) -> int:
        """Rows of the ring."""
        return rows_of(self.waits)

    @property
    def lines(self) -> list[int]:
        """Lengths of the sums along x that have lines of their own: the voxels, and those that are used again."""
        used = Counter(length for pair in additions(self.x) for length in pair)
        return [1, *(length for length, times in sorted(used.items()) if length > PAIR and times > 1)]

    def along_x(self, length: int, begin: int = 0) -> str:
        """Return how a sum of a line is written that begins so many voxels behind x, from shorter ones with lines."""
        return box_sum(length, {line: f"GET(line{line} + x + %d)" for line in self.lines if line < length}, begin)

    @property
    def unrolled_sums(self) -> int:
        """Additions that stand in the source."""
        return self.steps * len(addition_chain(self.b)) + self.vectors * len(addition_chain(self.x))


def waits_of(size: int, steps: int) -> list[Wait]:
    """Return what waits for a box of so many rows, one behind the other in the ring."""
    waits: list[Wait] = []
    for first, second in additions(size):
        waits.append(Wait(first, second, steps, rows_of(waits)))
    return waits


def rows_of(waits: Sequence[Wait]) -> int:
    """Return the rows of a ring."""
    return sum(wait.kept for wait in waits)


def steps_of(size: int) -> int:
    """Return how many rows are taken at a time for a box of so many rows."""
    return min(STEPS, key=lambda steps: rows_of(waits_of(size, steps)))
