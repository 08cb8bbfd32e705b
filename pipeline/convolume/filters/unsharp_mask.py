"""`unsharp_mask`: sharpening by what a Gaussian takes away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from convolume.filters import Filter, FilterContext
from convolume.filters._fields import Lengths  # noqa: TC001 - pydantic reads it when the class is made
from convolume.filters._passes import over_last_axes
from convolume.filters.gaussian import Gaussian
from convolume.operations import Combine, Correlate, Sequence
from convolume.stencil import Stencil

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.operations import Operation

__all__ = ["UnsharpMask"]


class UnsharpMask(Filter):
    """Add what a Gaussian takes away: out = in + amount · (in - gaussian(in)).

    Parameters
    ----------
    sigma : float, str or sequence
        Standard deviation in voxels (``2``) or as a length (``"1.5 um"``), one for all filtered axes or one an axis:
        about the size of the details that are to stand out.
    amount : float
        How much of them is added; what is below 0 smooths.
    truncate : float
        The Gaussian is cut at this many sigmas, rounded to a whole voxel.
    mode, cval
        Boundary mode and its constant; the workflow's where none is named. Each axis is filled before its own pass.

    Raises
    ------
    InputError
        A length is given and the voxel size is not known, or there are entries, but not one for every filtered axis.

    Examples
    --------
    >>> import numpy as np
    >>> context = FilterContext(ndim=1, axes=(0,), spacing_um=(None,))
    >>> UnsharpMask(sigma=1).reference(np.array([0.0, 0.0, 1.0, 1.0]), context).round(2).tolist()
    [-0.06, -0.3, 1.3, 1.06]
    """

    sigma: Lengths
    """Standard deviation in voxels or as a length (``1.5 um``), one for all filtered axes or one an axis."""
    amount: Annotated[float, Field(allow_inf_nan=False, strict=True)] = 1.0
    """How much of the details is added."""
    truncate: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 4.0
    """The Gaussian is cut at this many sigmas."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return more and less, lengths, and an axis that stays as it is."""
        return (
            {"sigma": 1},
            {"sigma": "0.5 um", "amount": 0.3, "truncate": 3.0},
            {"sigma": [0.8, 0], "amount": 2.5},
            {"sigma": [1, 0.5, 2], "amount": -0.5},
        )

    def operation(self, context: FilterContext) -> Operation:
        """Return the difference of the image and the Gaussian, each times its own factor."""
        smooth = Sequence((self._gaussian().operation(context), self._times(self.amount, context)))
        return Combine("subtract", (self._times(1 + self.amount, context), smooth))

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return the same from what ``scipy.ndimage.gaussian_filter`` gives."""
        details: npt.NDArray[Any] = image - self._gaussian().reference(image, context)
        return image + self.amount * details

    def _gaussian(self) -> Gaussian:
        return Gaussian(sigma=self.sigma, truncate=self.truncate, mode=self.mode, cval=self.cval)

    def _times(self, factor: float, context: FilterContext) -> Correlate:
        return over_last_axes(Stencil.correlate([factor]), context, self.boundary(context))
