"""A kernel made ready: flip, origin and even sizes are settled here, once, for every device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from convolume.errors import InputError
from convolume.regions import Halo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Stencil"]

# Weights of a line that differ by no more are the same to scipy (DBL_EPSILON of C).
_NEARLY_EQUAL = float(np.finfo(np.float64).eps)
# So many ones are added in the same order by their taps and by an addition chain.
_MOST_ONES = 3


@dataclass(frozen=True)
class Stencil:
    """Weights and the halo that they reach: ``out[i] = Σ_k weights[k] · in[i + k - halo.before]``.

    Parameters
    ----------
    shape : tuple of int
        Extent of the weights, one an axis of the image.
    weights_float64 : bytes
        The weights in the order of that sum (C order, little-endian float64).
    origin_voxels : tuple of int
        Weight that stands over the output voxel, counted from the first: ``halo.before``.
    by_lines : bool
        The order of summation is that of scipy's filters of lines, see `Stencil.line`.
    divisor : int
        The sum is divided by it at the end.

    Notes
    -----
    Weights are kept as bytes so that a stencil is small, immutable, hashable and equal by value.

    Examples
    --------
    >>> stencil = Stencil.convolve(np.array([1.0, 2.0, 3.0, 4.0]))
    >>> stencil.weights.tolist(), stencil.halo
    ([4.0, 3.0, 2.0, 1.0], Halo(before=(1,), after=(2,)))
    """

    shape: tuple[int, ...]
    weights_float64: bytes
    origin_voxels: tuple[int, ...]
    by_lines: bool = False
    divisor: int = 1

    @classmethod
    def correlate(cls, kernel: npt.ArrayLike, origin: int | Sequence[int] = 0) -> Self:
        """Make a stencil that weighs as ``scipy.ndimage.correlate`` does.

        Parameters
        ----------
        kernel : array_like
            Real finite weights, not empty.
        origin : int or sequence of int
            Shift of the kernel, one for all axes or one an axis, within
            ``-(size // 2) … (size - 1) // 2`` (scipy's rule).

        Raises
        ------
        InputError
            The kernel is empty, complex or not finite, or an origin is out of range.
        """
        weights = _checked_kernel(kernel)
        origins = _checked_origins(origin, weights.shape)
        centre = tuple(n // 2 + o for n, o in zip(weights.shape, origins, strict=True))
        # Adding zero turns -0.0 into 0.0, so that equal kernels make equal stencils.
        return cls(weights.shape, (weights + 0.0).astype("<f8").tobytes(), centre)

    @classmethod
    def convolve(cls, kernel: npt.ArrayLike, origin: int | Sequence[int] = 0) -> Self:
        """Make a stencil that weighs as ``scipy.ndimage.convolve`` does: the kernel is flipped.

        Parameters and errors are those of `correlate`.
        """
        weights = _checked_kernel(kernel)
        origins = _checked_origins(origin, weights.shape)
        # The flip moves the centre of an even size by one voxel.
        flipped = [-o - (n % 2 == 0) for n, o in zip(weights.shape, origins, strict=True)]
        return cls.correlate(np.flip(weights), flipped)

    @classmethod
    def line(cls, weights: npt.ArrayLike, origin: int = 0, divisor: int = 1) -> Self:
        """Make a stencil of one axis that sums as ``scipy.ndimage.correlate1d`` does, to the last bit.

        Weights of odd number that are the same from both ends, or the same but for their sign, are summed in pairs:
        the middle first, then ``(in[i - j] ± in[i + j]) · weights[-j]`` from the ends inwards. Of all others the last
        is summed first. What is nearly the same (to the 16th decimal place) is taken for the same, as scipy does.

        Parameters
        ----------
        weights : array_like
            Real finite weights, one axis.
        origin : int
            Shift of the weights, see `correlate`.
        divisor : int
            The sum is divided by it at the end.

        Examples
        --------
        >>> stencil = Stencil.line([-1.0, 0.5, 1.0])
        >>> list(stencil.taps()), list(stencil.pairs())
        ([((1,), 0.5)], [((0,), (2,), -1, -1.0)])
        """
        checked = _checked_kernel(weights)
        if checked.ndim != 1:
            message = f"the weights of a line have one axis, these have shape {checked.shape}"
            raise InputError(message)
        stencil = cls.correlate(_balanced(checked), origin)
        return replace(stencil, by_lines=True, divisor=divisor)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of weights, zeros included."""
        return prod(self.shape)

    @cached_property
    def weights(self) -> npt.NDArray[np.float64]:
        """The weights as a read-only float64 array."""
        return np.frombuffer(self.weights_float64, dtype="<f8").reshape(self.shape)

    @cached_property
    def halo(self) -> Halo:
        """Voxels read before and after a block."""
        after = tuple(n - 1 - b for n, b in zip(self.shape, self.origin_voxels, strict=True))
        return Halo(self.origin_voxels, after)

    def taps(self) -> Iterator[tuple[tuple[int, ...], float]]:
        """Yield ``(offset, weight)`` of every weight that is not zero and is not summed in a pair.

        Offsets count from the first voxel of the padded block. The order (C order, but for lines) is the
        order of summation on every device; pairs follow.
        """
        places = np.argwhere(self.weights)
        if self.by_lines:
            places = np.roll(places, 1 if self._last_counts else 0, axis=0)
        if self._is_paired:
            places = places[(places == np.array(self.shape) // 2).all(axis=1)]
        for offset in places:
            place = tuple(int(o) for o in offset)
            yield place, float(self.weights[place])

    def pairs(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], int, float]]:
        """Yield ``(offset, other offset, sign, weight)`` of weights that are summed in pairs.

        A pair adds ``(in[offset] + sign · in[other offset]) · weight``, in this order. Only lines have pairs.
        """
        if not self._is_paired:
            return
        flat = self.weights.ravel()
        for first in np.flatnonzero(flat[: flat.size // 2]).tolist():
            last = flat.size - 1 - first
            place, other = (tuple(int(o) for o in np.unravel_index(each, self.shape)) for each in (first, last))
            yield place, other, 1 if flat[first] == flat[last] else -1, float(flat[first])

    @cached_property
    def box_weight(self) -> float | None:
        """The weight of a box: of two neighbours or more, along one axis, that weigh the same; None for all others."""
        flat = self.weights.ravel()
        is_line = flat.size > 1 and max(self.shape) == flat.size
        is_box = is_line and not self.by_lines and flat[0] != 0 and bool((flat == flat[0]).all())
        return float(flat[0]) if is_box else None

    def adds_as_box(self, *, exact: bool) -> bool:
        """Say whether it is summed as a box is: bits depend on it, so every program asks here.

        Sums of neighbours are made of two shorter ones, by `convolume.addition_chain`, and weighed at the end:
        ``(0 + S_5[i]) · weight`` with ``S_5[i] = S_3[i] + S_2[i + 3]`` for 5. Up to three ones are summed in this order
        by their taps, too.

        Parameters
        ----------
        exact : bool
            The call asks for scipy's order (`convolume.numerics.Precision.SCIPY`): taps keep theirs.

        Examples
        --------
        >>> box = Stencil.correlate([0.2] * 5)
        >>> box.adds_as_box(exact=False), box.adds_as_box(exact=True)
        (True, False)
        """
        return not exact and self.box_weight is not None and (self.size > _MOST_ONES or self.box_weight != 1)

    @property
    def tap_count(self) -> int:
        """Number of weights that are not zero."""
        return int(np.count_nonzero(self.weights))

    def on_axes(self, axes: Sequence[int], ndim: int) -> Self:
        """Return the stencil for an image of `ndim` axes, working over `axes`.

        The other axes get extent 1. `axes` are sorted and not negative.
        """
        shape, centre = [1] * ndim, [0] * ndim
        for axis, extent, place in zip(axes, self.shape, self.origin_voxels, strict=True):
            shape[axis], centre[axis] = extent, place
        return replace(self, shape=tuple(shape), origin_voxels=tuple(centre))

    @property
    def _last_counts(self) -> bool:
        return self.by_lines and bool(self.weights.flat[-1])

    @cached_property
    def _is_paired(self) -> bool:
        flat = self.weights.ravel()
        return self.by_lines and flat.size % 2 == 1 and _symmetry(flat, 0.0) != 0


def _symmetry(weights: npt.NDArray[np.float64], tolerance: float) -> int:
    """Return 1 where weights are the same from both ends, -1 where all but the middle change their sign, else 0."""
    left, right = weights[: weights.size // 2], weights[: weights.size // 2 : -1]
    if np.all(np.abs(right - left) <= tolerance):
        return 1
    return -1 if np.all(np.abs(right + left) <= tolerance) else 0


def _balanced(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return weights whose ends are exactly the same where they nearly are: scipy reads the first half only."""
    symmetry = _symmetry(weights, _NEARLY_EQUAL) if weights.size % 2 else 0
    if symmetry == 0:
        return weights
    half = weights.size // 2
    return np.concatenate([weights[: half + 1], symmetry * weights[:half][::-1]])


def _checked_kernel(kernel: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(kernel)
    if array.size == 0 or array.ndim == 0:
        message = f"the kernel has shape {array.shape}: it needs at least one axis and one weight"
        raise InputError(message)
    if np.iscomplexobj(array):
        message = "the kernel is complex: give real weights (filter the two parts one by one)"
        raise InputError(message)
    try:
        weights = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"the kernel is not made of numbers: {error}"
        raise InputError(message) from None
    if not np.isfinite(weights).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(weights))[0])
        message = f"the kernel's weight at {place} is {weights[place]}: weights must be finite"
        raise InputError(message)
    return weights


def _checked_origins(origin: int | Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    origins = (origin,) * len(shape) if isinstance(origin, (int, np.integer)) else tuple(origin)
    if len(origins) != len(shape):
        message = f"origin {list(origins)} has {len(origins)} entries for a kernel of {len(shape)} axes"
        raise InputError(message)
    for axis, (size, value) in enumerate(zip(shape, origins, strict=True)):
        low, high = -(size // 2), (size - 1) // 2
        if not low <= value <= high:
            message = (
                f"origin {value} on the kernel's axis {axis} is out of range: a size of {size} allows {low} to {high}"
            )
            raise InputError(message)
    return tuple(int(value) for value in origins)
