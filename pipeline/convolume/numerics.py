"""What happens to numbers: which dtype results have, how sums are kept, how results are cast."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from convolume.errors import InputError

__all__ = ["Overflow", "Precision", "cast_result", "default_result_dtype", "truncate_like_scipy", "working_dtype"]

Overflow = Literal["saturate", "error"]
Array = npt.NDArray[Any]


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
        Floating-point results of any shape.
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
    limits = np.iinfo(target)
    rounded = np.rint(values)
    # The first value above the limit is a power of two, which floats hold where they cannot hold the limit.
    too_low, too_high = rounded < float(limits.min), rounded >= float(limits.max) + 1.0
    outside = too_low | too_high | np.isnan(rounded)
    if overflow == "error" and outside.any():
        message = f"the value {values[outside].flat[0]} does not fit into {target} ({limits.min} to {limits.max})"
        raise OverflowError(message)
    result: Array = np.where(outside, 0, rounded).astype(target)
    result[too_low], result[too_high] = limits.min, limits.max
    return result


def truncate_like_scipy(values: npt.NDArray[np.float64], dtype: npt.DTypeLike) -> Array:
    """Cast float64 sums to `dtype` as scipy.ndimage's C code does on x86-64: truncated, then wrapped around.

    Dtypes of up to 32 bits go through a 32-bit integer (uint32 through one of 64 bits); what does not fit
    there becomes its smallest value, as the processor's instruction has it.

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
            return np.where(values <= -1.0, -whole, whole)
        via = np.int64 if target in {np.dtype(np.int64), np.dtype(np.uint32)} else np.int32
        smallest = float(np.iinfo(via).min)
        fits = (values > smallest - 1.0) & (values < -smallest)
        truncated = np.where(fits, values, smallest).astype(via)
        # scipy writes booleans as bytes: 256.0 is False to it.
        return truncated.astype(np.uint8 if target.kind == "b" else target).astype(target, copy=False)
