"""Any stencil on a GPU, voxels looked up one by one: what `anywhere.cl` is made for and told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from convolume.boundary import OUTSIDE
from convolume.devices.opencl._arrangement import Laid, completed_by, pitches, weights_and_taps
from convolume.devices.opencl._jobs import Job, Numbers, one_voxel

if TYPE_CHECKING:
    from convolume.devices import Pass

__all__ = ["AnywhereJob", "anywhere_arguments", "anywhere_job"]


@dataclass(frozen=True, slots=True)
class AnywhereJob(Job):
    """A program for any stencil of so many axes; `by_lines` and `as_box` as `GenericJob` has them."""

    template: ClassVar[str] = "anywhere.cl"
    ndim: int
    by_lines: bool
    as_box: bool


def anywhere_job(step: Pass, numbers: Numbers) -> AnywhereJob:
    """Return the job for a pass."""
    stencil = step.stencil
    as_box = stencil.adds_as_box(exact=numbers.exact)
    return AnywhereJob(*one_voxel(numbers), stencil.ndim, stencil.by_lines, as_box)


def anywhere_arguments(source: Laid, target: Laid, step: Pass, numbers: Numbers) -> list[Any]:
    """Return what the program is called with: tables, then numbers, behind where source and target begin."""
    weights, taps, counts = weights_and_taps(step.stencil)
    places = [
        np.where(place == OUTSIDE, OUTSIDE, place * pitch)
        for place, pitch in zip(step.places, pitches(source), strict=True)
    ]
    starts = np.cumsum([0, *map(len, places)])[:-1]
    with np.errstate(over="ignore"):
        return [
            weights.astype(numbers.sum),
            np.concatenate([taps.ravel(), completed_by(step.stencil)]),
            np.concatenate(places),
            np.concatenate([starts, np.array(target.shape), pitches(target)]),
            np.dtype(numbers.sum).type(step.cval),
            *map(np.int32, counts),
        ]
