"""`gradient_magnitude`: how steep a smoothed image is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convolume.filters._gaussian_derivatives import GaussianDerivatives
from convolume.operations import Combine

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.filters import FilterContext
    from convolume.operations import Operation

__all__ = ["GradientMagnitude"]


class GradientMagnitude(GaussianDerivatives):
    """Take the length of the gradient of a smoothed image, as ``scipy.ndimage.gaussian_gradient_magnitude`` does.

    Slopes are differences a voxel: the voxel size is not divided out.

    Parameters
    ----------
    sigma : float, str or sequence
        Standard deviation in voxels (``2``) or as a length (``"1.5 um"``), one for all filtered axes or one an axis,
        such as ``(z, y, x)``. Along an axis with sigma 0 nothing is derived or smoothed.
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

    Examples
    --------
    >>> import numpy as np
    >>> from convolume.filters import FilterContext
    >>> context = FilterContext(ndim=1, axes=(0,), spacing_um=(None,))
    >>> line = np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    >>> GradientMagnitude(sigma=1, mode="nearest").reference(line, context).round(2).tolist()
    [0.12, 0.36, 0.36, 0.12, 0.01]
    """

    def operation(self, context: FilterContext) -> Operation:
        """Return the first derivatives and the root of the sum of their squares."""
        return Combine("magnitude", self.derivatives(context, 1))

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what ``scipy.ndimage.gaussian_gradient_magnitude`` gives."""
        return self.scipy_gaussian("gaussian_gradient_magnitude", image, context)
