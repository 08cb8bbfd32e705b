"""A stencil weighs as scipy.ndimage does, for every size and origin, and refuses what scipy refuses."""

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

from convolume.boundary import BoundaryMode
from convolume.errors import InputError
from convolume.operations import Correlate
from convolume.regions import Halo
from convolume.stencil import Stencil
from convolume.testing.evaluation import assert_close, evaluate_whole, rounding_bound, scipy_is_sound
from convolume.testing.strategies import boundary_modes, cvals, images, kernels, origins, shapes

MAKERS = {"correlate": Stencil.correlate, "convolve": Stencil.convolve}
names = st.sampled_from(sorted(MAKERS))


@given(st.data(), names)
def test_it_weighs_as_scipy_does(data: st.DataObject, name: str) -> None:
    """Every mode, even and odd sizes, every legal origin: exact on whole numbers, NaN and inf in their places."""
    shape = data.draw(shapes(max_side=8))
    exact = data.draw(st.booleans())
    kernel = data.draw(kernels(len(shape), max_side=7 if len(shape) < 3 else 4, exact=exact))
    origin, mode, cval = data.draw(origins(kernel.shape)), data.draw(boundary_modes()), data.draw(cvals())
    assume(scipy_is_sound(shape, kernel.shape, mode))
    image = data.draw(images(shape, exact=exact, finite=data.draw(st.booleans()), dtype=np.float64))
    expected = getattr(ndimage, name)(image, kernel, mode=str(mode), cval=cval, origin=origin)
    operation = Correlate(MAKERS[name](kernel, origin), (mode,) * len(shape), cval)
    bound = np.zeros(shape) if exact else 2 * rounding_bound(operation, image)
    assert_close(evaluate_whole(operation, image), expected, bound, name)


@given(st.data(), names)
def test_it_refuses_an_origin_when_scipy_does(data: st.DataObject, name: str) -> None:
    """Exactly then."""
    sides = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    origin = data.draw(st.tuples(*(st.integers(-4, 4) for _ in sides)))
    kernel, image = np.ones(sides), np.zeros([2] * len(sides))
    assert is_refused(lambda: MAKERS[name](kernel, origin)) == is_refused(
        lambda: getattr(ndimage, name)(image, kernel, origin=origin)
    )


def is_refused(call: Callable[[], Any]) -> bool:
    """Say whether a call ends in a ValueError, which InputError is too."""
    try:
        call()
    except ValueError:
        return True
    return False


@given(st.data())
def test_taps_and_halo_cover_the_weights(data: st.DataObject) -> None:
    """In the order of summation, without zeros."""
    kernel = data.draw(st.integers(1, 3).flatmap(kernels))
    stencil = Stencil.correlate(kernel, data.draw(origins(kernel.shape)))
    again = np.zeros(kernel.shape)
    places = []
    for place, weight in stencil.taps():
        again[place] = weight
        places.append(place)
    assert np.array_equal(again, kernel)
    assert places == sorted(places)
    assert len(places) == stencil.tap_count
    assert stencil.halo.inner(kernel.shape) == (1,) * kernel.ndim
    assert stencil.size == kernel.size


@given(st.data())
def test_it_travels_and_compares_by_value(data: st.DataObject) -> None:
    """Whatever the kernel was made of."""
    kernel = data.draw(st.integers(1, 3).flatmap(kernels))
    stencil = Stencil.correlate(kernel)
    assert stencil.weights is stencil.weights
    copy = pickle.loads(pickle.dumps(stencil))  # noqa: S301 (just pickled)
    assert copy == stencil == Stencil.correlate(np.asfortranarray(kernel).tolist())
    assert Stencil.correlate(-kernel * 0.0) == Stencil.correlate(kernel * 0.0)
    assert hash(copy) == hash(stencil)
    with pytest.raises(ValueError, match="read-only"):
        stencil.weights[...] = 0


def test_it_works_over_the_axes_that_it_is_put_on() -> None:
    """The others get extent 1."""
    stencil = Stencil.correlate([[1, 2, 3]], origin=[0, -1]).on_axes((1, 3), 5)
    assert stencil.shape == (1, 1, 1, 3, 1)
    assert stencil.halo == Halo((0, 0, 0, 0, 0), (0, 0, 0, 2, 0))
    image = np.arange(2.0 * 3 * 4 * 5 * 2).reshape(2, 3, 4, 5, 2)
    step = Correlate(stencil, (BoundaryMode.NEAREST,) * 5)
    expected = ndimage.correlate(image, stencil.weights, mode="nearest", origin=(0, 0, 0, -1, 0))
    assert np.array_equal(evaluate_whole(step, image), expected)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ([], "the kernel has shape (0,): it needs at least one axis and one weight"),
        (3.0, "the kernel has shape (): it needs at least one axis and one weight"),
        ([1j], "the kernel is complex: give real weights (filter the two parts one by one)"),
        ([[1.0, np.nan]], "the kernel's weight at (0, 1) is nan: weights must be finite"),
        (["a"], "the kernel is not made of numbers: could not convert string to float: np.str_('a')"),
    ],
)
def test_what_is_no_kernel_is_refused(kernel: npt.ArrayLike, message: str) -> None:
    """With the reason."""
    with pytest.raises(InputError, match=re.escape(message)):
        Stencil.correlate(kernel)


def test_a_wrong_origin_is_told_with_what_is_allowed() -> None:
    """By scipy's rule."""
    message = "origin 2 on the kernel's axis 1 is out of range: a size of 4 allows -2 to 1"
    with pytest.raises(InputError, match=re.escape(message)):
        Stencil.correlate(np.ones((3, 4)), [0, 2])
    message = "origin [0, 0, 0] has 3 entries for a kernel of 2 axes"
    with pytest.raises(InputError, match=re.escape(message)):
        Stencil.convolve(np.ones((3, 4)), [0, 0, 0])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.sampled_from([0, 1, -1]), st.integers(1, 5), st.data())
def test_a_line_weighs_the_same_in_another_order(
    weights: list[int], sign: int, divisor: int, data: st.DataObject
) -> None:
    """Taps and pairs together are the weights, and whole numbers cannot tell the order."""
    kernel = np.array(weights) + sign * np.array(weights[::-1])
    origin = data.draw(st.integers(-(kernel.size // 2), (kernel.size - 1) // 2))
    line = Stencil.line(kernel, origin, divisor).on_axes((1,), 3)
    together = np.zeros(line.shape)
    for place, weight in line.taps():
        together[place] += weight
    for place, other, each, weight in line.pairs():
        together[place] += weight
        together[other] += each * weight
    np.testing.assert_array_equal(together.ravel(), kernel)
    image = data.draw(images((2, 5, 3), exact=True, dtype=np.float64))
    modes = (BoundaryMode.REFLECT,) * 3
    plain = Correlate(Stencil.correlate(kernel, origin).on_axes((1,), 3), modes)
    np.testing.assert_array_equal(evaluate_whole(Correlate(line, modes), image), evaluate_whole(plain, image) / divisor)


def test_a_line_has_one_axis() -> None:
    """Told with the shape."""
    with pytest.raises(InputError, match=re.escape("the weights of a line have one axis, these have shape (2, 2)")):
        Stencil.line(np.ones((2, 2)))
