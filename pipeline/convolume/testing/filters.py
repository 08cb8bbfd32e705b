"""The conformance suite of filters: every member of ``filters/``, in every mode, equals scipy.ndimage.

A test module takes it up with ``from convolume.testing.filters import TestEveryFilter``. A filter that is added as one
new file is found by itself.
"""

from __future__ import annotations

import doctest
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode, Runs
from convolume.devices.numpy import available, open_device
from convolume.errors import InputError
from convolume.execution.evaluate import Patch, Work, evaluate, fetched
from convolume.filters import Filter, FilterContext, filter_class, make_filter
from convolume.numerics import Precision
from convolume.operations import Operation, correlations
from convolume.registry import member_names
from convolume.testing.evaluation import assert_close, evaluate_whole, rounding_bound
from convolume.testing.strategies import cvals, images, shapes

__all__ = ["Case", "TestEveryFilter", "context_of", "evaluate_on_numpy", "every_case"]

Array = npt.NDArray[Any]
Evaluate = Callable[[Operation, Array], Array]

# Axes of the images that are drawn: a line, a plane, a volume, and a volume of channels at several times.
_DIMENSIONS = (1, 2, 3, 5)
_NAMES = "tczyx"
_SPACING_UM = (2.0, 1.0, 0.5)
# Axes that are filtered: at most the last three.
_SPACE = 3


@dataclass(frozen=True)
class Case:
    """One parameter set of one filter."""

    name: str
    number: int

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, as in the YAML."""
        return filter_class(self.name).examples()[self.number]

    def __str__(self) -> str:
        """Return a short name for the report of tests."""
        return f"{self.name}-{self.number}"


def every_case() -> list[Case]:
    """Return every example of every filter there is."""
    return [
        Case(name, number) for name in member_names("filters") for number in range(len(filter_class(name).examples()))
    ]


def context_of(ndim: int, **changes: Any) -> FilterContext:
    """Return what a filter is told of an image of `ndim` axes, the last of (t, c, z, y, x)."""
    axes = tuple(range(max(ndim - _SPACE, 0), ndim))
    return FilterContext(
        ndim=ndim,
        axes=axes,
        spacing_um=_SPACING_UM[_SPACE - len(axes) :],
        axis_names=tuple(_NAMES[5 - len(axes) :]),
        **changes,
    )


def evaluate_on_numpy(operation: Operation, image: Array) -> Array:
    """Return the result of an operation on a whole image, in float64, by the execution room on the NumPy device."""
    whole: tuple[Runs, ...] = tuple(((0, extent),) for extent in image.shape)
    device = open_device(available()[0])
    work = Work(device, Precision.DOUBLE, np.dtype(np.float64), image.shape)
    return fetched(evaluate(work, operation, Patch(image, whole), whole))


def operation_that_fits(case: Case, context: FilterContext) -> tuple[Filter, Operation] | None:
    """Return the filter of a case and what it does; None where its parameters do not fit so many axes."""
    step = make_filter(case.name, **case.parameters)
    try:
        return step, step.operation(context)
    except InputError:
        return None


def is_exact(operation: Operation) -> bool:
    """Say whether all weights are whole, so that sums of whole numbers are exact in any order."""
    return all(np.array_equal(step.stencil.weights, np.rint(step.stencil.weights)) for step in correlations(operation))


def require(condition: object, message: str) -> None:
    """Fail with a message that says what a filter owes."""
    if not condition:
        raise AssertionError(message)


class TestEveryFilter:
    """What every filter promises. Subclasses may hold another evaluation to the same promises."""

    evaluate: Evaluate = staticmethod(evaluate_on_numpy)

    @pytest.mark.parametrize("name", member_names("filters"))
    def test_is_a_member(self, name: str) -> None:
        """It is found by its name, explained, with an example that runs, and has parameter sets."""
        found = filter_class(name)
        require(issubclass(found, Filter), f"{found} is no Filter")
        require(found.__doc__ and "Examples" in found.__doc__, f"{name} needs a docstring with Examples")
        require(found.examples(), f"{name} needs at least one example")
        outcome = doctest.testmod(import_module(found.__module__))
        require(not outcome.failed, f"{outcome.failed} examples in the docstrings of {name} are wrong")

    @pytest.mark.parametrize("case", every_case(), ids=str)
    def test_travels(self, case: Case) -> None:
        """It is frozen, equal by value, hashable, pickles, and is made again by what it writes."""
        step = make_filter(case.name, **case.parameters)
        written = step.model_dump(mode="json", exclude_defaults=True)
        for copy in (make_filter(case.name, **written), pickle.loads(pickle.dumps(step))):  # noqa: S301 (just pickled)
            require(copy == step and hash(copy) == hash(step), f"{copy!r} is not {step!r}")
        with pytest.raises(ValueError, match="frozen"):
            step.cval = 1.0  # type: ignore[misc]  # that it is refused is the test

    @pytest.mark.parametrize("name", member_names("filters"))
    def test_every_number_of_axes_has_an_example(self, name: str) -> None:
        """Without one, the comparison with scipy would pass by leaving everything out."""
        cases = [case for case in every_case() if case.name == name]
        for ndim in _DIMENSIONS:
            fits = any(operation_that_fits(case, context_of(ndim)) for case in cases)
            require(fits, f"no example of {name} fits an image of {ndim} axes")
        for case in cases:
            fits = any(operation_that_fits(case, context_of(ndim)) for ndim in _DIMENSIONS)
            require(fits, f"{case.parameters} of {name} fits no image")

    @pytest.mark.parametrize("mode", list(BoundaryMode))
    @pytest.mark.parametrize("case", every_case(), ids=str)
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_equals_scipy(self, case: Case, mode: BoundaryMode, data: st.DataObject) -> None:
        """Whole numbers are equal; reals lie within the rounding of their own sums, voxel by voxel."""
        ndim = data.draw(st.sampled_from(_DIMENSIONS))
        context = context_of(ndim, mode=mode, cval=data.draw(cvals()))
        fitting = operation_that_fits(case, context)
        if fitting is None:
            return
        step, operation = fitting
        image = data.draw(images(_drawn_shape(data, ndim), dtype=np.float64))
        expected = step.reference(image, context)
        actual = self.evaluate(operation, image)
        whole = bool(np.all(image == np.rint(image)))
        # What goes axis by axis here may be one dense sum in the reference.
        dense = prod(max(1, correlation.stencil.tap_count) for correlation in correlations(operation))
        bound = 2 * rounding_bound(operation, image, extra=8 + dense)
        assert_close(actual, expected, bound * (not (whole and is_exact(operation))), f"{step!r} in {mode}")

    @pytest.mark.parametrize("case", every_case(), ids=str)
    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_equals_the_plainest_evaluation(self, case: Case, data: st.DataObject) -> None:
        """Channels, faces and order of sums: the same as taking every tap over the whole filled array."""
        ndim = data.draw(st.sampled_from(_DIMENSIONS))
        context = context_of(ndim, mode=data.draw(st.sampled_from(BoundaryMode)), cval=data.draw(cvals()))
        fitting = operation_that_fits(case, context)
        if fitting is not None:
            image = data.draw(images(_drawn_shape(data, ndim), finite=False, dtype=np.float64))
            expected = evaluate_whole(fitting[1], image)
            np.testing.assert_array_equal(self.evaluate(fitting[1], image), expected)


def _drawn_shape(data: st.DataObject, ndim: int) -> tuple[int, ...]:
    others = max(ndim - _SPACE, 0)
    space = data.draw(shapes(ndim - others, ndim - others, max_side=9 if ndim < _SPACE else 6))
    return (2,) * others + space
