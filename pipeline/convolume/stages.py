"""What several outputs do with one input, cut into stages: what they have in common is one of them, and done once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convolume.operations import Arithmetic, Combine, Correlate, Operation, Sequence, merge_axes, reach_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from convolume.boundary import Runs

__all__ = ["SOURCE", "Join", "Stage", "Stages", "chain_of"]

# Stands for what was read where others are numbers of stages.
SOURCE = -1

# A value is known by the operations that lead to it from the source.
Chain = tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """An operation on the value of one stage, or of the source."""

    operation: Operation
    source: int

    @property
    def sources(self) -> tuple[int, ...]:
        """Where it takes values from."""
        return (self.source,)

    def reads(self, wanted: tuple[Runs, ...], shape: tuple[int, ...]) -> tuple[Runs, ...]:
        """Return what it takes of its sources to give its value on `wanted`."""
        return reach_of(self.operation, wanted, shape)


@dataclass(frozen=True, slots=True)
class Join:
    """The values of several stages, joined voxel by voxel as by `Combine`."""

    arithmetic: Arithmetic
    sources: tuple[int, ...]

    def reads(self, wanted: tuple[Runs, ...], shape: tuple[int, ...]) -> tuple[Runs, ...]:
        """Return what it takes of its sources to give its value on `wanted`."""
        del shape
        return wanted


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of several operations on one input.

    Parameters
    ----------
    stages : tuple of Stage or Join
        Each after those that it takes values from.
    results : tuple of int
        The stage whose value is that of each operation, or `SOURCE`.
    shared : dict
        The stages that have several users, each with the operations that lead to its value.

    Examples
    --------
    >>> from convolume.boundary import BoundaryMode
    >>> from convolume.stencil import Stencil
    >>> mean, edge = (Correlate(Stencil.correlate(w), (BoundaryMode.WRAP,)) for w in ([0.5, 0.5], [-1, 1]))
    >>> plan = Stages.of([Sequence((mean,)), Sequence((mean, edge)), Sequence()])
    >>> plan.stages == (Stage(mean, SOURCE), Stage(edge, 0)), plan.results, list(plan.shared)
    (True, (0, 1, -1), [0])
    """

    stages: tuple[Stage | Join, ...]
    results: tuple[int, ...]
    shared: dict[int, Chain]

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> Stages:
        """Cut operations into stages; what nothing else uses stays in one piece, as devices like it."""
        chains = [chain_of(operation) for operation in operations]
        users: dict[Chain, set[Hashable]] = defaultdict(set)
        for position, chain in enumerate(chains):
            _note_users(chain, position, users)
        cutter = _Cutter({chain for chain, known in users.items() if chain and len(known) > 1})
        results = tuple(cutter.number(chain) for chain in chains)
        shared = {number: chain for chain, number in cutter.numbers.items() if chain in cutter.shared}
        return cls(tuple(cutter.stages), results, shared)

    def needs(self, wanted: tuple[Runs, ...], shape: tuple[int, ...]) -> dict[int, tuple[Runs, ...]]:
        """Return what is needed of each stage and of the source, axis by axis, for all results on `wanted`."""
        asked = defaultdict(list, {result: [wanted] for result in self.results})
        for number in reversed(range(len(self.stages))):
            reads = self.stages[number].reads(merge_axes(*asked[number]), shape)
            for source in self.stages[number].sources:
                asked[source].append(reads)
        return {number: merge_axes(*parts) for number, parts in asked.items()}

    def users_after(self, done: int, results_done: int) -> set[int]:
        """Return whose values are still used when so many stages are done and so many results are taken."""
        later = {source for stage in self.stages[done:] for source in stage.sources}
        return later | set(self.results[results_done:])

    def served_by(self, number: int) -> list[int]:
        """Return the positions of the operations that use the value of a stage."""
        users = {number}
        for later in range(number + 1, len(self.stages)):
            if users.intersection(self.stages[later].sources):
                users.add(later)
        return [position for position, result in enumerate(self.results) if result in users]


def chain_of(operation: Operation) -> Chain:
    """Return the operations that an operation does one after the other; passes of one filter are one of them."""
    steps = operation.operations if isinstance(operation, Sequence) else (operation,)
    return tuple(unit for step in steps for unit in _units(step))


def _units(operation: Operation) -> Chain:
    if not isinstance(operation, Sequence):
        return (operation,)
    if operation.operations and all(isinstance(step, Correlate) for step in operation.operations):
        # Devices do passes along the axes in one go.
        return (operation,)
    return tuple(unit for step in operation.operations for unit in _units(step))


def _branches(chain: Chain) -> list[Chain]:
    """Return what leads to the values that a chain joins at its end; nothing where it does not join."""
    *before, last = chain
    return [(*before, *_units(branch)) for branch in last.operations] if isinstance(last, Combine) else []


def _note_users(chain: Chain, user: Hashable, users: dict[Chain, set[Hashable]], start: int = 0) -> None:
    """Note who takes each value on the way along a chain, from `start` on; `user` takes the last."""
    for end in range(start + 1, len(chain) + 1):
        here = chain[:end]
        branches = _branches(here)
        for branch in branches:
            _note_users(branch, here, users, end - 1)
        if not branches:
            users[here[:-1]].add(here)
    users[chain].add(user)


class _Cutter:
    """Makes the stages that lead to the values of chains."""

    def __init__(self, shared: set[Chain]) -> None:
        self.shared = shared
        self.stages: list[Stage | Join] = []
        self.numbers: dict[Chain, int] = {(): SOURCE}

    def number(self, chain: Chain) -> int:
        """Return the number of the stage that gives the value of a chain."""
        if chain not in self.numbers:
            stage = self._made(chain)
            self.numbers[chain] = len(self.stages)
            self.stages.append(stage)
        return self.numbers[chain]

    def _made(self, chain: Chain) -> Stage | Join:
        last = chain[-1]
        if isinstance(last, Combine) and self._is_cut_inside(chain):
            return Join(last.arithmetic, tuple(map(self.number, _branches(chain))))
        start = len(chain) - 1
        while start and not (chain[:start] in self.shared or self._is_cut_inside(chain[:start])):
            start -= 1
        steps = chain[start:]
        return Stage(steps[0] if len(steps) == 1 else Sequence(steps), self.number(chain[:start]))

    def _is_cut_inside(self, chain: Chain) -> bool:
        """Say whether a chain ends by joining values of which others use some, or parts of them."""
        ways = [branch[:end] for branch in _branches(chain) for end in range(len(chain), len(branch) + 1)]
        return any(way in self.shared or self._is_cut_inside(way) for way in ways)
