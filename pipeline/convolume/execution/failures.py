"""What comes of a run whose blocks fail: all others are finished, then it ends with an error that tells every one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convolume.errors import DeviceLostError, PassingError, RunError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convolume.clusters import Cluster, Task

__all__ = ["Failures", "finish_all"]

# Of blocks so quick that a future costs more, so many share one.
LONGEST_RUN = 64
# Failures that are told one by one.
_MOST_TOLD = 10


def finish_all(cluster: Cluster, tasks: Iterator[Task] | Sequence[Iterator[Task]]) -> Iterator[Any]:
    """Yield the results of all tasks that can be done, as they finish; what failed is told together at the end.

    It is given up where nothing comes of going on: as many tasks as are in flight failed one after the other, because
    storage or devices refuse, or nothing was ever finished.

    Raises
    ------
    RunError
        Tasks failed; names each with its place and cause, as far as they are few.
    """
    failed = Failures(most_in_a_row=2 * cluster.slots + 1)
    with closing(cluster.map_outcomes(tasks, LONGEST_RUN)) as outcomes:
        for outcome in outcomes:
            if outcome.error is None:
                failed.finished(1)
                yield outcome.result
            elif failed.is_hopeless_after(outcome.error):
                break
    failed.raise_if_any()


@dataclass
class Failures:
    """The failures of a run: how many, the first of them in words, and whether it is worth going on."""

    most_in_a_row: int
    count: int = 0
    finished_count: int = 0
    in_a_row: int = 0
    told: list[str] = field(default_factory=list)
    first: Exception | None = None

    def finished(self, count: int) -> None:
        """Take note of what succeeded."""
        self.finished_count += count
        self.in_a_row = 0

    def is_hopeless_after(self, error: Exception) -> bool:
        """Take note of a failure; say whether all further ones are to be expected."""
        self.count += 1
        self.first = self.first or error
        if self.count <= _MOST_TOLD:
            self.told.append(str(error))
        if not self.finished_count or isinstance(error, (PassingError, StorageError, DeviceLostError)):
            self.in_a_row += 1
        return self.in_a_row >= self.most_in_a_row

    def raise_if_any(self) -> None:
        """Raise what failed, if anything did."""
        if not self.count:
            return
        more = [f"and {self.count - len(self.told)} more"] if self.count > len(self.told) else []
        gave_up = "; gave up, for every one failed in the end" if self.in_a_row >= self.most_in_a_row else ""
        summary = f"{self.count} failed, {self.finished_count} finished{gave_up}: the outputs stay unfinished"
        message = "\n".join([*self.told, *more, summary])
        kind = type(self.first) if isinstance(self.first, RunError) else RunError
        raise kind(message) from None
