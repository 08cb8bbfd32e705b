"""`sobel`: a smoothed first difference along one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainValidator

from convolume.errors import InputError, did_you_mean
from convolume.filters import Filter, FilterContext
from convolume.filters._fields import read_integers
from convolume.filters._passes import one_axis_passes
from convolume.filters._reference import scipy_result

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.operations import Operation

__all__ = ["Sobel"]


def _read_axis(written: Any) -> int | str:
    if isinstance(written, str):
        return written
    position = read_integers(written)
    if isinstance(position, tuple):
        message = f"{written!r} is not one axis: write its name or its position"
        raise InputError(message)
    return position


class Sobel(Filter):
    """Take the difference ``in[i + 1] - in[i - 1]`` along one axis, smoothed by 1, 2, 1 along the others.

    That is ``scipy.ndimage.sobel``: axis by axis, each filled beyond its faces before its own pass. The axes are taken
    first to last; the one of the difference comes first only where its place tells, with a constant that is not 0.

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
    >>> context = FilterContext(ndim=2, axes=(0, 1), spacing_um=(None, None))
    >>> ramp = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    >>> Sobel(axis="x").reference(ramp, context).tolist()
    [[4.0, 8.0, 4.0], [4.0, 8.0, 4.0]]
    """

    axis: Annotated[int | str, PlainValidator(_read_axis)] = -1
    """Axis of the difference: its position among the filtered axes, or its name."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return every axis, by position and by name."""
        return ({}, {"axis": 0}, {"axis": -2}, {"axis": "x"}, {"axis": "z"})

    def operation(self, context: FilterContext) -> Operation:
        """Return one pass an axis, first to last; the difference first where the order tells."""
        chosen = self._position(context)
        mode, cval = boundary = self.boundary(context)
        order = list(range(len(context.axes)))
        if mode.is_constant and cval:
            # Beyond the faces of what is smoothed stands the constant, not the smoothed constant.
            order.sort(key=lambda place: place != chosen)
        passes = [(context.axes[place], (-1, 0, 1) if place == chosen else (1, 2, 1), 0) for place in order]
        return one_axis_passes(passes, context, boundary)

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return what ``scipy.ndimage.sobel`` gives."""
        return scipy_result("sobel", image, context, self.boundary(context), axis=self._position(context))

    def _position(self, context: FilterContext) -> int:
        count = len(context.axes)
        if isinstance(self.axis, str):
            if self.axis in context.names:
                return context.names.index(self.axis)
            hint = did_you_mean(self.axis, context.names)
            message = f"axis {self.axis!r} is not filtered{hint}: the filter works on {context.axes_text()}"
            raise InputError(message)
        if not -count <= self.axis < count:
            message = f"axis {self.axis} is out of range: the filter works on {context.axes_text()}"
            raise InputError(message)
        return self.axis % count
