"""What linear filters keep, whatever the image: impulses, sums, shifts, mirrors, inner products, NaN in its place."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from convolume import ndimage
from convolume.boundary import OUTSIDE, BoundaryMode, source_indices
from convolume.stencil import Stencil
from convolume.testing.strategies import boundary_modes, images, kernels, origin_at, origins, shapes

settings = hypothesis_settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
# Whole numbers: every sum is exact.
weights_of = st.lists(st.integers(-3, 3), min_size=1, max_size=7)
modes = boundary_modes().map(str)


def drawn_image(data: st.DataObject, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Draw an image of whole numbers."""
    return data.draw(images(shape, exact=True, dtype=np.float64))


@settings
@given(weights_of, st.data())
def test_an_impulse_gives_the_weights(weights: list[int], data: st.DataObject) -> None:
    """As they are by a convolution, mirrored by a correlation, moved by the origin."""
    size = len(weights)
    origin = data.draw(origin_at(size))
    impulse = np.zeros(3 * size + 1)
    impulse[size] = 1.0
    first = size - size // 2 - origin
    convolved = ndimage.convolve1d(impulse, weights, origin=origin)
    expected = np.zeros_like(impulse)
    expected[first : first + size] = weights
    np.testing.assert_array_equal(convolved, expected)
    first = 1 + size // 2 + origin
    expected = np.zeros_like(impulse)
    expected[first : first + size] = weights[::-1]
    np.testing.assert_array_equal(ndimage.correlate1d(impulse, weights, origin=origin), expected)


@settings
@given(st.data())
def test_an_impulse_gives_a_dense_kernel(data: st.DataObject) -> None:
    """As it is by a convolution, mirrored by a correlation, moved by the origin; even sizes too."""
    kernel = data.draw(kernels(data.draw(st.integers(1, 3)), exact=True))
    origin = data.draw(origins(kernel.shape))
    impulse = np.zeros(tuple(3 * size for size in kernel.shape))
    impulse[kernel.shape] = 1.0
    sides = list(zip(kernel.shape, origin, strict=True))
    for apply, firsts, weights in (
        (ndimage.convolve, [size - size // 2 - shift for size, shift in sides], kernel),
        (ndimage.correlate, [1 + size // 2 + shift for size, shift in sides], np.flip(kernel)),
    ):
        expected = np.zeros_like(impulse)
        expected[tuple(slice(first, first + size) for first, size in zip(firsts, kernel.shape, strict=True))] = weights
        np.testing.assert_array_equal(apply(impulse, kernel, mode="constant", origin=origin), expected)


@settings
@given(weights_of, modes, st.integers(-4, 4), st.data())
def test_sums_and_multiples_are_kept(weights: list[int], mode: str, factor: int, data: st.DataObject) -> None:
    """Of images; Laplacian and Sobel too."""
    shape = data.draw(shapes(max_side=7))
    first, second = drawn_image(data, shape), drawn_image(data, shape)
    for apply in (
        lambda image: ndimage.correlate1d(image, weights, mode=mode),
        lambda image: ndimage.convolve(image, np.array(weights, ndmin=image.ndim), mode=mode),
        lambda image: ndimage.laplace(image, mode=mode),
        lambda image: ndimage.sobel(image, mode=mode),
        lambda image: ndimage.prewitt(image, axis=0, mode=mode),
    ):
        np.testing.assert_array_equal(apply(first + factor * second), apply(first) + factor * apply(second))


@settings
@given(weights_of, st.integers(-9, 9), st.data())
def test_on_a_ring_shifts_are_kept(weights: list[int], shift: int, data: st.DataObject) -> None:
    """Of whole numbers to the digit, of reals to the bit: the order of sums does not hang on the place."""
    shape = data.draw(shapes(max_side=7))
    axis = data.draw(st.integers(0, len(shape) - 1))
    image = data.draw(images(shape, dtype=np.float32))
    for apply in (
        lambda image: ndimage.correlate1d(image, weights, axis, mode="wrap"),
        lambda image: ndimage.gaussian_filter(image, 0.8, mode="grid-wrap"),
        lambda image: ndimage.uniform_filter(image, 4, mode="wrap"),
        lambda image: ndimage.correlate(image, np.array(weights, ndmin=image.ndim) * 0.3, mode="wrap"),
        lambda image: ndimage.laplace(image, mode="wrap"),
        lambda image: ndimage.gaussian_laplace(image, 0.7, mode="wrap"),
        lambda image: ndimage.gaussian_gradient_magnitude(image, 0.7, mode="wrap"),
    ):
        moved = np.roll(image, shift, axis)
        np.testing.assert_array_equal(apply(moved), np.roll(apply(image), shift, axis))


@settings
@given(weights_of, modes, st.data())
def test_a_mirrored_image_with_mirrored_weights_is_mirrored(weights: list[int], mode: str, data: st.DataObject) -> None:
    """In every mode; the middle of an even number moves by one voxel."""
    shape = data.draw(shapes(max_side=7))
    axis, size = data.draw(st.integers(0, len(shape) - 1)), len(weights)
    image, origin = drawn_image(data, shape), data.draw(origin_at(size))
    options: dict[str, Any] = {"axis": axis, "mode": mode, "cval": 2.0}
    mirrored = ndimage.correlate1d(np.flip(image, axis), weights[::-1], origin=-origin - (size % 2 == 0), **options)
    np.testing.assert_array_equal(
        np.flip(mirrored, axis), ndimage.correlate1d(image, weights, origin=origin, **options)
    )


@settings
@given(modes, st.data())
def test_a_mirrored_image_with_a_mirrored_kernel_is_mirrored(mode: str, data: st.DataObject) -> None:
    """Along all axes at once."""
    shape = data.draw(shapes(max_side=6))
    kernel = data.draw(kernels(len(shape), max_side=4, exact=True))
    origin = data.draw(origins(kernel.shape))
    image, options = drawn_image(data, shape), {"mode": mode, "cval": 2.0}
    # The middle of an even size moves by one voxel.
    turned = [-shift - (size % 2 == 0) for size, shift in zip(kernel.shape, origin, strict=True)]
    mirrored = ndimage.correlate(np.flip(image), np.flip(kernel), origin=turned, **options)
    np.testing.assert_array_equal(np.flip(mirrored), ndimage.correlate(image, kernel, origin=origin, **options))
    # A convolution is the correlation with the mirrored kernel.
    np.testing.assert_array_equal(
        ndimage.convolve(image, kernel, origin=origin, **options),
        ndimage.correlate(image, np.flip(kernel), origin=turned, **options),
    )


@settings
@given(weights_of, st.sampled_from(["constant", "grid-constant", "wrap", "grid-wrap"]), st.data())
def test_convolution_is_the_adjoint_of_correlation(weights: list[int], mode: str, data: st.DataObject) -> None:
    """Where nothing or a ring stands beyond the faces: ⟨w ⋆ x, y⟩ = ⟨x, w * y⟩ (not so where an image is mirrored)."""
    shape = data.draw(shapes(max_side=7))
    axis, origin = data.draw(st.integers(0, len(shape) - 1)), data.draw(origin_at(len(weights)))
    first, second = drawn_image(data, shape), drawn_image(data, shape)
    there = ndimage.correlate1d(first, weights, axis, mode=mode, origin=origin)
    # The convolution's own origin turns the same shift back.
    back = ndimage.convolve1d(second, weights, axis, mode=mode, origin=origin)
    assert np.vdot(there, second) == np.vdot(first, back)


@settings
@given(st.sampled_from(["constant", "grid-constant", "wrap", "grid-wrap"]), st.data())
def test_dense_convolution_is_the_adjoint_of_correlation(mode: str, data: st.DataObject) -> None:
    """Of even sizes and any origin too."""
    shape = data.draw(shapes(max_side=6))
    kernel = data.draw(kernels(len(shape), max_side=4, exact=True))
    origin = data.draw(origins(kernel.shape))
    first, second = drawn_image(data, shape), drawn_image(data, shape)
    there = ndimage.correlate(first, kernel, mode=mode, origin=origin)
    assert np.vdot(there, second) == np.vdot(first, ndimage.convolve(second, kernel, mode=mode, origin=origin))


@settings
@given(boundary_modes(), st.data())
def test_the_adjoint_gives_back_what_was_taken(mode: BoundaryMode, data: st.DataObject) -> None:
    """In every mode: ⟨Ax, y⟩ = ⟨x, Aᵀy⟩, with Aᵀ adding each weight to the voxel that the index map read it from."""
    shape = data.draw(shapes(max_side=6))
    kernel = data.draw(kernels(len(shape), max_side=4, exact=True))
    origin = data.draw(origins(kernel.shape))
    first, second = drawn_image(data, shape), drawn_image(data, shape)
    there = ndimage.correlate(first, kernel, mode=str(mode), origin=origin)
    assert np.vdot(there, second) == np.vdot(first, adjoint(second, Stencil.correlate(kernel, origin), mode))


def adjoint(image: npt.NDArray[Any], stencil: Stencil, mode: BoundaryMode) -> npt.NDArray[Any]:
    """Return the transposed correlation of an image, voxel by voxel; the constant is 0."""
    result = np.zeros(image.shape)
    sides = zip(image.shape, stencil.halo.before, stencil.halo.after, strict=True)
    maps = [source_indices(-before, length + after, length, mode) for length, before, after in sides]
    for place, weight in stencil.taps():
        read = [where[k : k + length] for where, k, length in zip(maps, place, image.shape, strict=True)]
        inside = np.ix_(*(places != OUTSIDE for places in read))
        np.add.at(result, np.ix_(*(places[places != OUTSIDE] for places in read)), weight * image[inside])
    return result


@settings
@given(st.data(), st.sampled_from([np.nan, np.inf]))
def test_nan_and_infinity_stay_local(data: st.DataObject, special: float) -> None:
    """They reach the voxels whose weights are not zero, and no other; scipy's running means carry them on."""
    image = np.zeros(30, data.draw(st.sampled_from([np.float32, np.float64])))
    place, size = data.draw(st.integers(10, 19)), data.draw(st.integers(1, 6))
    image[place] = special
    reached = {
        "uniform": (ndimage.uniform_filter1d(image, size), range(place - (size - 1) // 2, place + size // 2 + 1)),
        "gaussian": (ndimage.gaussian_filter(image, 1.0, radius=3), range(place - 3, place + 4)),
        "sobel": (ndimage.sobel(image), (place - 1, place + 1)),
        "laplace": (ndimage.laplace(image), (place - 1, place, place + 1)),
    }
    for name, (result, expected) in reached.items():
        assert np.flatnonzero(~np.isfinite(result)).tolist() == list(expected), name
