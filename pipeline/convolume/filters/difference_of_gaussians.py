"""`difference_of_gaussians`: what is larger than one Gaussian and smaller than another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from convolume.filters import Filter, FilterContext
from convolume.filters._fields import Lengths  # noqa: TC001 - pydantic reads it when the class is made
from convolume.filters.gaussian import Gaussian
from convolume.operations import Combine

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.operations import Operation

__all__ = ["DifferenceOfGaussians"]

# At this ratio the difference is nearest to a Laplacian (Marr and Hildreth, 1980).
_RATIO = 1.6


class DifferenceOfGaussians(Filter):
    """Take the difference of an image smoothed a little and smoothed more: structures of sizes in between stay.

    Parameters
    ----------
    low_sigma : float, str or sequence
        Standard deviation of the narrow Gaussian in voxels (``2``) or as a length (``"1.5 um"``), one for all filtered
        axes or one an axis; 0 smooths nothing.
    high_sigma : float, str or sequence, optional
        That of the wide one; 1.6 times `low_sigma` where none is given.
    truncate : float
        The Gaussians are cut at this many sigmas, rounded to a whole voxel.
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
    >>> DifferenceOfGaussians(low_sigma=1).reference(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), context).round(2).tolist()
    [-0.1, 0.03, 0.15, 0.03, -0.1]
    """

    low_sigma: Lengths
    """Standard deviation of the narrow Gaussian, in voxels or as a length."""
    high_sigma: Lengths | None = None
    """That of the wide one; 1.6 times the narrow one's where none is given."""
    truncate: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 4.0
    """The Gaussians are cut at this many sigmas."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return both given and one, lengths, and a narrow one that smooths nothing."""
        return (
            {"low_sigma": 1},
            {"low_sigma": "0.5 um", "high_sigma": "1.2 um", "truncate": 3.0},
            {"low_sigma": 0, "high_sigma": 1.5},
            {"low_sigma": [0.5, 1], "high_sigma": [1, 2]},
            {"low_sigma": [0.5, 1, "0.5 um"]},
        )

    def operation(self, context: FilterContext) -> Operation:
        """Return the two Gaussians and their difference."""
        return Combine("subtract", tuple(each.operation(context) for each in self._gaussians()))

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return the difference of what ``scipy.ndimage.gaussian_filter`` gives."""
        narrow, wide = (each.reference(image, context) for each in self._gaussians())
        difference: npt.NDArray[Any] = narrow - wide
        return difference

    def _gaussians(self) -> tuple[Gaussian, Gaussian]:
        low = self.low_sigma
        if self.high_sigma is not None:
            high = self.high_sigma
        elif isinstance(low, tuple):
            high = tuple(replace(each, value=_RATIO * each.value) for each in low)
        else:
            high = replace(low, value=_RATIO * low.value)
        shared: dict[str, Any] = {"truncate": self.truncate, "mode": self.mode, "cval": self.cval}
        return Gaussian(sigma=low, **shared), Gaussian(sigma=high, **shared)
