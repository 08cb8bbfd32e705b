"""Tiles in local memory, for GPUs: which stencils and passes `tile.cl` serves, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.boundary import OUTSIDE
from convolume.devices.opencl._arrangement import Laid, pitches
from convolume.devices.opencl._tile_job import cheapest_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.devices import Pass
    from convolume.devices.opencl._jobs import Numbers
    from convolume.devices.opencl._tile_job import Form, Limits, TileJob
    from convolume.stencil import Stencil

__all__ = ["Tile", "tile_of"]

Indices = npt.NDArray[np.intp]
Roles = tuple[int | None, int | None, int]
# The form, the weights one after the other, and the constants of b, a and x.
Told = tuple["Form", npt.NDArray[np.float64], list[float]]

# Places in a plane beyond which they take 64 bits.
LAST_SHORT_PLACE = 2**31 - 1
# Outputs beyond which shapes of groups are not told apart, so that blocks of many sizes share programs.
LARGE = 256


@dataclass(frozen=True)
class Tile:
    """One call of the program.

    Parameters
    ----------
    job : TileJob
        The program.
    arguments : list
        Tables and numbers, behind source and target: weights; where b, a and x read; where each image that they span
        begins in source and target; extents, marches, pitches of the target, and what stands beyond the faces.
    groups : int
        Work groups.
    """

    job: TileJob
    arguments: list[Any]
    groups: int

    @property
    def size(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Work items, and those of a group; groups stand in one line, for only that may be as long as it needs."""
        return (self.groups * self.job.columns, self.job.lines), (self.job.columns, self.job.lines)


def tile_of(source: Laid, passes: Sequence[Pass], target: Laid, numbers: Numbers, limits: Limits) -> Tile | None:
    """Return the call that does one pass, or several one after the other; None where the program does not serve."""
    weighed = [[axis for axis, extent in enumerate(step.stencil.shape) if extent > 1] for step in passes]
    places, roles = _places(passes, weighed), _roles(weighed, target.shape)
    if places is None or roles is None or any(step.stencil.by_lines for step in passes):
        return None
    boxes = [step.stencil.adds_as_box(exact=numbers.exact) for step in passes]
    is_chain = len(passes) > 1 or boxes[0]
    form, weights, cvals = _of_chain(passes, weighed, boxes, roles) if is_chain else _of_stencil(passes[0])
    depth, height, width = (1 if axis is None else target.shape[axis] for axis in roles)
    offsets = [_offsets(axis, places, source) for axis in roles]
    is_wide = sum(int(each.max()) for each in offsets[1:]) > LAST_SHORT_PLACE
    job = cheapest_job(numbers, form, (_rounded(height), _rounded(width)), limits, wide_planes=is_wide)
    if job is None:
        return None
    outer = _outer([axis for axis in range(len(places)) if axis not in roles], places, source, target)
    marches = prod(job.groups(height, width)) * len(outer)
    segments = _segments(depth, job, marches, limits)
    sums = np.dtype(numbers.sum).type
    with np.errstate(over="ignore"):
        arguments = [
            weights.astype(sums).tobytes() if job.weights_by_value else weights.astype(sums),
            np.concatenate(offsets),
            outer,
            *map(np.int32, (depth, height, width, segments)),
            *(np.int64(0 if axis is None else pitches(target)[axis]) for axis in roles[:2]),
            *map(sums, cvals),
        ]
    return Tile(job, arguments, marches * segments)


def _places(passes: Sequence[Pass], weighed: list[list[int]]) -> list[Indices] | None:
    """Return where passes read on each axis; None where several do not take all other axes as they are."""
    places = list(passes[0].places)
    for step, own in zip(passes, weighed, strict=True):
        if len(passes) > 1 and len(own) != 1:
            return None
        for axis, held in enumerate(step.places):
            if axis in own:
                places[axis] = held
            elif (step is not passes[0] or [axis] in weighed) and not np.array_equal(held, np.arange(len(held))):
                return None
    return places


def _roles(weighed: list[list[int]], shape: tuple[int, ...]) -> Roles | None:
    """Return which axes are b, a and x: of passes a comes first, of a stencil's axes b; None if they are not such."""
    last = len(shape) - 1
    flat = [axis for axes in weighed for axis in axes]
    own = [axis for axis in flat if axis != last]
    if len(own) > 2 or len(set(flat)) < len(flat) or (last in flat and flat[-1] != last):  # noqa: PLR2004 (b and a)
        return None
    if len(weighed) > 1:
        own.reverse()
    free = sorted(set(range(last)) - set(own), key=lambda axis: (shape[axis] > 1, axis), reverse=True)
    b, a = [*own, *free, None, None][:2]
    # What reaches along x alone needs lines of one plane.
    return (b, a, last) if own else (a, b, last)


def _of_stencil(step: Pass) -> Told:
    return _form_of(step.stencil), step.stencil.weights.ravel(), [step.cval] * 3


@lru_cache(maxsize=256)
def _form_of(stencil: Stencil) -> Form:
    """Return the extents along b, a and x of a stencil over three axes or fewer, and its taps."""
    *outer, x = stencil.shape
    b, a = [*(extent for extent in outer if extent > 1), 1, 1][:2]
    filled = stencil.weights.reshape(b, a, x) != 0
    places = np.argwhere(filled.any(axis=0)).tolist()
    taps = tuple((y, x, tuple(np.flatnonzero(filled[:, y, x]).tolist())) for y, x in places)
    return (b, a, x), taps, (), (False, False, False)


def _of_chain(passes: Sequence[Pass], weighed: list[list[int]], boxes: list[bool], roles: Roles) -> Told:
    step_of: dict[int | None, Pass] = {axes[0]: step for step, axes in zip(passes, weighed, strict=True)}
    box_of: dict[int | None, bool] = {axes[0]: box for box, axes in zip(boxes, weighed, strict=True)}
    steps = [step_of.get(axis) for axis in roles]
    b, a, x = lines = [step.stencil.weights.ravel() if step else np.zeros(1) for step in steps]
    box_b, box_a, box_x = (box_of.get(axis, False) for axis in roles)
    along = tuple(tuple(np.flatnonzero(line).tolist()) for line in lines)
    cvals = [step.cval if step else 0.0 for step in steps]
    return ((len(b), len(a), len(x)), (), along, (box_b, box_a, box_x)), np.concatenate(lines), cvals


def _rounded(outputs: int) -> int:
    """Return about how many outputs there are: the next power of two."""
    return min(1 << (outputs - 1).bit_length(), LARGE)


def _segments(depth: int, job: TileJob, groups: int, limits: Limits) -> int:
    """Return into how many marches one along b is cut, each with a halo of its own, so that all end soonest."""
    counts = np.arange(1, depth + 1)
    rounds = -(-groups * counts // (job.groups_a_unit * limits.compute_units))
    planes = -(-depth // counts) + job.extents[0] - 1
    return int(counts[np.argmin(rounds * planes)])


def _offsets(axis: int | None, places: list[Indices], source: Laid) -> npt.NDArray[np.int64]:
    """Return the places of an axis in elements of the source."""
    if axis is None:
        return np.zeros(1, np.int64)
    return np.where(places[axis] == OUTSIDE, OUTSIDE, places[axis] * pitches(source)[axis])


def _outer(axes: list[int], places: list[Indices], source: Laid, target: Laid) -> npt.NDArray[np.int64]:
    """Return where every image over these axes begins, in source and target."""
    starts = np.zeros((1, 2), np.int64)
    for axis in axes:
        steps = np.stack(
            [_offsets(axis, places, source), np.arange(target.shape[axis]) * pitches(target)[axis]], axis=1
        )
        starts = (starts[:, np.newaxis] + steps).reshape(-1, 2)
    return starts
