"""`box`: the mean or the sum of a box of voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from convolume.filters import Filter, FilterContext
from convolume.filters._fields import Extents, Integers, one_an_axis
from convolume.filters._passes import one_axis_passes
from convolume.filters._reference import scipy_result
from convolume.operations import Sequence

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.operations import Operation

__all__ = ["Box"]


class Box(Filter):
    """Take the mean of a box around every voxel, as ``scipy.ndimage.uniform_filter`` does, or its sum.

    It goes axis by axis, so that its cost grows with the sum of the sizes, not with their product.

    Parameters
    ----------
    size : int or sequence of int
        Extent of the box in voxels, one for all filtered axes or one an axis, such as ``(z, y, x)``.
    statistic : {'mean', 'sum'}
        The sum is the mean times the number of voxels of the box.
    origin : int or sequence of int
        Shift of the box in voxels, one for all filtered axes or one an axis, within
        ``-(size // 2) … (size - 1) // 2``.
    mode, cval
        Boundary mode and its constant; the workflow's where none is named.

    Raises
    ------
    InputError
        There are sizes or origins, but not one for every filtered axis, or an origin is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> context = FilterContext(ndim=1, axes=(0,), spacing_um=(None,))
    >>> Box(size=3, statistic="sum").reference(np.array([1.0, 2.0, 3.0, 4.0]), context).tolist()
    [4.0, 6.0, 9.0, 11.0]
    """

    size: Extents = 3
    """Extent of the box in voxels, one for all filtered axes or one an axis."""
    statistic: Literal["mean", "sum"] = "mean"
    """What is taken of the box."""
    origin: Integers = 0
    """Shift of the box in voxels, one for all filtered axes or one an axis."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return odd and even sizes, sizes wider than images, and origins at their limits."""
        return (
            {},
            {"size": 4, "statistic": "sum"},
            {"size": 11, "origin": 5},
            {"size": 4, "origin": -2, "statistic": "sum"},
            {"size": [2, 1], "origin": [-1, 0]},
            {"size": [1, 5, 2], "origin": [0, -2, -1], "statistic": "sum"},
            {"size": [3, 2, 4], "origin": [1, 0, 1]},
        )

    def operation(self, context: FilterContext) -> Operation:
        """Return one pass an axis, first to last; axes of size 1 have none."""
        mode, cval = self.boundary(context)
        passes: list[Operation] = []
        for axis, size, origin in self._axes(context):
            weight = 1.0 if self.statistic == "sum" else 1.0 / size
            if size > 1 or origin:
                passes.append(one_axis_passes([(axis, (weight,) * size, origin)], context, (mode, cval)))
            # Beyond the faces of a sum stand sums of the constant; beyond those of a mean, the constant.
            cval *= size if self.statistic == "sum" else 1
        return Sequence(tuple(step for part in passes if isinstance(part, Sequence) for step in part.operations))

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what ``scipy.ndimage.correlate`` gives with equal weights.

        ``scipy.ndimage.uniform_filter`` means the same, and its running sums round over the whole line.
        """
        _, sizes, origins = zip(*self._axes(context), strict=True)
        ones = np.ones(sizes)
        total = scipy_result("correlate", image, context, self.boundary(context), weights=ones, origin=origins)
        return total if self.statistic == "sum" else total / ones.size

    def _axes(self, context: FilterContext) -> list[tuple[int, int, int]]:
        sizes = one_an_axis(self.size, context, "size")
        origins = one_an_axis(self.origin, context, "origin")
        return list(zip(context.axes, sizes, origins, strict=True))
