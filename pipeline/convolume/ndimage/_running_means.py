"""Means along lines as scipy's running sums have them, for the integer results that hang on how those sums round.

Sums of whole numbers below 2**53 are exact, however they are summed: devices compute those. Of others a running sum
carries what it rounds from voxel to voxel, so the digits of a mean hang on its whole line, and lines are summed whole.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.boundary import OUTSIDE, source_indices
from convolume.ndimage._arguments import is_dask
from convolume.numerics import truncate_like_scipy

if TYPE_CHECKING:
    from convolume.ndimage._arguments import Call
    from convolume.ndimage._weighing import Line

__all__ = ["running_means", "sums_are_exact"]

Array = npt.NDArray[Any]

_LARGEST_EXACT = 2.0**53


def sums_are_exact(call: Call, lines: list[Line]) -> bool:
    """Say whether no running sum of these lines can round: between them stand whole numbers of the result's dtype."""
    sources = [call.image.dtype, call.dtype][: len(lines)]
    largest = max((_largest(dtype) for dtype in sources), default=0.0)
    if any(line.mode.is_constant for line in lines):
        cval = float(np.real(call.cval))
        largest = max(largest, abs(cval) if cval == np.rint(cval) else np.inf)
    widest = max((line.divisor for line in lines), default=0)
    return 2 * widest * largest < _LARGEST_EXACT


def running_means(call: Call, lines: list[Line]) -> Any:
    """Return the means along one line after the other, cut off to whole numbers in between."""
    result = call.image
    # Booleans are bytes in between, as scipy has them.
    dtype = np.dtype(np.uint8) if call.dtype.kind == "b" else call.dtype
    for line in lines:
        along = partial(_along, line=line, cval=float(np.real(call.cval)), dtype=dtype)
        if is_dask(result):
            whole_lines = result.rechunk({line.axis: -1})
            result = whole_lines.map_blocks(along, dtype=dtype, meta=np.empty((0,) * result.ndim, dtype))
        else:
            result = along(result)
    return result.astype(call.dtype, copy=False)


def _largest(dtype: np.dtype[Any]) -> float:
    if dtype.kind == "b":
        return 1.0
    return float(np.iinfo(dtype).max) + 1 if dtype.kind in "iu" else np.inf


def _along(image: Array, line: Line, cval: float, dtype: np.dtype[Any]) -> Array:
    if image.size == 0:
        return image.astype(dtype)
    size, length = line.divisor, image.shape[line.axis]
    before = size // 2 + line.origin
    indices = source_indices(-before, length + size - 1 - before, length, line.mode)
    filled = np.moveaxis(image, line.axis, -1).astype(np.float64)[..., indices]
    filled[..., indices == OUTSIDE] = cval
    with np.errstate(all="ignore"):
        first = np.add.accumulate(filled[..., :size], axis=-1)[..., -1:]
        steps = filled[..., size:] - filled[..., : length - 1]
        sums = np.add.accumulate(np.concatenate([first, steps], axis=-1), axis=-1)
        return np.moveaxis(truncate_like_scipy(sums / size, dtype, by_lines=True), -1, line.axis)
