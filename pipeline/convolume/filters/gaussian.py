"""`gaussian`: smoothing with a Gaussian, or with its derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from convolume.filters import Filter, FilterContext
from convolume.filters._fields import Counts, Lengths, one_an_axis, voxels_an_axis
from convolume.filters._gaussian_weights import gaussian_radius, gaussian_weights
from convolume.filters._passes import one_axis_passes
from convolume.filters._reference import scipy_result

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.operations import Operation

__all__ = ["Gaussian"]

# scipy leaves an axis with a smaller sigma (in voxels) as it is.
_LEAST_SIGMA = 1e-15


class Gaussian(Filter):
    r"""Smooth with a Gaussian, axis by axis, as ``scipy.ndimage.gaussian_filter`` does.

    Parameters
    ----------
    sigma : float, str or sequence
        Standard deviation in voxels (``2``) or as a length (``"1.5 um"``, ``"0.3 mm"``), one for all filtered axes
        or one an axis, such as ``(z, y, x)``. An axis with sigma 0 stays as it is.
    order : int or sequence of int
        Order of the derivative on each axis; 0 smooths.
    truncate : float
        The Gaussian is cut at this many sigmas, rounded to a whole voxel.
    radius : int or sequence of int, optional
        Radius in voxels at which it is cut, instead of `truncate`.
    mode, cval
        Boundary mode and its constant; the workflow's where none is named. Each axis is filled before its own pass.

    Raises
    ------
    InputError
        A length is given and the voxel size is not known, or there are entries, but not one for every filtered axis.

    Notes
    -----
    The weights are :math:`g(x) = e^{-x^2 / 2\sigma^2}`, sampled at whole voxels and divided by their sum; those of a
    derivative are :math:`q_n(x) g(x)` with :math:`q_0 = 1, q_{n+1} = q_n' - x q_n / \sigma^2` (Hermite polynomials;
    Abramowitz & Stegun, *Handbook of Mathematical Functions*, 22.11).

    Examples
    --------
    >>> import numpy as np
    >>> context = FilterContext(ndim=1, axes=(0,), spacing_um=(0.5,))
    >>> Gaussian(sigma="0.5 um", radius=1).reference(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), context).round(3).tolist()
    [0.0, 0.274, 0.452, 0.274, 0.0]
    """

    sigma: Lengths
    """Standard deviation in voxels or as a length (``1.5 um``), one for all filtered axes or one an axis."""
    order: Counts = 0
    """Order of the derivative, one for all filtered axes or one an axis; 0 smooths."""
    truncate: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 4.0
    """The Gaussian is cut at this many sigmas."""
    radius: Counts | None = None
    """Radius in voxels at which it is cut, instead of `truncate`."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return narrow and wide ones, lengths, derivatives, and axes that stay as they are."""
        return (
            {"sigma": 1},
            {"sigma": "1.5 um", "truncate": 2.5},
            {"sigma": 4, "truncate": 3.0},
            {"sigma": 0.8, "order": 1},
            {"sigma": 1.2, "order": [2, 1]},
            {"sigma": [0, 1.5, "0.5 um"], "order": [0, 0, 3]},
            {"sigma": 2, "radius": 1},
            {"sigma": [1, 2, 0.5], "radius": [0, 7, 2]},
            {"sigma": 0},
        )

    def operation(self, context: FilterContext) -> Operation:
        """Return one pass an axis, first to last; axes whose sigma is 0 have none."""
        passes = [
            (axis, gaussian_weights(sigma, self._radius(sigma, radius), order), 0)
            for axis, sigma, order, radius in zip(context.axes, *self._axes(context), strict=True)
            if sigma > _LEAST_SIGMA
        ]
        return one_axis_passes(passes, context, self.boundary(context))

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what ``scipy.ndimage.gaussian_filter`` gives."""
        sigmas, orders, radii = self._axes(context)
        return scipy_result(
            "gaussian_filter",
            image,
            context,
            self.boundary(context),
            sigma=sigmas,
            order=orders,
            truncate=self.truncate,
            radius=None if self.radius is None else radii,
        )

    def _axes(self, context: FilterContext) -> tuple[tuple[float, ...], tuple[int, ...], tuple[int | None, ...]]:
        return (
            voxels_an_axis(self.sigma, context, "sigma"),
            one_an_axis(self.order, context, "order"),
            one_an_axis(self.radius, context, "radius"),
        )

    def _radius(self, sigma: float, radius: int | None) -> int:
        return gaussian_radius(sigma, self.truncate) if radius is None else radius
