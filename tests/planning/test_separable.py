"""Kernels that are an outer product are found, and go axis by axis to the same result."""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.operations import Correlate
from convolume.planning.separable import TOLERANCE, axis_by_axis, distance_from_separable
from convolume.stencil import Stencil
from convolume.testing.evaluation import assert_close, evaluate_whole, rounding_bound, scipy_is_sound
from convolume.testing.strategies import boundary_modes, cvals, images, kernels, origins, shapes


def outer(*lines: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the product of weights on axes of their own."""
    return reduce(np.multiply.outer, [np.asarray(line, np.float64) for line in lines])


@st.composite
def products(draw: st.DrawFn, ndim: int, *, exact: bool) -> npt.NDArray[np.float64]:
    """Draw a kernel that is an outer product, not all of it zero."""
    lines = [draw(kernels(1, exact=exact)) for _ in range(ndim)]
    assume(all(line.any() for line in lines))
    return outer(*lines)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), mode=boundary_modes(), cval=cvals())
def test_passes_are_scipys_dense_correlation(data: st.DataObject, mode: BoundaryMode, cval: float) -> None:
    """In every mode, even sizes and origins included: all axes are filled as of the dense kernel."""
    shape = data.draw(shapes(max_side=9))
    kernel = data.draw(products(len(shape), exact=False))
    origin = data.draw(origins(kernel.shape))
    assume(scipy_is_sound(shape, kernel.shape, mode))
    image = data.draw(images(shape, dtype=np.float64))
    step = Correlate(Stencil.correlate(kernel, origin), (mode,) * len(shape), cval)
    passes = axis_by_axis(step)
    assert passes is not None
    assert all(sum(n > 1 for n in one.stencil.shape) <= 1 for one in passes.operations if isinstance(one, Correlate))
    expected = scipy.ndimage.correlate(image, kernel, mode=mode.value, cval=cval, origin=origin)
    bound = 2 * rounding_bound(step, image, extra=40)
    assert_close(evaluate_whole(passes, image), expected, bound)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_modes_may_differ_from_axis_to_axis(data: st.DataObject) -> None:
    """As they do within an operation; NaN and infinities are where the dense kernel has them."""
    shape = data.draw(shapes(max_side=7))
    kernel = data.draw(products(len(shape), exact=True))
    modes = data.draw(st.tuples(*(boundary_modes() for _ in shape)))
    step = Correlate(Stencil.correlate(kernel, data.draw(origins(kernel.shape))), modes, data.draw(cvals()))
    passes = axis_by_axis(step)
    assert passes is not None
    image = data.draw(images(shape, exact=True, dtype=np.float64))
    bound = 2 * rounding_bound(step, image, extra=40)
    assert_close(evaluate_whole(passes, image), evaluate_whole(step, image), bound)
    image.flat[0] = np.nan
    np.testing.assert_array_equal(np.isnan(evaluate_whole(passes, image)), np.isnan(evaluate_whole(step, image)))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), exponent=st.floats(-11, 0))
def test_what_is_no_product_is_not_taken_for_one(data: st.DataObject, exponent: float) -> None:
    """A weight that is off by more than the tolerance is seen, wherever it stands."""
    kernel = data.draw(products(2, exact=True))
    assume(min(kernel.shape) > 1)
    place = tuple(data.draw(st.integers(0, n - 1)) for n in kernel.shape)
    kernel[place] += 10**exponent * np.abs(kernel).max()
    # Only a kernel whose other weights are all in one line could still be a product.
    assume(np.linalg.matrix_rank(kernel, tol=1e-13 * np.abs(kernel).max()) > 1)
    assert distance_from_separable(Stencil.correlate(kernel)) > TOLERANCE


@pytest.mark.parametrize(
    ("kernel", "cval"),
    [
        (np.zeros((3, 3)), 0.0),
        (outer([1, 2, 1], [1, 0, -1]), np.inf),
        (outer([1, 2, 1], [1, 0, -1]), np.nan),
        # A zero that is none in the product: NaN would reach further.
        (outer([1, 1e-13, 1], [1, 1]) * [[1, 1], [0, 1], [1, 1]], 0.0),
        (outer([1e-200, 1], [1e-200, 1]), 0.0),
    ],
)
def test_what_does_not_do_the_same_stays_dense(kernel: npt.NDArray[np.float64], cval: float) -> None:
    """Constants that are not finite, zeros in other places."""
    assert axis_by_axis(Correlate(Stencil.correlate(kernel), (BoundaryMode.CONSTANT,) * 2, cval)) is None
