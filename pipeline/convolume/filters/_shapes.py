"""Kernels that are told by their shape: a ball, a box, a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from convolume.errors import InputError
from convolume.filters._fields import (
    at_least,
    read_integers,
    read_lengths,
    voxels_an_axis,
    write_integers,
    write_lengths,
)
from convolume.filters._gaussian_weights import gaussian_radius, gaussian_weights

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.filters import FilterContext
    from convolume.lengths import Length

__all__ = ["Ball", "Box", "GaussianBell"]

# Radii that come out of a division of lengths, such as 0.3 mm by 0.1 mm, must not lose their last voxel.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Ball:
    """Weights 1 within a radius, in voxels or as a length; one an axis makes an ellipsoid."""

    radius: Length | tuple[Length, ...]

    @classmethod
    def read(cls, written: Any) -> Self:
        """Read what stands behind ``ball:``."""
        return cls(read_lengths(written))

    def written(self) -> dict[str, Any]:
        """Return the shape as a workflow writes it."""
        return {"ball": write_lengths(self.radius)}

    def weights(self, context: FilterContext) -> npt.NDArray[np.float64]:
        """Return the weights over the last axes, as many as there are radii."""
        radii = voxels_an_axis(self.radius, _last_axes(self.radius, context), "ball")
        extents = [int(radius + _ROUNDING) for radius in radii]
        distance = np.zeros([2 * extent + 1 for extent in extents])
        grids = np.ogrid[tuple(slice(-extent, extent + 1) for extent in extents)]
        for grid, radius in zip(grids, radii, strict=True):
            distance = distance + (grid / max(radius, 1.0)) ** 2
        return (distance <= 1 + _ROUNDING).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Box:
    """Weights 1 over a box of voxels."""

    size: int | tuple[int, ...]

    @classmethod
    def read(cls, written: Any) -> Self:
        """Read what stands behind ``box:``."""
        return cls(at_least(1)(read_integers(written)))

    def written(self) -> dict[str, Any]:
        """Return the shape as a workflow writes it."""
        return {"box": write_integers(self.size)}

    def weights(self, context: FilterContext) -> npt.NDArray[np.float64]:
        """Return the weights over the last axes, as many as there are sizes."""
        return np.ones(self.size if isinstance(self.size, tuple) else (self.size,) * len(context.axes))


@dataclass(frozen=True, slots=True)
class GaussianBell:
    """A Gaussian whose weights add up to 1, cut at `truncate` times sigma."""

    sigma: Length | tuple[Length, ...]
    truncate: float | None = None

    @classmethod
    def read(cls, written: Any) -> Self:
        """Read what stands behind ``gaussian:``."""
        if not isinstance(written, dict) or "sigma" not in written or set(written) - {"sigma", "truncate"}:
            message = (
                f"gaussian: {written!r} is no Gaussian kernel: write {{sigma: 1.5}} or {{sigma: 1.5, truncate: 4}}"
            )
            raise InputError(message)
        truncate = written.get("truncate")
        if truncate is not None and not (isinstance(truncate, (int, float)) and 0 <= truncate < np.inf):
            message = f"truncate: {truncate!r} is not a number of sigmas: it is at least 0"
            raise InputError(message)
        return cls(read_lengths(written["sigma"]), truncate)

    def written(self) -> dict[str, Any]:
        """Return the shape as a workflow writes it."""
        sigma = {"sigma": write_lengths(self.sigma)}
        return {"gaussian": sigma if self.truncate is None else {**sigma, "truncate": self.truncate}}

    def weights(self, context: FilterContext) -> npt.NDArray[np.float64]:
        """Return the weights over the last axes, as many as there are sigmas."""
        sigmas = voxels_an_axis(self.sigma, _last_axes(self.sigma, context), "sigma")
        truncate = 4.0 if self.truncate is None else self.truncate
        axes = (
            gaussian_weights(sigma, gaussian_radius(sigma, truncate)) if sigma > 0 else np.ones(1) for sigma in sigmas
        )
        return reduce(np.multiply.outer, axes)


def _last_axes(value: Length | tuple[Length, ...], context: FilterContext) -> FilterContext:
    if not isinstance(value, tuple) or len(value) >= len(context.axes):
        return context
    first = len(context.axes) - len(value)
    return replace(
        context, axes=context.axes[first:], spacing_um=context.spacing_um[first:], axis_names=context.names[first:]
    )
