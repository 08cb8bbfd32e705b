"""What is particular to one filter: how it is built, and what it refuses."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from convolume.boundary import BoundaryMode
from convolume.errors import InputError
from convolume.filters import make_filter
from convolume.filters._gaussian_weights import gaussian_weights
from convolume.operations import Correlate, Sequence
from convolume.testing.evaluation import evaluate_whole
from convolume.testing.filters import context_of
from convolume.testing.strategies import boundary_modes, cvals, images, origin_at, shapes


@given(st.floats(0.05, 6), st.integers(0, 4), st.integers(0, 12))
def test_gaussian_weights_are_scipys(sigma: float, order: int, radius: int) -> None:
    """The answer to an impulse is the weights, mirrored.

    scipy takes odd weights below 2e-16 for even ones: they are compared as what they are beside 1.
    """
    operation = make_filter("gaussian", sigma=sigma, order=order, radius=radius).operation(context_of(1))
    assert isinstance(operation, Sequence)
    impulse = np.zeros(2 * radius + 1)
    impulse[radius] = 1
    expected = ndimage.gaussian_filter1d(impulse, sigma, order=order, radius=radius, mode="constant")
    (step,) = operation.operations
    assert isinstance(step, Correlate)
    np.testing.assert_allclose(
        step.stencil.weights[::-1], expected, rtol=1e-9, atol=1e-15 + 1e-12 * np.abs(expected).max()
    )


@given(st.data())
def test_a_mean_is_scipys_uniform_filter(data: st.DataObject) -> None:
    """On whole numbers, where its running sums are exact."""
    shape = data.draw(shapes())
    sizes = [data.draw(st.integers(1, 7)) for _ in shape]
    origins = [data.draw(origin_at(size)) for size in sizes]
    mode, cval = data.draw(boundary_modes()), data.draw(cvals())
    image = data.draw(images(shape, exact=True, dtype=np.float64))
    step = make_filter("box", size=sizes, origin=origins, mode=mode, cval=cval)
    expected = ndimage.uniform_filter(image, sizes, mode=str(mode), cval=cval, origin=origins)
    context = context_of(len(shape))
    np.testing.assert_allclose(evaluate_whole(step.operation(context), image), expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(step.reference(image, context), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", list(BoundaryMode))
def test_a_sum_is_the_mean_of_as_many_voxels(mode: BoundaryMode) -> None:
    """Beyond the faces, too: what stands there is summed as often as it is averaged."""
    image = np.random.default_rng(1).integers(-9, 9, (4, 3, 5)).astype(np.float64)
    mean, total = (
        evaluate_whole(
            make_filter("box", size=[2, 5, 4], statistic=name, cval=3.0).operation(context_of(3, mode=mode)), image
        )
        for name in ("mean", "sum")
    )
    np.testing.assert_allclose(mean * 40, total, rtol=0, atol=1e-12)


def test_separable_filters_go_axis_by_axis_and_dense_ones_at_once() -> None:
    """In scipy's order; what would do nothing is left out."""
    context = context_of(5)
    assert [step_shape(step) for step in steps("gaussian", sigma=[1, 0, 0.5], radius=1)] == [
        (1, 1, 3, 1, 1), (1, 1, 1, 1, 3),
    ]  # fmt: skip
    assert [step_shape(step) for step in steps("box", size=[1, 2, 3])] == [(1, 1, 1, 2, 1), (1, 1, 1, 1, 3)]
    assert [step_shape(step) for step in steps("sobel", axis="y")] == [
        (1, 1, 1, 3, 1), (1, 1, 3, 1, 1), (1, 1, 1, 1, 3),
    ]  # fmt: skip
    for name, parameters in (("laplace", {}), ("convolve", {"kernel": {"gaussian": {"sigma": 1}}})):
        operation = make_filter(name, **parameters).operation(context)
        assert isinstance(operation, Correlate)


def steps(name: str, **parameters: Any) -> list[Correlate]:
    """Return the passes of a filter over an image of (t, c, z, y, x)."""
    operation = make_filter(name, **parameters).operation(context_of(5))
    assert isinstance(operation, Sequence)
    return [step for step in operation.operations if isinstance(step, Correlate)]


def step_shape(step: Correlate) -> tuple[int, ...]:
    """Return the extents of a pass."""
    return step.stencil.shape


def test_lengths_become_voxels_by_the_voxel_size_of_each_axis() -> None:
    """Voxels of 2, 1 and 0.5 micrometres."""
    context = context_of(3)
    length, voxels = (make_filter("gaussian", sigma=sigma) for sigma in ("1 um", [0.5, 1, 2]))
    assert length.operation(context) == voxels.operation(context)
    with pytest.raises(InputError, match="1 um needs the voxel size, which this image does not tell"):
        length.operation(replace(context, spacing_um=(None, 1.0, 1.0)))


def test_a_step_keeps_its_own_boundary() -> None:
    """And takes the workflow's where it has none."""
    context = context_of(1, mode=BoundaryMode.WRAP, cval=4.0)
    step = make_filter("laplace").operation(context)
    assert isinstance(step, Correlate)
    assert (step.modes, step.cval) == ((BoundaryMode.WRAP,), 4.0)
    own = make_filter("laplace", mode="constant", cval=0).operation(context)
    assert isinstance(own, Correlate)
    assert (own.modes, own.cval) == ((BoundaryMode.CONSTANT,), 0.0)


@given(st.floats(0.05, 6), st.integers(0, 5), st.integers(0, 40))
def test_gaussian_weights_are_scipys_to_the_bit(sigma: float, order: int, radius: int) -> None:
    """They decide where whole numbers are cut off; an impulse on the far side is not touched by scipy's pairs."""
    weights = gaussian_weights(sigma, radius, order)
    size = 2 * radius + 1
    answers = [
        ndimage.gaussian_filter1d(np.eye(1, size, place)[0], sigma, order=order, radius=radius, mode="constant")[radius]
        for place in range(radius + 1)
    ]
    # scipy takes odd weights below 2e-16 for even ones, and weighs the first half: that half is compared.
    np.testing.assert_array_equal(weights[: radius + 1], answers)


def test_sharpening_adds_what_a_gaussian_takes_away() -> None:
    """Nothing where nothing is asked, the Gaussian itself where all of it is taken away."""
    context = context_of(2, cval=3.0, mode=BoundaryMode.CONSTANT)
    image = np.random.default_rng(3).normal(size=(6, 7))
    smooth = evaluate_whole(make_filter("gaussian", sigma=1).operation(context), image)
    for amount in (0.0, -1.0, 2.0):
        sharp = evaluate_whole(make_filter("unsharp_mask", sigma=1, amount=amount).operation(context), image)
        np.testing.assert_allclose(sharp, image + amount * (image - smooth), rtol=0, atol=1e-14)


def test_the_wide_gaussian_is_wider_by_its_ratio() -> None:
    """One length or one an axis."""
    context = context_of(3)
    for low, high in ((2, 3.2), ("2 um", "3.2 um"), ([1, 2, 3], [1.6, 3.2, 1.6 * 3])):
        short, whole = (
            make_filter("difference_of_gaussians", low_sigma=low, **named) for named in ({}, {"high_sigma": high})
        )
        assert short.operation(context) == whole.operation(context)


def test_a_mean_of_a_ball_keeps_constants_and_is_round() -> None:
    """Its weights add up to 1 and are the same along every axis; voxel sizes make it an ellipsoid of voxels."""
    context = context_of(3)
    step = make_filter("mean_ball", radius=2).operation(context)
    assert isinstance(step, Correlate)
    weights = step.stencil.weights
    assert weights.shape == (5, 5, 5)
    np.testing.assert_allclose(weights.sum(), 1)
    np.testing.assert_array_equal(weights, weights.transpose(2, 0, 1))
    assert np.count_nonzero(weights) == 33
    ellipsoid = make_filter("mean_ball", radius="2 um").operation(context)
    assert isinstance(ellipsoid, Correlate)
    assert ellipsoid.stencil.shape == (3, 5, 9)


def test_a_slope_has_its_own_weight_in_each_filter_of_differences() -> None:
    """Twice the slope, as often as the weights along the other axes add up to."""
    context = context_of(3)
    ramp = np.broadcast_to(np.arange(7.0), (5, 6, 7))
    for name, weight in (("prewitt", 3), ("sobel", 4), ("scharr", 16)):
        along, across = (evaluate_whole(make_filter(name, axis=axis).operation(context), ramp) for axis in ("x", "y"))
        np.testing.assert_array_equal(along[..., 1:-1], 2 * weight**2)
        np.testing.assert_array_equal(across, 0)


def test_the_gradient_of_a_ramp_is_its_slope() -> None:
    """Along any direction, far from the faces."""
    z, y, x = np.ogrid[:9, :9, :9]
    ramp = 2.0 * z - 3.0 * y + 6.0 * x
    step = make_filter("gradient_magnitude", sigma=0.9)
    np.testing.assert_allclose(evaluate_whole(step.operation(context_of(3)), ramp)[4, 4, 4], 7.0, rtol=2e-3)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("gaussian", {}, "gaussian: the parameter 'sigma' is needed"),
        ("gaussian", {"sigma": -1}, "gaussian: sigma: -1 is not a length that a filter can have: it is at least 0"),
        ("gaussian", {"sigma": 1, "order": -1}, "gaussian: order: -1 is too small: it is at least 0"),
        ("gaussian", {"sigma": 1, "radius": 1.5}, "gaussian: radius: 1.5 is not a whole number"),
        ("gaussian", {"sigma": 1, "truncate": "4"}, "gaussian: truncate: Input should be a valid number"),
        (
            "gaussian",
            {"sigma": 1, "truncat": 4},
            "gaussian: there is no parameter 'truncat'; did you mean 'truncate'? (there are: mode, cval, sigma, ",
        ),
        (
            "box",
            {"size": 0, "origin": True},
            "box: size: 0 is too small: it is at least 1; origin: True is not a whole",
        ),
        ("box", {"statistic": "median"}, "box: statistic: Input should be 'mean' or 'sum'"),
        ("sobel", {"axis": [0, 1]}, "sobel: axis: [0, 1] is not one axis: write its name or its position"),
        (
            "laplace",
            {"mode": "mirrored"},
            "laplace: mode: Input should be 'reflect', 'grid-mirror', 'mirror', 'nearest'",
        ),
        ("correlate", {"kernel": [1], "normalize": "yes"}, "correlate: normalize: Input should be a valid boolean"),
    ],
)
def test_wrong_parameters_are_told_all_at_once(name: str, parameters: dict[str, Any], message: str) -> None:
    """Each with its name, before any image is opened."""
    with pytest.raises(InputError, match=re.escape(message)):
        make_filter(name, **parameters)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        (
            "gaussian",
            {"sigma": [1, 2]},
            "sigma has 2 entries and the filter works on 3 axes (z, y, x): give one number for all, or one an axis",
        ),
        ("box", {"size": [3]}, "size has 1 entries and the filter works on 3 axes (z, y, x)"),
        ("box", {"origin": 2}, "origin 2 on the kernel's axis 0 is out of range: a size of 3 allows -1 to 1"),
        ("box", {"size": [1, 3, 3], "origin": [1, 0, 0]}, "out of range: a size of 1 allows 0 to 0"),
        ("sobel", {"axis": "w"}, "axis 'w' is not filtered: the filter works on 3 axes (z, y, x)"),
        ("sobel", {"axis": 3}, "axis 3 is out of range: the filter works on 3 axes (z, y, x)"),
        ("convolve", {"kernel": [1, 2, 3], "origin": [0, 1]}, "origin [0, 1] has 2 entries for a kernel of 1 axes"),
    ],
)
def test_parameters_that_do_not_fit_the_image_are_refused(name: str, parameters: dict[str, Any], message: str) -> None:
    """With the axes that are filtered."""
    with pytest.raises(InputError, match=re.escape(message)):
        make_filter(name, **parameters).operation(context_of(3))
