"""How several operations are done on one patch: stage by stage, what they share once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from convolume.arrays import new_array
from convolume.boundary import Runs, runs_length
from convolume.execution.evaluate import Patch, evaluate, fetched, join, rounds_to
from convolume.operations import Operation, Sequence
from convolume.stages import SOURCE, Join, Stage, Stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from convolume.devices import Voxels
    from convolume.execution.evaluate import Work

__all__ = ["evaluate_each", "rounded_results"]

Array = npt.NDArray[Any]


def evaluate_each(
    work: Work,
    operations: Iterable[Operation],
    patch: Patch,
    wanted: tuple[Runs, ...],
    dtypes: Iterable[np.dtype[Any] | None] = (),
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
    dtypes : iterable of (dtype or None), optional
        Of each result, the dtype that it will be cast to by `convolume.numerics.cast_result`, saturated: it has it
        already where `rounded_results` says so.

    Notes
    -----
    Values that several operations use are held, on the union of what they need, until the last has used them. A result
    may be a view of the patch, or of another result. What is only copied never meets the device: its voxels stay what
    they are, those that no device can hold too.
    """
    stages = Stages.of(operations)
    own_dtypes = rounded_results(work, stages, dtypes)
    needs = stages.needs(wanted, work.image_shape)
    values = {SOURCE: work.held(patch)} if stages.stages else {}
    done = 0
    for taken, result in enumerate(stages.results, start=1):
        while done <= result:
            dtype = own_dtypes.get(done)
            values[done] = Patch(_value(work, stages.stages[done], values, needs[done], dtype), needs[done])
            done += 1
            used = stages.users_after(done, taken - 1)
            values = {number: value for number, value in values.items() if number in used}
        yield fetched(_part(work, patch if result == SOURCE else values[result], wanted))


def rounded_results(work: Work, stages: Stages, dtypes: Iterable[np.dtype[Any] | None]) -> dict[int, np.dtype[Any]]:
    """Return the stages whose values are results of a dtype as soon as they are summed, without floats on the way."""
    return {
        result: dtype
        for result, dtype in zip(stages.results, dtypes, strict=False)
        if dtype is not None
        and result != SOURCE
        and result not in stages.shared
        and isinstance(stage := stages.stages[result], Stage)
        and rounds_to(work, stage.operation, dtype)
    }


def _value(
    work: Work, stage: Stage | Join, values: dict[int, Patch], wanted: tuple[Runs, ...], dtype: np.dtype[Any] | None
) -> Voxels:
    if isinstance(stage, Stage):
        out = None if dtype is None else new_array(tuple(map(runs_length, wanted)), dtype)
        return evaluate(work, stage.operation, values[stage.source], wanted, out)
    return join(work, stage.arithmetic, [_part(work, values[source], wanted) for source in stage.sources])


def _part(work: Work, patch: Patch, wanted: tuple[Runs, ...]) -> Voxels:
    return patch.voxels if patch.runs == wanted else evaluate(work, Sequence(), patch, wanted)
