"""What happens to numbers: which dtype results have, how sums are kept, how results are cast."""

from __future__ import annotations

from enum import StrEnum
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from convolume.arrays import new_array
from convolume.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import EllipsisType

__all__ = ["Overflow", "Precision", "cast_result", "default_result_dtype", "truncate_like_scipy", "working_dtype"]

Overflow = Literal["saturate", "error"]
Array = npt.NDArray[Any]

# What is cast at a time, with its rounded copy, stays in a core's second-level cache.
_PART_VOXELS = 2**16


class Precision(StrEnum):
    """How a weighted sum is kept.

    ``single`` sums float32 in float32, ``double`` sums in float64, and ``scipy`` sums in float64 without
    contraction, in scipy's order, and casts the sum to the output as C does: scipy.ndimage to the digit.
    """

    SINGLE = "single"
    DOUBLE = "double"
    SCIPY = "scipy"


def default_result_dtype(source: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype of a workflow's result where none is named: floats keep theirs, integers give float32."""
    dtype = np.dtype(source)
    return dtype if dtype.kind == "f" else np.dtype(np.float32)


def working_dtype(source: npt.DTypeLike, precision: Precision) -> np.dtype[Any]:
    """Return the dtype in which sums are kept and results stay between two steps of a chain.

    Sources of 32 bits or more that float32 cannot hold (int32, uint32, int64, uint64, float64)
    are worked on in float64 whatever the precision.
    """
    dtype = np.dtype(source)
    if dtype.kind == "c":
        message = f"complex images ({dtype}) are not filtered: filter the real and the imaginary part"
        raise InputError(message)
    exact_in_float32 = np.can_cast(dtype, np.float32, casting="safe")
    return np.dtype(np.float32 if exact_in_float32 and precision is Precision.SINGLE else np.float64)


def cast_result(values: Array, dtype: npt.DTypeLike, overflow: Overflow = "saturate") -> Array:
    """Cast a result once, at the end: rounded half to even, then saturated (or refused).

    Parameters
    ----------
    values : numpy.ndarray
        Floating-point results of any shape, or the voxels of a copy in whichever dtype they have.
    dtype : dtype
        Dtype of the output; floats are cast plainly.
    overflow : {'saturate', 'error'}
        What happens to values that an integer dtype cannot hold; NaN becomes 0 when saturating.

    Raises
    ------
    OverflowError
        A value does not fit and `overflow` is ``'error'``.

    Examples
    --------
    >>> cast_result(np.array([0.5, 1.5, 300.0, -7.0]), np.uint8).tolist()
    [0, 2, 255, 0]
    """
    target = np.dtype(dtype)
    if target.kind == "f" or target == values.dtype:
        with np.errstate(over="ignore"):
            return values.astype(target, copy=False)
    if target.kind == "b":
        return values.astype(np.bool_)
    result = new_array(values.shape, target)
    for part in _parts(values.shape):
        _round_into(result[part], values[part], overflow)
    return result


def _round_into(out: Array, values: Array, overflow: Overflow) -> None:
    """Round and saturate a part of an array that stays in the processor's cache."""
    limits = np.iinfo(out.dtype)
    if values.dtype.kind in "iu":
        _limit_into(out, values, limits, overflow)
        return
    rounded = np.rint(values)
    # The first value above the limit is a power of two, which floats hold where they cannot hold the limit.
    lowest, above = float(limits.min), float(limits.max) + 1.0
    with np.errstate(invalid="ignore"):
        if rounded.min() >= lowest and rounded.max() < above:
            out[...] = rounded
            return
    too_low, too_high = rounded < lowest, rounded >= above
    outside = too_low | too_high | np.isnan(rounded)
    _check_fits(values, outside, limits, overflow)
    out[...] = np.where(outside, 0, rounded)
    out[too_low], out[too_high] = limits.min, limits.max


def _limit_into(out: Array, values: Array, limits: np.iinfo[Any], overflow: Overflow) -> None:
    """Saturate integers without a float on the way, which would not hold those above 2**53."""
    of_values = np.iinfo(values.dtype)
    lowest, highest = max(limits.min, of_values.min), min(limits.max, of_values.max)
    if overflow == "error":
        _check_fits(values, (values < lowest) | (values > highest), limits, overflow)
    out[...] = np.clip(values, lowest, highest)


def _check_fits(values: Array, outside: Array, limits: np.iinfo[Any], overflow: Overflow) -> None:
    if overflow == "error" and outside.any():
        message = f"the value {values[outside].flat[0]} does not fit into {limits.dtype} ({limits.min} to {limits.max})"
        raise OverflowError(message)


def _parts(shape: tuple[int, ...]) -> Iterator[tuple[slice | EllipsisType, ...]]:
    """Yield parts of an array of about `_PART_VOXELS`, in order, the last axes whole where they fit."""
    if prod(shape) <= _PART_VOXELS:
        if prod(shape):
            yield (...,)
        return
    length = max(1, _PART_VOXELS // prod(shape[1:]))
    for start in range(0, shape[0], length):
        for inner in _parts(shape[1:]) if length == 1 else [(...,)]:
            yield (slice(start, start + length), *inner)


def truncate_like_scipy(values: npt.NDArray[np.float64], dtype: npt.DTypeLike, *, by_lines: bool = False) -> Array:
    """Cast float64 sums to `dtype` as scipy.ndimage's C code does on x86-64: truncated, then wrapped around.

    Dtypes of up to 32 bits go through a 32-bit integer (uint32 through one of 64 bits); what does not fit
    there becomes its smallest value, as the processor's instruction has it. What lies far below zero becomes
    another uint64 in scipy's filters of lines (`by_lines`) than in its ``correlate``. The result is in this
    machine's byte order.

    Examples
    --------
    >>> truncate_like_scipy(np.array([1800.9, -1.5, 1e10]), np.uint8).tolist()
    [8, 255, 0]
    """
    target = np.dtype(dtype).newbyteorder("=")
    if target.kind == "f":
        return values.astype(target)
    with np.errstate(invalid="ignore"):
        if target == np.uint64:
            # What lies below 0 is wrapped around by its magnitude.
            magnitudes = np.where(np.isnan(values), 2.0**63, np.abs(values))
            whole = np.where(magnitudes < 2.0**64, magnitudes, 0.0).astype(target)
            wrapped = np.where(values <= -1.0, -whole, whole)
            return np.where(values < -(2.0**63), np.uint64(2**63), wrapped) if by_lines else wrapped
        via = np.int64 if target in {np.dtype(np.int64), np.dtype(np.uint32)} else np.int32
        smallest = float(np.iinfo(via).min)
        fits = (values > smallest - 1.0) & (values < -smallest)
        truncated = np.where(fits, values, smallest).astype(via)
        # scipy writes booleans as bytes: 256.0 is False to it.
        return truncated.astype(np.uint8 if target.kind == "b" else target).astype(target, copy=False)
