"""`sobel`: a smoothed first difference along one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from convolume.filters._axis_difference import AxisDifference
from convolume.filters._reference import scipy_result

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.filters import FilterContext

__all__ = ["Sobel"]


class Sobel(AxisDifference):
    """Take the difference ``in[i + 1] - in[i - 1]`` along one axis, smoothed by 1, 2, 1 along the others.

    That is ``scipy.ndimage.sobel``: axis by axis, each filled beyond its faces before its own pass.

    Parameters
    ----------
    axis : int or str
        Axis of the difference: its position among the filtered axes, negative from the last, or its name.
    mode, cval
        Boundary mode and its constant; the workflow's where none is named.

    Raises
    ------
    InputError
        There is no such axis among those that are filtered.

    Examples
    --------
    >>> import numpy as np
    >>> from convolume.filters import FilterContext
    >>> context = FilterContext(ndim=2, axes=(0, 1), spacing_um=(None, None))
    >>> ramp = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    >>> Sobel(axis="x").reference(ramp, context).tolist()
    [[4.0, 8.0, 4.0], [4.0, 8.0, 4.0]]
    """

    smoothing: ClassVar[tuple[int, int, int]] = (1, 2, 1)

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what ``scipy.ndimage.sobel`` gives."""
        return scipy_result("sobel", image, context, self.boundary(context), axis=self.position(context))
