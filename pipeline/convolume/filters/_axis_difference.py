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

    Axis by axis, each filled beyond its faces before its own pass; the axis of the difference comes first.
    """

    smoothing: ClassVar[tuple[int, int, int]]

    axis: Annotated[int | str, PlainValidator(_read_axis)] = -1
    """Axis of the difference: its position among the filtered axes, or its name."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return every axis, by position and by name."""
        return ({}, {"axis": 0}, {"axis": -2}, {"axis": "x"}, {"axis": "z"})

    def operation(self, context: FilterContext) -> Operation:
        """Return the difference along the axis, then the smoothing of the others, first to last."""
        # The difference first: sums that are smoothed before it are larger, and so is their rounding.
        chosen = self.position(context)
        others = [place for place in range(len(context.axes)) if place != chosen]
        passes = [
            (context.axes[chosen], (-1, 0, 1), 0),
            *((context.axes[place], self.smoothing, 0) for place in others),
        ]
        return one_axis_passes(passes, context, self.boundary(context))

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
