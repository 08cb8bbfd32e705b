"""What filters mean: scipy.ndimage on the whole image, for tests and checks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.boundary import BoundaryMode
    from convolume.filters import FilterContext

__all__ = ["scipy_result"]


def scipy_result(
    function: str,
    image: npt.NDArray[Any],
    context: FilterContext,
    boundary: tuple[BoundaryMode, float],
    **parameters: Any,
) -> npt.NDArray[np.float64]:
    """Return what a function of scipy.ndimage gives for every channel and time point of an image.

    Examples
    --------
    >>> from convolume.boundary import BoundaryMode
    >>> from convolume.filters import FilterContext
    >>> context = FilterContext(ndim=2, axes=(1,), spacing_um=(None,))
    >>> scipy_result("laplace", np.eye(2), context, (BoundaryMode.REFLECT, 0.0)).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    # scipy.ndimage is imported late: a run does without it.
    scipy_filter = getattr(import_module("scipy.ndimage"), function)
    mode, cval = boundary
    last = range(-len(context.axes), 0)
    moved = np.moveaxis(np.asarray(image, dtype=np.float64), context.axes, last)
    result = np.empty(moved.shape)
    for place in np.ndindex(moved.shape[: moved.ndim - len(context.axes)]):
        padded, inner = _unfold(moved[place], mode, np.shape(parameters.get("weights", ())))
        result[place] = scipy_filter(padded, mode=str(mode), cval=cval, **parameters)[inner]
    return np.moveaxis(result, last, context.axes)


def _unfold(
    part: npt.NDArray[np.float64], mode: BoundaryMode, kernel_shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float64], tuple[slice, ...]]:
    """Return an image that scipy may filter with a kernel of this shape, and where the result stands in it.

    scipy's `correlate` and `convolve` read outside their memory where `reflect` has to go back by four extents of an
    axis or more (seen in scipy 1.17); there the image is unfolded by hand.
    """
    too_wide = [extent > 4 * n for n, extent in zip(part.shape, kernel_shape, strict=False)]
    if not any(too_wide) or mode not in {"reflect", "grid-mirror"}:
        return part, (slice(None),) * part.ndim
    inner = tuple(slice(extent, extent + n) for n, extent in zip(part.shape, kernel_shape, strict=True))
    return np.pad(part, [(extent, extent) for extent in kernel_shape], mode="symmetric"), inner
