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
    along = [(1, 1, 3, 1, 1), (1, 1, 1, 3, 1), (1, 1, 1, 1, 3)]
    assert [step_shape(step) for step in steps("sobel", axis="y")] == along
    # Where a constant stands beyond the faces, what is done first tells.
    constant = [step_shape(step) for step in steps("sobel", axis="y", mode="constant", cval=2.0)]
    assert constant == [along[1], along[0], along[2]]
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
