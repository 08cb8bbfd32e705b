"""The filters of `convolume.ndimage` that go along lines are scipy.ndimage's, to the digit or within rounding."""

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import ndimage as truth

from convolume import ndimage
from convolume.errors import InputError
from convolume.ndimage._weighing import Terms, Weighing
from convolume.testing.evaluation import rounding_bound
from convolume.testing.strategies import block_shapes, boundary_modes, origin_at, shapes

if TYPE_CHECKING:
    from convolume.operations import Operation

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]
FLOATS = ["float32", "float64"]
COMPLEX = ["complex64", "complex128"]
LINES = ["convolve1d", "correlate1d", "gaussian_filter1d", "uniform_filter1d"]
NAMES = sorted(set(ndimage.__all__) - {"convolve", "correlate"})

sigmas = st.one_of(st.sampled_from([0.3, 0.5, 1, 1.5, 2]), st.floats(0.2, 3))


def settings(examples: int) -> hypothesis_settings:
    """Draw so many; a first call compiles, so none is timed."""
    slow = [HealthCheck.too_slow, HealthCheck.differing_executors]
    return hypothesis_settings(max_examples=examples, deadline=None, suppress_health_check=slow)


class Case(NamedTuple):
    """One call: an image, what else goes by place, and what goes by name."""

    name: str
    image: npt.NDArray[Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def expected(self, image: Any = None, **changes: Any) -> npt.NDArray[Any]:
        """Return scipy's answer."""
        image = self.image if image is None else image
        with np.errstate(all="ignore"):
            result: npt.NDArray[Any] = getattr(truth, self.name)(image, *self.arguments, **self.options | changes)
        return result

    def actual(self, image: Any = None, **changes: Any) -> Any:
        """Return ours."""
        image = self.image if image is None else image
        return getattr(ndimage, self.name)(image, *self.arguments, **self.options | changes)

    def bound(self, dtype: np.dtype[Any]) -> npt.NDArray[np.float64]:
        """Return how far sums in `dtype` may lie from scipy's in float64, real and imaginary parts together."""
        made: list[tuple[Operation, npt.NDArray[Any]]] = []

        def note(weighing: Weighing, image: Any, _: Any, cval: float, __: Any = None) -> Any:
            made.append((weighing.build(Terms(cval, exact=False)), image))
            return np.zeros(image.shape, np.float64)

        with patch.object(Weighing, "apply_to_real", note):
            self.actual()
        # In scipy itself: running sums carry along their line what they round, weights that nearly agree are the same.
        largest = float(np.abs(self.image.astype(np.complex128)).max()) + abs(self.options["cval"])
        running = (
            40
            * float(np.finfo(np.float64).eps)
            * largest
            * ("uniform" in self.name or self.name in {"convolve1d", "correlate1d"})
        )
        bounds = [rounding_bound(operation, np.asarray(part, np.float64), dtype) for operation, part in made]
        return np.asarray(2 * sum(bounds) + running)


@st.composite
def cases(draw: st.DrawFn, sources: list[str], targets: list[str]) -> Case:
    """Draw any filter with all that can be said of it."""
    name = draw(st.sampled_from(NAMES))
    shape = draw(shapes(max_dims=4, max_side=8))
    ndim = len(shape)
    target = draw(st.one_of(st.none(), st.sampled_from(targets).map(np.dtype))) if targets else None
    options: dict[str, Any] = {"cval": draw(st.sampled_from([0, 3, -2, 0.1, 300.5]))}
    if target is not None:
        options["output"] = target
    source = np.dtype(draw(st.sampled_from(targets if targets and target is None else sources)))
    count = ndim
    if name in {*LINES, "prewitt", "sobel"}:
        options["axis"] = draw(st.integers(-ndim, ndim - 1))
    elif draw(st.booleans()):
        options["axes"] = draw(st.permutations(range(ndim)))[: draw(st.integers(0, ndim))]
        count = len(options["axes"])
    a_mode = boundary_modes().map(str)
    options["mode"] = draw(a_mode if name in LINES else st.one_of(a_mode, several(a_mode, count)))
    arguments = draw(parameters(name, ndim, count, options))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Case(name, voxels(generator, shape, source), arguments, options)


@st.composite
def parameters(draw: st.DrawFn, name: str, ndim: int, count: int, options: dict[str, Any]) -> tuple[Any, ...]:
    """Draw what is particular to one filter: what goes by place is returned, what goes by name is added."""
    if name in {"convolve1d", "correlate1d"}:
        weights = draw(line_weights())
        options["origin"] = draw(origin_at(len(weights)))
        return (weights,)
    if name == "uniform_filter1d":
        size = draw(st.integers(1, 9))
        options["origin"] = draw(origin_at(size))
        return (size,)
    if name == "uniform_filter":
        sizes = draw(several(st.integers(1, 7), count))
        options["origin"] = draw(st.one_of(st.just(0), st.tuples(*map(origin_at, sizes))))
        return (sizes,)
    if not name.startswith("gaussian"):
        return ()
    if name == "gaussian_filter1d":
        options |= {"order": draw(st.integers(0, 3)), "radius": draw(st.sampled_from([None, 0, 3]))}
        return (draw(sigmas),)
    if name == "gaussian_filter":
        orders = st.integers(0, 3)
        options["order"] = draw(st.one_of(orders, several(orders, count)))
        options["radius"] = draw(st.one_of(st.none(), several(st.integers(0, 4), count)))
    options["truncate"] = draw(st.sampled_from([4.0, 2.5]))
    count = ndim if "magnitude" in name else count
    return (draw(st.one_of(sigmas, several(st.one_of(sigmas, st.just(0)), count))),)


@st.composite
def line_weights(draw: st.DrawFn) -> npt.NDArray[np.float64]:
    """Draw weights: any, the same from both ends, the same but for their sign, or nearly so."""
    size, seed = draw(st.integers(1, 9)), draw(st.integers(0, 2**32 - 1))
    weights = np.random.default_rng(seed).normal(size=size) * draw(st.sampled_from([1, 1, 1e-17]))
    weights = weights + draw(st.sampled_from([0, 1, -1])) * weights[::-1]
    return np.asarray(np.rint(weights) if draw(st.booleans()) else weights)


def several(entries: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[list[Any]]:
    """Draw one entry for each of so many axes."""
    return st.lists(entries, min_size=count, max_size=count)


def voxels(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an image of any dtype; integers small, or anywhere up to their limits."""
    if dtype.kind == "b":
        return generator.random(shape) < 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        wide = generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        return wide if generator.random() < 0.5 else generator.integers(0, 99, shape).astype(dtype)
    real = generator.normal(size=shape) * 60
    return (real + 1j * generator.normal(size=shape) if dtype.kind == "c" else real).astype(dtype)


def as_numbers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array in which booleans are true or false: scipy leaves bytes such as 3 in them."""
    return array.view(np.uint8) != 0 if array.dtype == np.bool_ else array


@settings(600)
@given(cases([*INTEGERS, *FLOATS], INTEGERS))
def test_integer_results_are_scipys_to_the_digit(case: Case) -> None:
    """Passes cut off in between, sums in scipy's order, running sums of numbers that float64 cannot hold."""
    expected = case.expected()
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(as_numbers(case.actual()), as_numbers(expected), strict=True)


@settings(250)
@given(cases([*INTEGERS, *FLOATS], FLOATS))
def test_float_results_are_scipys_within_rounding(case: Case) -> None:
    """Within γₙ·(|w| * |x|) of scipy's result in float64."""
    case = case._replace(options={"output": case.image.dtype, **case.options})
    expected = case.expected(case.image.astype(np.float64), output=np.float64)
    actual = case.actual()
    assert (actual.shape, actual.dtype) == (expected.shape, case.options["output"])
    assert not np.any(np.abs(actual - expected) > case.bound(actual.dtype)), (actual, expected)


@settings(120)
@given(cases(COMPLEX, COMPLEX))
def test_complex_results_are_scipys_within_rounding(case: Case) -> None:
    """Part by part; the gradient's magnitude is the complex root of the sum of squares."""
    case = case._replace(options={**case.options, "output": np.dtype(case.image.dtype)})
    expected, actual = case.expected(case.image.astype(np.complex128), output=np.complex128), case.actual()
    assert (actual.shape, actual.dtype) == (expected.shape, case.image.dtype)
    if case.name == "gaussian_gradient_magnitude":
        tolerance = 1e-3 if actual.dtype == np.complex64 else 1e-9
        scale = (np.abs(expected).max() + np.abs(case.image).max() + 301) ** 2
        np.testing.assert_allclose(actual.astype(np.complex128) ** 2, expected**2, rtol=0, atol=tolerance * scale)
    else:
        bound = case.bound(actual.real.dtype)
        assert not np.any(np.abs(actual - expected) > bound), (actual, expected)


@settings(150)
@given(cases([*INTEGERS, *FLOATS, "complex64"], []), st.data())
def test_dask_arrays_give_the_same_bits(case: Case, data: st.DataObject) -> None:
    """Of any chunks, and nothing is computed before it is asked for."""
    lazily = case.actual(da.from_array(case.image, chunks=data.draw(block_shapes(case.image.shape))))
    expected = case.actual()
    assert isinstance(lazily, da.Array)
    assert (lazily.shape, lazily.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(lazily.compute(scheduler="synchronous"), expected)


@settings(100)
@given(cases([*INTEGERS, *FLOATS], []), st.data())
def test_arrays_of_any_layout_are_taken_and_given(case: Case, data: st.DataObject) -> None:
    """Strides, byte orders, read-only images, and outputs that share memory with the image."""
    expected, image = case.actual(), case.image
    read_only = image.copy()
    read_only.flags.writeable = False
    strided, backwards = np.repeat(image, 2, axis=-1)[..., ::2], np.ascontiguousarray(image[::-1])[::-1]
    swapped = image.astype(image.dtype.newbyteorder())
    layout = data.draw(st.sampled_from([np.asfortranarray(image), strided, backwards, swapped, read_only]))
    np.testing.assert_array_equal(case.actual(layout), expected, strict=True)
    own = image.copy()
    output = data.draw(st.sampled_from([own, np.zeros_like(image, order="F"), np.zeros_like(swapped), strided]))
    assert case.actual(own, output=output) is output
    np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_signature_is_scipys(name: str) -> None:
    """Names, places and defaults."""
    ours, theirs = (inspect.signature(getattr(module, name)).parameters.values() for module in (ndimage, truth))
    assert [(each.name, each.kind, each.default) for each in ours] == [
        (each.name, each.kind, each.default) for each in theirs
    ]


def test_every_linear_filter_of_scipy_is_here() -> None:
    """Those of a fixed formula; the generic ones take functions."""
    linear = ("convolve", "correlate", "gaussian", "uniform", "laplace", "prewitt", "sobel")
    assert {name for name in truth.__all__ if name.startswith(linear)} == set(ndimage.__all__)


def arguments_of(name: str) -> tuple[Any, ...]:
    """Return what a filter needs beside its image."""
    if name in {"convolve1d", "correlate1d"}:
        return ([1.0, 2.0, 1.0],)
    return (3,) if name == "uniform_filter1d" else (1.0,) if name.startswith("gaussian") else ()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "complex64", "bool"])
def test_images_without_voxels_stay_so(name: str, shape: tuple[int, ...], dtype: str) -> None:
    """NumPy and dask."""
    image, arguments = np.zeros(shape, dtype), arguments_of(name)
    expected = getattr(truth, name)(image, *arguments)
    for each in (image, da.from_array(image, chunks=-1)):
        np.testing.assert_array_equal(np.asarray(getattr(ndimage, name)(each, *arguments)), expected, strict=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image", [7.5, np.array(7, np.uint8), np.array(2 + 3j), np.array(True)])  # noqa: FBT003 - a voxel
def test_numbers_are_images_without_axes(name: str, image: Any) -> None:
    """They stay as they are, or are refused where an axis is needed, as by scipy."""
    arguments = arguments_of(name)
    try:
        expected = getattr(truth, name)(image, *arguments)
    except ValueError:
        with pytest.raises(InputError, match="axis -1 is none of the image's 0 axes"):
            getattr(ndimage, name)(image, *arguments)
        return
    for each in (image, da.from_array(np.asarray(image), chunks=-1)):
        np.testing.assert_array_equal(np.asarray(getattr(ndimage, name)(each, *arguments)), expected, strict=True)


IMAGE = np.arange(12.0).reshape(3, 4)

REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("gaussian_filter", ([1, 2, 3],), {}, "sigma has 3 entries for 2 axes: give one for all, or one an axis"),
    ("gaussian_filter", (1,), {"mode": ["reflect"]}, "mode has 1 entries for 2 axes"),
    ("gaussian_filter", (1,), {"mode": "reflekt"}, "there is no boundary mode 'reflekt'; did you mean 'reflect'?"),
    ("gaussian_filter", (1,), {"order": -1}, "sigma 1, order -1 and radius 4 make no Gaussian"),
    ("gaussian_filter", (1,), {"radius": -1}, "sigma 1, order 0 and radius -1 make no Gaussian"),
    ("gaussian_filter", (1,), {"axes": (0, 0)}, r"axes \[0, 0\]: each is one of the image's 2 axes"),
    ("gaussian_filter", (1,), {"output": np.complex64}, "a real result needs no output of complex64"),
    ("gaussian_filter1d", (0,), {}, "sigma 0, order 0 and radius 0 make no Gaussian: sigma is above 0"),
    ("gaussian_filter1d", (1,), {"axis": 2}, "axis 2 is none of the image's 2 axes"),
    ("gaussian_laplace", ([1, 2],), {"axes": 0}, "sigma has 2 entries for 1 axes"),
    ("gaussian_gradient_magnitude", ([1],), {"axes": 0}, "sigma has 1 entries for 2 axes"),
    ("uniform_filter", ([3],), {}, "size has 1 entries for 2 axes"),
    ("uniform_filter", (3,), {"origin": 2}, "origin 2 on axis 0 is out of range: a size of 3 allows -1 to 1"),
    ("uniform_filter1d", (0,), {}, "size 0 is too small: it is at least 1"),
    ("uniform_filter1d", (4,), {"origin": 2}, "origin 2 on axis 1 is out of range: a size of 4 allows -2 to 1"),
    ("laplace", (), {"mode": ["wrap"] * 3}, "mode has 3 entries for 2 axes"),
    ("sobel", (), {"axis": -3}, "axis -3 is none of the image's 2 axes"),
    ("prewitt", (), {"output": np.zeros(3)}, r"output has shape \(3,\), and the image has \(3, 4\)"),
    ("correlate1d", ([[1, 2]],), {}, "the kernel has 2 axes, and one axis of the image is filtered"),
    ("correlate1d", ([],), {}, "it needs at least one axis and one weight"),
    ("convolve1d", ([1, 2, 3],), {"origin": 2}, "origin -2 on the kernel's axis 0 is out of range"),
    ("correlate1d", ([1, 2],), {"cval": 1j}, "a complex cval stands for complex images only"),
]


@pytest.mark.parametrize(("name", "arguments", "options", "message"), REFUSED)
def test_what_scipy_refuses_is_refused(
    name: str, arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    """As an `InputError`, which is a `ValueError`, with what is wrong in it."""
    with pytest.raises((RuntimeError, ValueError, TypeError, ZeroDivisionError)):
        getattr(truth, name)(IMAGE, *arguments, **options)
    with pytest.raises(InputError, match=message):
        getattr(ndimage, name)(IMAGE, *arguments, **options)


@pytest.mark.parametrize("name", ["gaussian_filter", "laplace", "sobel", "prewitt", "gaussian_laplace"])
def test_complex_results_need_an_output_that_holds_them(name: str) -> None:
    """These filters promote no dtype."""
    with pytest.raises(RuntimeError, match="output must have complex dtype"):
        getattr(truth, name)(IMAGE + 1j, *arguments_of(name), output=np.float64)
    with pytest.raises(InputError, match="a complex result does not fit into an output of float64"):
        getattr(ndimage, name)(IMAGE + 1j, *arguments_of(name), output=np.float64)


def test_an_unknown_keyword_is_refused() -> None:
    """Extra keywords are those of a Gaussian."""
    for function in (ndimage.gaussian_laplace, ndimage.gaussian_gradient_magnitude):
        with pytest.raises(TypeError, match="truncat"):
            function(IMAGE, 1.0, truncat=3.0)
