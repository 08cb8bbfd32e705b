"""`correlate`: a weighted sum of every voxel's neighbourhood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convolume.filters._kernel_filter import KernelFilter
from convolume.stencil import Stencil

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.filters import FilterContext
    from convolume.operations import Operation

__all__ = ["Correlate"]


class Correlate(KernelFilter):
    """Correlate with a kernel: out[i] = Σ_k kernel[k] · in[i + k - c], as scipy.ndimage.correlate does.

    Parameters
    ----------
    kernel : array_like, str or mapping
        Real finite weights, not empty, with as many axes as are filtered, or fewer: then it works over the last ones.
        A text is the path of a file that holds them. A mapping names a shape: ``{"ball": 3}`` (radius in voxels or
        a length such as ``"3 um"``, or one an axis), ``{"box": [1, 5, 5]}`` (sizes in voxels),
        ``{"gaussian": {"sigma": 1.5, "truncate": 4}}`` (it adds up to 1).
    origin : int or sequence of int
        Shift of the kernel in voxels, one for all its axes or one an axis, within
        ``-(size // 2) … (size - 1) // 2``.
    normalize : bool
        Divide the weights by their sum.
    method : {'auto', 'direct', 'separable', 'fft'}, optional
        How the kernel is weighed; the workflow's method where none is named.
    mode, cval
        Boundary mode and its constant; the workflow's where none is named.

    Raises
    ------
    InputError
        The kernel does not fit the image, is no kernel, or cannot be normalised.

    See Also
    --------
    convolve : the same with the kernel flipped.

    Examples
    --------
    >>> import numpy as np
    >>> from convolume.filters import FilterContext
    >>> step = Correlate(kernel=[1, 2, 3])
    >>> context = FilterContext(ndim=1, axes=(0,), spacing_um=(None,))
    >>> step.reference(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), context)[1:4].tolist()
    [3.0, 2.0, 1.0]
    """

    def operation(self, context: FilterContext) -> Operation:
        """Return one correlation over the kernel's axes."""
        return self._operation(context, Stencil.correlate)

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what ``scipy.ndimage.correlate`` gives."""
        return self._reference("correlate", image, context)
