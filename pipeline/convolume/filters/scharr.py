"""`scharr`: a first difference along one axis, smoothed so that it turns with the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from convolume.filters._axis_difference import AxisDifference
from convolume.filters._reference import scipy_result

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.filters import FilterContext

__all__ = ["Scharr"]


class Scharr(AxisDifference):
    """Take the difference ``in[i + 1] - in[i - 1]`` along one axis, weighed by 3, 10, 3 along the others.

    These whole weights (H. Scharr, 2000) depend less on the direction of an edge than those of `sobel`. They are not
    divided by their sum: along each other axis a slope counts 16 times.

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
    >>> Scharr(axis="x").reference(ramp, context).tolist()
    [[16.0, 32.0, 16.0], [16.0, 32.0, 16.0]]
    """

    smoothing: ClassVar[tuple[int, int, int]] = (3, 10, 3)

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what ``scipy.ndimage.correlate1d`` gives, axis by axis."""
        chosen, boundary = self.position(context), self.boundary(context)
        result = scipy_result("correlate1d", image, context, boundary, weights=(-1, 0, 1), axis=chosen)
        for place in range(len(context.axes)):
            if place != chosen:
                result = scipy_result("correlate1d", result, context, boundary, weights=self.smoothing, axis=place)
        return result
