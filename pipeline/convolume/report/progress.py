"""What a run tells while it works: the protocol of its listeners, and the one that says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from convolume.planning.plan import Plan
    from convolume.records import RunRecord

__all__ = ["Progress", "Silent"]


@runtime_checkable
class Progress(Protocol):
    """Is told what happens, in this order, all from the thread that called ``run``.

    A run that fails or is interrupted never calls `finished`.
    """

    def started(self, plan: Plan, dashboard_url: str | None) -> None:
        """Take note that the cluster is up and the plan is about to be carried out."""

    def phase(self, name: str, total: int) -> None:
        """Note that a phase of `total` steps begins: ``"filter"``, ``"pyramid"`` (blocks) or ``"file"`` (slabs)."""

    def advance(self, count: int = 1) -> None:
        """Take note that `count` more steps of the phase are done."""

    def finished(self, record: RunRecord) -> None:
        """Take note that everything was written."""


class Silent:
    """Progress that nobody watches."""

    def started(self, plan: Plan, dashboard_url: str | None) -> None:
        """Say nothing."""

    def phase(self, name: str, total: int) -> None:
        """Say nothing."""

    def advance(self, count: int = 1) -> None:
        """Say nothing."""

    def finished(self, record: RunRecord) -> None:
        """Say nothing."""
