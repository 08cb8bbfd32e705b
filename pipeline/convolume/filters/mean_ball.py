"""`mean_ball`: the mean of a ball of voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convolume.filters import Filter, FilterContext
from convolume.filters._fields import Lengths, write_lengths
from convolume.filters.correlate import Correlate
from convolume.operations import Method  # noqa: TC001 - pydantic reads it when the class is made

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.operations import Operation

__all__ = ["MeanBall"]


class MeanBall(Filter):
    """Take the mean of the voxels within a radius, the same in every direction.

    Parameters
    ----------
    radius : float, str or sequence
        Radius in voxels (``2``) or as a length (``"1.5 um"``), one for all filtered axes, or one an axis, which makes
        an ellipsoid; with fewer entries than axes it works over the last ones. Voxels at the radius itself count.
    method : {'auto', 'direct', 'fft'}, optional
        How the ball is weighed; the workflow's method where none is named.
    mode, cval
        Boundary mode and its constant; the workflow's where none is named.

    Raises
    ------
    InputError
        A length is given and the voxel size is not known, or there are more entries than filtered axes.

    Examples
    --------
    >>> import numpy as np
    >>> context = FilterContext(ndim=2, axes=(0, 1), spacing_um=(None, None))
    >>> spot = np.array([[0.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 0.0]])
    >>> MeanBall(radius=1).reference(spot, context).tolist()
    [[0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]
    """

    radius: Lengths
    """Radius in voxels or as a length (``1.5 um``), one for all filtered axes or one an axis."""
    method: Method | None = None
    """How the ball is weighed: `auto`, `direct` or `fft`; the workflow's where none is named."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return voxels, lengths, ellipsoids, planes of a volume, and a ball of one voxel."""
        return ({"radius": 2}, {"radius": "1 um"}, {"radius": [1, 2.5]}, {"radius": [0, 1, "0.5 um"]}, {"radius": 0})

    def operation(self, context: FilterContext) -> Operation:
        """Return one correlation with the ball, whose weights add up to 1."""
        return self._correlate().operation(context)

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what ``scipy.ndimage.correlate`` gives with the ball."""
        return self._correlate().reference(image, context)

    def _correlate(self) -> Correlate:
        ball = {"ball": write_lengths(self.radius)}
        return Correlate(kernel=ball, normalize=True, method=self.method, mode=self.mode, cval=self.cval)
