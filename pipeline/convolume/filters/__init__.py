"""Filters turn parameters into operations; one file a filter.

A member ``filters/some_name.py`` defines one class ``SomeName(Filter)``: its fields are the parameters, with the
names and meaning of scipy.ndimage. Nothing else is needed: the YAML, `Volume` and the conformance suite find it by
its file.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from convolume.boundary import BoundaryMode
from convolume.errors import InputError, did_you_mean
from convolume.registry import load_member

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from convolume.operations import Method, Operation

__all__ = ["Filter", "FilterContext", "filter_class", "make_filter"]


@dataclass(frozen=True, slots=True)
class FilterContext:
    """What a filter is told of the image and the workflow that it stands in.

    Parameters
    ----------
    ndim : int
        Axes of the image, (t, c) included.
    axes : tuple of int
        Those that are filtered, sorted.
    spacing_um : tuple of float or None
        Voxel size on each of `axes`; None where it is not known.
    mode, cval
        Boundary of the workflow, for filters that name none of their own.
    method : Method
        The workflow's, for dense kernels whose filter names none of its own.
    read_array : callable, optional
        Gives the voxels of a kernel file; filters open no files.
    axis_names : tuple of str, optional
        Names of `axes`; the last of (t, c, z, y, x) where none are given.
    """

    ndim: int
    axes: tuple[int, ...]
    spacing_um: tuple[float | None, ...]
    mode: BoundaryMode = BoundaryMode.REFLECT
    cval: float = 0.0
    method: Method = "direct"
    read_array: Callable[[str], npt.NDArray[Any]] | None = None
    axis_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the filtered axes, for parameters and messages."""
        return self.axis_names or tuple("tczyx"[5 - len(self.axes) :])

    def axes_text(self) -> str:
        """Return the filtered axes as a message tells them: ``3 axes (z, y, x)``."""
        count = len(self.axes)
        return f"{count} ax{'e' if count > 1 else 'i'}s ({', '.join(self.names)})"


class Filter(BaseModel, ABC):
    """One filter with its parameters; frozen, checked when made, and known by its file's name."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True
    )

    mode: BoundaryMode | None = None
    """Boundary mode of this step; the workflow's where none is named."""
    cval: float | None = None
    """Constant of the constant modes."""

    def boundary(self, context: FilterContext) -> tuple[BoundaryMode, float]:
        """Return the boundary mode and constant of this step: its own, else the workflow's."""
        mode = context.mode if self.mode is None else self.mode
        return mode, context.cval if self.cval is None else self.cval

    @abstractmethod
    def operation(self, context: FilterContext) -> Operation:
        """Return what a device has to do.

        Raises
        ------
        InputError
            The parameters do not fit the image.
        """

    @classmethod
    @abstractmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return parameter sets, as in the YAML, that the conformance suite runs in every mode."""

    @abstractmethod
    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return the result as scipy.ndimage gives it on the whole float64 image: what this filter means."""


def filter_class(name: str) -> type[Filter]:
    """Return the filter of this name: ``filters/gradient_magnitude.py`` holds ``GradientMagnitude``.

    Raises
    ------
    InputError
        There is no such filter.
    """
    module = load_member("filters", name)
    found: type[Filter] = getattr(module, name.title().replace("_", ""))
    return found


def make_filter(name: str, /, **parameters: Any) -> Filter:
    """Return a filter with its parameters checked.

    Raises
    ------
    InputError
        There is no such filter, or some parameters are wrong: the message names them all.

    Examples
    --------
    >>> make_filter("laplace", mode="nearest")
    Laplace(mode=<BoundaryMode.NEAREST: 'nearest'>, cval=None)
    """
    found = filter_class(name)
    try:
        return found(**parameters)
    except ValidationError as error:
        mistakes = (_mistake(found, dict(entry)) for entry in error.errors())
        message = f"{name}: " + "; ".join(mistakes)
    raise InputError(message)


def signature_of(found: type[Filter]) -> inspect.Signature:
    """Return a filter's parameters as a function has them: its own first, the boundary last and by name."""
    own = [name for name in found.model_fields if name not in Filter.model_fields]
    parameters = []
    for name in (*own, *Filter.model_fields):
        spec = found.model_fields[name]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if name in own else inspect.Parameter.KEYWORD_ONLY
        default = inspect.Parameter.empty if spec.is_required() else spec.get_default(call_default_factory=True)
        parameters.append(inspect.Parameter(name, kind, default=default))
    return inspect.Signature(parameters)


def _mistake(found: type[Filter], entry: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        known = list(found.model_fields)
        return f"there is no parameter {path!r}{did_you_mean(path, known)} (there are: {', '.join(known)})"
    if entry["type"] == "missing":
        return f"the parameter {path!r} is needed"
    return f"{path}: {entry['msg'].removeprefix('Value error, ')}"
