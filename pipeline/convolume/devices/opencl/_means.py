"""Means of whole numbers: their sums are exact in any order, so a walk may take them, in float32 where they fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.boundary import OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.devices import Pass
    from convolume.devices.opencl._jobs import Numbers
    from convolume.stencil import Stencil

__all__ = ["mean_numbers", "raised_inverse"]

# A mean is cut off to a whole number. With s the sum of n numbers up to m, and e above the rounding of two products,
# s · (1/n)(1 + e) is not below s/n where that is whole, and below the next whole number while e < 1 / (n · (m + 1)).
_RAISED_BY = {"float32": 2.0**-21, "float64": 2.0**-50}
_LARGEST_SUM = {"float32": 2.0**20, "float64": 2.0**49}


def mean_numbers(passes: Sequence[Pass], numbers: Numbers) -> Numbers | None:
    """Return in which numbers passes that take means of whole numbers can be done; None where they are not such.

    Parameters
    ----------
    passes : sequence of Pass
        Any; those of scipy's lines are means where all weights are 1.
    numbers : Numbers
        Of the call; what is written must hold whatever is read.
    """
    read, written = np.dtype(numbers.source), np.dtype(numbers.target)
    if numbers.rounded or read.kind not in "iu" or not np.can_cast(read, written, "safe"):
        return None
    if not all(map(_is_mean, passes)):
        return None
    largest = max(abs(float(np.iinfo(read).min)), float(np.iinfo(read).max)) + 1
    if not all(_holds_constant(step, read) for step in passes):
        return None
    largest_sum = largest * max(step.stencil.size for step in passes)
    for sums, limit in _LARGEST_SUM.items():
        if largest_sum <= limit:
            return replace(numbers, sum=sums, exact=False)
    return None


def raised_inverse(stencil: Stencil, numbers: Numbers) -> float:
    """Return what a sum is multiplied by instead of being divided: a little more than one over the divisor."""
    return (1 + _RAISED_BY[numbers.sum]) / stencil.divisor


def _is_mean(step: Pass) -> bool:
    return bool(step.stencil.by_lines and step.stencil.divisor > 1 and (step.stencil.weights == 1).all())


def _holds_constant(step: Pass, dtype: np.dtype[Any]) -> bool:
    if not any((places == OUTSIDE).any() for places in step.places):
        return True
    limits = np.iinfo(dtype)
    return float(step.cval).is_integer() and limits.min <= step.cval <= limits.max
