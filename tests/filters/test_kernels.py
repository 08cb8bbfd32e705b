"""The `kernel` parameter: every way to write one gives the weights that were meant, or a clear refusal."""

import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.errors import InputError
from convolume.filters import FilterContext, make_filter
from convolume.operations import Correlate
from convolume.testing.filters import context_of
from convolume.testing.strategies import kernels


def weights_of(kernel: Any, ndim: int = 3, *, normalize: bool = False, **changes: Any) -> np.ndarray:
    """Return the weights that a device gets for a kernel, over all axes of the image."""
    step = make_filter("correlate", kernel=kernel, normalize=normalize)
    operation = step.operation(context_of(ndim, **changes))
    assert isinstance(operation, Correlate)
    return operation.stencil.weights


@given(st.integers(1, 3).flatmap(kernels))
def test_lists_arrays_and_what_is_written_are_the_same(kernel: np.ndarray) -> None:
    """Of any layout in memory; equal kernels are equal filters."""
    step = make_filter("convolve", kernel=kernel)
    for other in (kernel.tolist(), np.asfortranarray(kernel), step.model_dump(mode="json")["kernel"]):
        assert make_filter("convolve", kernel=other) == step
    assert pickle.loads(pickle.dumps(step)) == step  # noqa: S301 (just pickled)
    assert np.array_equal(weights_of(kernel)[(0,) * (3 - kernel.ndim)], kernel)


def test_a_later_change_of_the_array_does_not_change_the_filter() -> None:
    """The weights are copied."""
    kernel = np.ones(3)
    step = make_filter("convolve", kernel=kernel)
    kernel[:] = 7
    assert step == make_filter("convolve", kernel=[1, 1, 1])


def test_whole_weights_are_written_whole() -> None:
    """As the user wrote them."""
    assert str(make_filter("convolve", kernel=[[0, 1, 0]]).model_dump()["kernel"]) == "[[0, 1, 0]]"
    assert str(make_filter("convolve", kernel=[[0, 0.5, 0]]).model_dump()["kernel"]) == "[[0.0, 0.5, 0.0]]"


@given(st.tuples(*[st.floats(0, 4)] * 3))
def test_a_ball_holds_the_voxels_within_its_radii(radii: tuple[float, float, float]) -> None:
    """Voxel by voxel; a radius below 1 leaves an axis flat."""
    weights = weights_of({"ball": list(radii)})
    centre = [n // 2 for n in weights.shape]
    assert weights.shape == tuple(2 * int(radius + 1e-9) + 1 for radius in radii)
    for place in np.ndindex(weights.shape):
        offsets = [i - c for i, c in zip(place, centre, strict=True)]
        inside = sum((o / r) ** 2 for o, r in zip(offsets, radii, strict=True) if o) <= 1 + 1e-9
        assert weights[place] == inside


def test_lengths_follow_the_voxel_size() -> None:
    """Voxels of 2, 1 and 0.5 micrometres make an ellipsoid of a ball."""
    assert np.array_equal(weights_of({"ball": "2 um"}), weights_of({"ball": [1, 2, 4]}))
    assert np.array_equal(weights_of({"ball": ["2 um", 3]}), weights_of({"ball": [0, 2, 3]}))
    sigmas = {"gaussian": {"sigma": "1 um", "truncate": 3}}
    assert np.array_equal(weights_of(sigmas), weights_of({"gaussian": {"sigma": [0.5, 1, 2], "truncate": 3}}))


def test_boxes_and_gaussians() -> None:
    """A box is ones; a Gaussian adds up to 1 and lies over the last axes where it has fewer."""
    assert np.array_equal(weights_of({"box": [1, 5, 4]}), np.ones((1, 5, 4)))
    assert np.array_equal(weights_of({"box": 2}), np.ones((2, 2, 2)))
    gaussian = weights_of({"gaussian": {"sigma": [1.0, 2.0]}})
    assert gaussian.shape == (1, 9, 17)
    assert gaussian.sum() == pytest.approx(1)
    assert weights_of({"gaussian": {"sigma": [0, 0, 0]}}).tolist() == [[[1.0]]]


@given(st.integers(1, 3).flatmap(kernels))
def test_normalised_weights_add_up_to_one(kernel: np.ndarray) -> None:
    """Or are refused, where there is nothing to divide by."""
    if abs(kernel.sum()) <= 1e-12 * np.abs(kernel).sum():
        with pytest.raises(InputError, match="add up to 0, so it cannot be normalised"):
            weights_of(kernel, normalize=True)
    else:
        assert weights_of(kernel, normalize=True) * kernel.sum() == pytest.approx(
            np.atleast_3d(kernel).reshape((1,) * (3 - kernel.ndim) + kernel.shape)
        )


def test_a_file_is_read_when_the_image_is_known() -> None:
    """And is written as its path."""
    asked = []

    def read_array(path: str) -> np.ndarray:
        asked.append(path)
        return np.array([[1, 2, 3]], dtype=np.uint8)

    step = make_filter("convolve", kernel="~/psf.npy")
    assert asked == []
    assert step.model_dump(exclude_defaults=True) == {"kernel": "~/psf.npy"}
    same = make_filter("convolve", kernel=[[1, 2, 3]]).operation(context_of(3))
    assert step.operation(context_of(3, read_array=read_array)) == same
    assert asked == ["~/psf.npy"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((1, 1, 2, 2)), "the kernel has 4 axes (shape (1, 1, 2, 2)) and the filter works on 3 axes (z, y, x)"),
        (np.array([1j]), "kernel file psf.npy: the kernel is complex"),
        (np.array([np.inf]), "kernel file psf.npy: the kernel's weight at (0,) is inf: weights must be finite"),
    ],
)
def test_a_file_that_holds_no_kernel_is_refused(array: np.ndarray, message: str) -> None:
    """With its name."""
    with pytest.raises(InputError, match=re.escape(message)):
        weights_of("psf.npy", read_array=lambda _: array)


def test_a_file_needs_a_reader() -> None:
    """Filters open no files."""
    with pytest.raises(InputError, match=re.escape("the kernel file psf.npy cannot be read here: give the weights")):
        weights_of("psf.npy")


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ([[1, 2], [3]], "convolve: kernel: the kernel's rows differ in length: every row of an axis needs as many"),
        ([], "convolve: kernel: the kernel has shape (0,): it needs at least one axis and one weight"),
        ([1j], "convolve: kernel: the kernel is complex: give real weights"),
        ([1.0, float("nan")], "convolve: kernel: the kernel's weight at (1,) is nan: weights must be finite"),
        ([["1", "2"]], "convolve: kernel: the kernel is not made of numbers: '1' is one of its weights"),
        ([None], "convolve: kernel: the kernel is not made of numbers: None is one of its weights"),
        ([10**30, 10**400], "int too large to convert to float"),
        ({"bal": 3}, "there is no kernel shape 'bal'; did you mean 'ball'? (there are: ball, box, gaussian)"),
        (
            {"ball": 3, "box": 3},
            "the shape of a kernel has one entry (ball, box, gaussian), this one has ['ball', 'box']",
        ),
        ({"ball": -1}, "-1 is not a length that a filter can have: it is at least 0"),
        ({"ball": "3 parsec"}, "the unit 'parsec' is not known"),
        ({"box": [3, 0]}, "0 is too small: it is at least 1"),
        ({"box": 2.5}, "2.5 is not a whole number"),
        ({"gaussian": 2}, "2 is no Gaussian kernel: write {sigma: 1.5} or {sigma: 1.5, truncate: 4}"),
        ({"gaussian": {"sigma": 1, "truncate": -1}}, "truncate: -1 is not a number of sigmas: it is at least 0"),
    ],
)
def test_what_is_no_kernel_is_refused_when_it_is_written(kernel: Any, message: str) -> None:
    """Before any image is opened."""
    with pytest.raises(InputError, match=re.escape(message)):
        make_filter("convolve", kernel=kernel)


def test_a_kernel_with_more_axes_than_are_filtered_is_refused() -> None:
    """Channels and time points are no axes of a kernel."""
    message = "the kernel has 2 axes (shape (1, 3)) and the filter works on 1 axis (x): give a kernel with 1 or fewer"
    context = FilterContext(ndim=3, axes=(2,), spacing_um=(None,))
    with pytest.raises(InputError, match=re.escape(message)):
        make_filter("convolve", kernel=[[1, 2, 3]]).operation(context)
