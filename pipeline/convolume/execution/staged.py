"""How several operations are done on one patch: stage by stage, what they share once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from convolume.execution.evaluate import Patch, evaluate, fetched, join
from convolume.operations import Operation, Sequence
from convolume.stages import SOURCE, Join, Stage, Stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convolume.boundary import Runs
    from convolume.devices import Voxels
    from convolume.execution.evaluate import Work

__all__ = ["evaluate_each"]

Array = npt.NDArray[Any]


def evaluate_each(
    work: Work, operations: Iterable[Operation], patch: Patch, wanted: tuple[Runs, ...]
) -> Iterator[Array]:
    """Yield the result of each operation on the voxels that `wanted` names: the bits of `evaluate`, each alone.

    Parameters
    ----------
    work : Work
        Device, precision, dtype and the shape of the whole image.
    operations : iterable of Operation
        What is done on the patch.
    patch : Patch
        At least what all operations together read.
    wanted : tuple of runs
        One entry an axis, inside the image.

    Notes
    -----
    Values that several operations use are held, on the union of what they need, until the last has used them. A result
    may be a view of the patch, or of another result. What is only copied never meets the device: its voxels stay what
    they are, those that no device can hold too.
    """
    stages = Stages.of(operations)
    needs = stages.needs(wanted, work.image_shape)
    values = {SOURCE: work.held(patch)} if stages.stages else {}
    done = 0
    for taken, result in enumerate(stages.results, start=1):
        while done <= result:
            values[done] = Patch(_value(work, stages.stages[done], values, needs[done]), needs[done])
            done += 1
            used = stages.users_after(done, taken - 1)
            values = {number: value for number, value in values.items() if number in used}
        yield fetched(_part(work, patch if result == SOURCE else values[result], wanted))


def _value(work: Work, stage: Stage | Join, values: dict[int, Patch], wanted: tuple[Runs, ...]) -> Voxels:
    if isinstance(stage, Stage):
        return evaluate(work, stage.operation, values[stage.source], wanted)
    return join(work, stage.arithmetic, [_part(work, values[source], wanted) for source in stage.sources])


def _part(work: Work, patch: Patch, wanted: tuple[Runs, ...]) -> Voxels:
    return patch.voxels if patch.runs == wanted else evaluate(work, Sequence(), patch, wanted)
