"""What hypothesis draws for every room: images, kernels, boundaries, chains and blocks.

They favour what broke others: even kernels, origins at their limits, halos wider than the axis, axes of length 1,
thin last blocks, wrapping, fused steps, NaN and inf, integers at their limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.operations import Combine, Correlate, Operation, Sequence
from convolume.regions import Region
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "block_shapes",
    "boundary_modes",
    "chains",
    "cvals",
    "images",
    "integer_images",
    "kernels",
    "operations",
    "origin_at",
    "origins",
    "regions",
    "shapes",
]

Array = npt.NDArray[Any]

# Whole numbers this small, and sums of a few thousand products of two of them, are exact in float32.
_SMALL = 8
_INTEGER_DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64")


def boundary_modes() -> SearchStrategy[BoundaryMode]:
    """Draw one of the eight boundary modes, the wrapping ones a little more often."""
    return st.sampled_from([*BoundaryMode, BoundaryMode.WRAP, BoundaryMode.GRID_WRAP])


def cvals() -> SearchStrategy[float]:
    """Draw a constant: whole, so that exact cases stay exact, and mostly not zero."""
    return st.integers(-_SMALL, _SMALL).map(float)


def shapes(min_dims: int = 1, max_dims: int = 3, max_side: int = 12) -> SearchStrategy[tuple[int, ...]]:
    """Draw the shape of an image, with axes of length 1 and 2 more often than their share."""
    side = st.one_of(st.integers(1, max_side), st.sampled_from([1, 2]))
    return st.lists(side, min_size=min_dims, max_size=max_dims).map(tuple)


def images(
    shape: tuple[int, ...], *, exact: bool | None = None, finite: bool = True, dtype: npt.DTypeLike = np.float32
) -> SearchStrategy[Array]:
    """Draw an image: half of them small whole numbers, half reals.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    exact : bool, optional
        Whole numbers only (every sum of a few taps is exact), or reals only.
    finite : bool
        Without it some voxels are NaN or infinite.
    dtype : dtype
        Dtype of the voxels.
    """
    seeds = st.integers(0, 2**32 - 1)
    kinds = st.booleans() if exact is None else st.just(exact)
    specials = st.just([]) if finite else st.lists(_special_voxels(shape), max_size=2)

    def build(seed: int, kind: bool, special: list[tuple[tuple[int, ...], float]]) -> Array:  # noqa: FBT001 (drawn)
        generator = np.random.default_rng(seed)
        image = generator.integers(-_SMALL, _SMALL, shape, endpoint=True) if kind else generator.normal(size=shape)
        voxels = image.astype(dtype)
        for place, value in special:
            voxels[place] = value
        return voxels

    return st.builds(build, seeds, kinds, specials)


def integer_images(shape: tuple[int, ...]) -> SearchStrategy[Array]:
    """Draw an image of any integer dtype that holds the limits of its dtype."""

    def build(name: str, seed: int) -> Array:
        limits = np.iinfo(name)
        generator = np.random.default_rng(seed)
        image = generator.integers(limits.min, limits.max, shape, dtype=np.dtype(name), endpoint=True)
        at_limit = generator.random(shape) < 0.25  # noqa: PLR2004 (a share)
        return np.where(at_limit, generator.choice(np.array([limits.min, limits.max], name), shape), image)

    return st.builds(build, st.sampled_from(_INTEGER_DTYPES), st.integers(0, 2**32 - 1))


def kernels(ndim: int, *, max_side: int = 5, exact: bool | None = None) -> SearchStrategy[Array]:
    """Draw a kernel of `ndim` axes, even and odd, some weights zero; float64, whole numbers or reals."""
    sides = st.lists(st.integers(1, max_side), min_size=ndim, max_size=ndim).map(tuple)
    kinds = st.booleans() if exact is None else st.just(exact)

    def build(shape: tuple[int, ...], kind: bool, seed: int) -> Array:  # noqa: FBT001 (drawn)
        generator = np.random.default_rng(seed)
        if kind:
            return generator.integers(-3, 3, shape, endpoint=True).astype(np.float64)
        return generator.normal(size=shape) * (generator.random(shape) < 0.8)  # noqa: PLR2004 (a share)

    return st.builds(build, sides, kinds, st.integers(0, 2**32 - 1))


def origins(shape: tuple[int, ...]) -> SearchStrategy[tuple[int, ...]]:
    """Draw a legal origin for a kernel of this shape, mostly at one of its limits."""
    return st.tuples(*(origin_at(size) for size in shape))


def origin_at(size: int) -> SearchStrategy[int]:
    """Draw a legal origin for one axis of a kernel."""
    low, high = -(size // 2), (size - 1) // 2
    return st.one_of(st.sampled_from([low, 0, high]), st.integers(low, high))


@st.composite
def correlations(draw: st.DrawFn, ndim: int, max_side: int = 5, *, exact: bool | None = None) -> Correlate:
    """Draw one correlation: any kernel, origin, and another boundary mode on every axis."""
    kernel = draw(kernels(ndim, max_side=max_side, exact=exact))
    stencil = Stencil.correlate(kernel, draw(origins(kernel.shape)))
    return Correlate(stencil, draw(st.tuples(*(boundary_modes() for _ in range(ndim)))), draw(cvals()))


def chains(
    ndim: int, *, max_steps: int = 3, max_side: int = 4, exact: bool | None = None
) -> SearchStrategy[tuple[Correlate, ...]]:
    """Draw one to three correlations that run one after the other, their modes mixed."""
    return st.lists(correlations(ndim, max_side, exact=exact), min_size=1, max_size=max_steps).map(tuple)


def operations(
    ndim: int, *, max_steps: int = 3, max_side: int = 4, exact: bool | None = None
) -> SearchStrategy[Operation]:
    """Draw a tree of operations: a correlation, a chain, or two of them joined; `magnitude` is never exact."""
    one = correlations(ndim, max_side, exact=exact)
    chain = chains(ndim, max_steps=max_steps, max_side=max_side, exact=exact).map(Sequence)
    arithmetics = ["add", "subtract"] if exact else ["add", "subtract", "magnitude"]
    joined = st.builds(
        Combine,
        st.sampled_from(arithmetics),
        st.lists(st.one_of(one, chain, st.just(Sequence())), min_size=1, max_size=3).map(tuple),
    )
    return st.one_of(chain, one, joined, st.builds(lambda *steps: Sequence(steps), joined, one))


def block_shapes(shape: tuple[int, ...]) -> SearchStrategy[tuple[int, ...]]:
    """Draw the shape of blocks: any, a last block of one voxel more often, or the whole axis."""
    return st.tuples(*(st.one_of(st.integers(1, n), st.just(max(1, n - 1)), st.just(n), st.just(n + 3)) for n in shape))


@st.composite
def regions(draw: st.DrawFn, shape: tuple[int, ...]) -> Region:
    """Draw a region of at least one voxel inside an image of this shape."""
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    stops = [draw(st.integers(start + 1, n)) for start, n in zip(starts, shape, strict=True)]
    return Region(tuple(starts), tuple(stops))


def _special_voxels(shape: tuple[int, ...]) -> SearchStrategy[tuple[tuple[int, ...], float]]:
    places = st.tuples(*(st.integers(0, n - 1) for n in shape))
    return st.tuples(places, st.sampled_from([np.nan, np.inf, -np.inf]))
