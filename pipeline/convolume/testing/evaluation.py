"""Operations done on a whole float64 array in the plainest way, and how far rounding may move a voxel."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.addition_chain import additions
from convolume.boundary import OUTSIDE, BoundaryMode, source_indices
from convolume.operations import Combine, Correlate, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.operations import Operation
    from convolume.stencil import Stencil

__all__ = [
    "assert_close",
    "evaluate_whole",
    "fill_faces",
    "rounding_bound",
    "scipy_is_sound",
    "sum_as_box",
    "tap_count",
    "transform_bound",
]

Array = npt.NDArray[Any]
Array64 = npt.NDArray[np.float64]


@np.errstate(invalid="ignore", over="ignore")
def evaluate_whole(operation: Operation, image: Array) -> Array64:
    """Return the result of an operation on a whole image, in float64 and without blocks or devices.

    Examples
    --------
    >>> from convolume.boundary import BoundaryMode
    >>> from convolume.stencil import Stencil
    >>> step = Correlate(Stencil.correlate([-1.0, 0.0, 1.0]), (BoundaryMode.CONSTANT,), cval=9.0)
    >>> evaluate_whole(step, np.array([1.0, 2.0, 4.0])).tolist()
    [-7.0, 3.0, 7.0]
    """
    if isinstance(operation, Correlate):
        return _weighted_sum(fill_faces(image, operation), operation.stencil)
    if isinstance(operation, Sequence):
        return reduce(lambda result, step: evaluate_whole(step, result), operation.operations, image.astype(np.float64))
    parts = [evaluate_whole(branch, image) for branch in operation.operations]
    if operation.arithmetic == "magnitude":
        return np.sqrt(reduce(np.add, map(np.square, parts)))
    if operation.arithmetic == "add":
        return reduce(np.add, parts)
    return reduce(np.subtract, parts)


def fill_faces(image: Array, step: Correlate) -> Array64:
    """Return an image with the halo of a step around it, every axis filled once."""
    padded = image.astype(np.float64)
    halo = step.stencil.halo
    for axis, (before, after, mode) in enumerate(zip(halo.before, halo.after, step.modes, strict=True)):
        length = image.shape[axis]
        indices = source_indices(-before, length + after, length, mode) if before or after else np.arange(length)
        padded = np.take(padded, indices, axis=axis)
        padded[(slice(None),) * axis + (indices == OUTSIDE,)] = step.cval
    return padded


def scipy_is_sound(shape: tuple[int, ...], kernel_shape: tuple[int, ...], mode: BoundaryMode) -> bool:
    """Say whether ``scipy.ndimage.correlate`` and ``convolve`` can be asked what is right.

    In `reflect` and `grid-mirror` they read outside their memory where a kernel goes back by four extents of an
    axis or more (seen in scipy 1.17; ``correlate1d`` does not).
    """
    narrow = all(extent <= 4 * n for n, extent in zip(shape, kernel_shape, strict=True))
    return narrow or mode not in {BoundaryMode.REFLECT, BoundaryMode.GRID_MIRROR}


def tap_count(operation: Operation) -> int:
    """Return how many roundings the longest way through an operation can add up."""
    if isinstance(operation, Correlate):
        return operation.stencil.tap_count
    counts = [tap_count(inner) for inner in operation.operations]
    return sum(counts) if isinstance(operation, Sequence) else max(counts) + 2 * len(counts)


def rounding_bound(operation: Operation, image: Array, dtype: npt.DTypeLike = np.float64, extra: int = 8) -> Array64:
    """Return, voxel by voxel, how far sums kept in `dtype` may lie from the exact result.

    That is γₙ·(|w| * |x|) with γₙ = n·u / (1 - n·u), n the taps of all steps (Higham, *Accuracy and Stability of
    Numerical Algorithms*, 3.1). `extra` counts what is rounded beside the sums: weights, constants, the last cast.
    """
    magnitude = evaluate_whole(_magnitudes(operation), np.abs(image))
    info = np.finfo(np.dtype(dtype).name)
    rounding = (tap_count(operation) + extra) * float(info.eps) / 2
    # What is lost below the smallest normal number does not scale with the values.
    bound: Array64 = rounding / (1 - rounding) * magnitude + tap_count(operation) * float(info.tiny)
    return bound


def transform_bound(step: Correlate, image: Array, dtype: npt.DTypeLike) -> float:
    """Return how far a correlation by the Fourier transform in `dtype` may lie from the exact one, anywhere.

    That is 4·ε·log2(2N)·‖weights‖·‖padded‖ with 2-norms and N points (Higham, *Accuracy and Stability of Numerical
    Algorithms*, 24.1, for the three transforms; the last cast included).
    """
    padded = fill_faces(image, step)
    info = np.finfo(np.dtype(dtype).name)
    norms = float(np.linalg.norm(step.stencil.weights) * np.linalg.norm(padded))
    # Fast lengths are less than twice the extents.
    points = padded.size * 2.0**padded.ndim
    return 4 * float(info.eps) * float(np.log2(2 * points)) * norms + float(info.tiny)


def assert_close(actual: Array, expected: Array, bound: Array, note: str = "") -> None:
    """Fail where two arrays lie further apart than `bound`, voxel by voxel; NaN and inf stand in the same places.

    Raises
    ------
    AssertionError
        Names the worst voxel, its two values and the bound there.
    """
    np.testing.assert_equal(actual.shape, expected.shape)
    with np.errstate(invalid="ignore"):
        distance = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
        same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        wrong = ~same & ~((distance <= bound) & np.isfinite(distance))
    if wrong.any():
        excess = np.where(wrong, np.nan_to_num(distance, nan=np.inf), -np.inf)
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), excess.shape))
        message = (
            f"{note}: {int(wrong.sum())} of {wrong.size} voxels are wrong, the worst at {place}: "
            f"{actual[place]!r} where {expected[place]!r} is right, bound {bound[place]:.3g}"
        )
        raise AssertionError(message)


def _weighted_sum(padded: Array64, stencil: Stencil) -> Array64:
    shape = stencil.halo.inner(padded.shape)
    if stencil.adds_as_box(exact=False) and stencil.box_weight is not None:
        axis = int(np.argmax(stencil.shape))
        sums = sum_as_box(np.moveaxis(padded, axis, 0), stencil.size)
        return np.moveaxis((0 + sums) * stencil.box_weight, 0, axis)
    result = np.zeros(shape)
    for window, weight in _windows(padded, stencil, shape):
        result += weight * window
    return result / stencil.divisor


def sum_as_box(voxels: Array, size: int) -> Array:
    """Return the sums of so many neighbours along the first axis, in the order of `Stencil.adds_as_box`.

    Examples
    --------
    >>> sum_as_box(np.array([1.0, 2.0, 4.0, 8.0]), 3).tolist()
    [7.0, 14.0]
    """
    if size == 1:
        return voxels
    first, second = additions(size)[-1]
    return sum_as_box(voxels[: len(voxels) - second], first) + sum_as_box(voxels[first:], second)


def _windows(padded: Array64, stencil: Stencil, shape: tuple[int, ...]) -> Iterator[tuple[Array64, float]]:
    def window(offset: tuple[int, ...]) -> Array64:
        return padded[tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))]

    for offset, weight in stencil.taps():
        yield window(offset), weight
    for offset, other, sign, weight in stencil.pairs():
        yield window(offset) + sign * window(other), weight


def _magnitudes(operation: Operation) -> Operation:
    if isinstance(operation, Correlate):
        weights = np.abs(operation.stencil.weights).astype("<f8").tobytes()
        stencil = replace(operation.stencil, weights_float64=weights)
        return replace(operation, stencil=stencil, cval=abs(operation.cval))
    if isinstance(operation, Sequence):
        return Sequence(tuple(_magnitudes(step) for step in operation.operations))
    return Combine("add", tuple(_magnitudes(branch) for branch in operation.operations))
