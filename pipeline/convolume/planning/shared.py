"""What is done once for several outputs, told by their steps."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from convolume.operations import Operation, Sequence
from convolume.planning.plan import SharedSteps
from convolume.stages import Stages, chain_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["shared_steps"]


def shared_steps(steps: Mapping[str, tuple[str, ...]], operations: list[Operation]) -> tuple[SharedSteps, ...]:
    """Return what is done once for several outputs, told by the steps of one of them.

    Parameters
    ----------
    steps : mapping of str to tuple of str
        The names of each output's steps.
    operations : list of Operation
        What is done for each output, in the same order.
    """
    stages, names = Stages.of(operations), list(steps)
    shared = []
    for number, chain in stages.shared.items():
        outputs = stages.served_by(number)
        told = [(*_steps_within(chain, operations[position]), names[position]) for position in outputs]
        count, is_part, name = min(told, key=itemgetter(1))
        shared.append(SharedSteps(steps[name][:count], is_part, tuple(names[position] for position in outputs)))
    return tuple(shared)


def _steps_within(chain: tuple[Operation, ...], operation: Operation) -> tuple[int, bool]:
    """Return with how many steps of an operation a chain ends, and whether with a part of the last of them."""
    steps = operation.operations if isinstance(operation, Sequence) else (operation,)
    starts = [chain_of(Sequence(steps[:count])) for count in range(len(steps) + 1)]
    whole = max(count for count, start in enumerate(starts) if chain[: len(start)] == start)
    is_part = starts[whole] != chain
    return whole + is_part, is_part
