"""What `sobel`, `prewitt` and `scharr` share: a difference along one axis, smoothed along the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import PlainValidator

from convolume.errors import InputError, did_you_mean
from convolume.filters import Filter, FilterContext
from convolume.filters._fields import read_integers
from convolume.filters._passes import one_axis_passes

if TYPE_CHECKING:
    from convolume.operations import Operation

__all__ = ["AxisDifference"]


def _read_axis(written: Any) -> int | str:
    if isinstance(written, str):
        return written
    position = read_integers(written)
    if isinstance(position, tuple):
        message = f"{written!r} is not one axis: write its name or its position"
        raise InputError(message)
    return position


class AxisDifference(Filter):
    """The difference ``in[i + 1] - in[i - 1]`` along one axis, weighed with `smoothing` along the others.

    Axis by axis, each filled beyond its faces before its own pass: first to last, the axis of the difference first only
    where its place tells, with a constant that is not 0.
    """

    smoothing: ClassVar[tuple[int, int, int]]

    axis: Annotated[int | str, PlainValidator(_read_axis)] = -1
    """Axis of the difference: its position among the filtered axes, or its name."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return every axis, by position and by name."""
        return ({}, {"axis": 0}, {"axis": -2}, {"axis": "x"}, {"axis": "z"})

    def operation(self, context: FilterContext) -> Operation:
        """Return one pass an axis, first to last; the difference first where the order tells."""
        chosen = self.position(context)
        mode, cval = boundary = self.boundary(context)
        order = list(range(len(context.axes)))
        if mode.is_constant and cval:
            # Beyond the faces of what is smoothed stands the constant, not the smoothed constant.
            order.sort(key=lambda place: place != chosen)
        passes = [(context.axes[place], (-1, 0, 1) if place == chosen else self.smoothing, 0) for place in order]
        return one_axis_passes(passes, context, boundary)

    def position(self, context: FilterContext) -> int:
        """Return the axis of the difference, counted among the filtered axes."""
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
