"""`laplace`: the sum of second differences along every axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.filters import Filter, FilterContext
from convolume.filters._passes import over_last_axes
from convolume.filters._reference import scipy_result
from convolume.stencil import Stencil

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.operations import Operation

__all__ = ["Laplace", "cross_of_differences"]


def cross_of_differences(count: int) -> npt.NDArray[np.float64]:
    """Return the weights of the sum of second differences along so many axes: a cross, 3 voxels wide.

    Examples
    --------
    >>> cross_of_differences(2).tolist()
    [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]
    """
    cross = np.zeros((3,) * count)
    for axis in range(count):
        arm = [1] * count
        for arm[axis] in (0, 2):
            cross[tuple(arm)] = 1.0
    cross[(1,) * count] = -2.0 * count
    return cross


class Laplace(Filter):
    """Sum the second differences ``in[i - 1] - 2 in[i] + in[i + 1]`` of every axis, as ``scipy.ndimage.laplace`` does.

    It takes voxels as they are: the voxel size is not divided out.

    Parameters
    ----------
    mode, cval
        Boundary mode and its constant; the workflow's where none is named.

    Examples
    --------
    >>> import numpy as np
    >>> context = FilterContext(ndim=1, axes=(0,), spacing_um=(None,))
    >>> Laplace().reference(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), context).tolist()
    [0.0, 1.0, -2.0, 1.0, 0.0]
    """

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return the one way to use it."""
        return ({},)

    def operation(self, context: FilterContext) -> Operation:
        """Return one correlation with a cross of weights; it reads no corners, so all axes are filled at once."""
        stencil = Stencil.correlate(cross_of_differences(len(context.axes)))
        return over_last_axes(stencil, context, self.boundary(context))

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what ``scipy.ndimage.laplace`` gives."""
        return scipy_result("laplace", image, context, self.boundary(context))
