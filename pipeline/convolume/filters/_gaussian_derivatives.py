"""What `gaussian_laplace` and `gradient_magnitude` share: a Gaussian's derivative along every axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from convolume.filters import Filter, FilterContext
from convolume.filters._fields import Counts, Lengths, one_an_axis, voxels_an_axis
from convolume.filters._reference import scipy_result
from convolume.filters.gaussian import Gaussian

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.operations import Operation

__all__ = ["GaussianDerivatives"]


class GaussianDerivatives(Filter):
    """A filter that joins the derivatives of a Gaussian along every filtered axis."""

    sigma: Lengths
    """Standard deviation in voxels or as a length (``1.5 um``), one for all filtered axes or one an axis."""
    truncate: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 4.0
    """The Gaussian is cut at this many sigmas."""
    radius: Counts | None = None
    """Radius in voxels at which it is cut, instead of `truncate`."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return narrow and wide ones, lengths, and axes that stay as they are."""
        return (
            {"sigma": 1},
            {"sigma": "1 um", "truncate": 2.5},
            {"sigma": [0.8, 1.5]},
            {"sigma": [1, 0, "0.5 um"], "radius": [3, 2, 1]},
        )

    def derivatives(self, context: FilterContext, order: int) -> tuple[Operation, ...]:
        """Return, for each filtered axis, the Gaussian with its derivative of this order along that axis."""
        places = range(len(context.axes))
        return tuple(
            Gaussian(
                sigma=self.sigma,
                order=tuple(order if place == axis else 0 for place in places),
                truncate=self.truncate,
                radius=self.radius,
                mode=self.mode,
                cval=self.cval,
            ).operation(context)
            for axis in places
        )

    def scipy_gaussian(self, function: str, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what a function of scipy.ndimage gives with these parameters."""
        return scipy_result(
            function,
            image,
            context,
            self.boundary(context),
            sigma=voxels_an_axis(self.sigma, context, "sigma"),
            truncate=self.truncate,
            radius=None if self.radius is None else one_an_axis(self.radius, context, "radius"),
        )
