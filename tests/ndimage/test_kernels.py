"""`convolume.ndimage` is scipy.ndimage, to the digit or within rounding, whatever goes in."""

from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import ndimage as truth

import convolume
from convolume import ndimage
from convolume.devices.numpy import NumpyDevice
from convolume.errors import InputError
from convolume.records import MethodSpeeds
from convolume.testing.evaluation import scipy_is_sound
from convolume.testing.strategies import block_shapes, boundary_modes, origins, shapes

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
REALS = [*INTEGERS, "bool", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]

names = st.sampled_from(["convolve", "correlate"])


def settings(examples: int) -> hypothesis_settings:
    """Draw so many; a first call compiles, so none is timed."""
    slow = [HealthCheck.too_slow, HealthCheck.differing_executors]
    return hypothesis_settings(max_examples=examples, deadline=None, suppress_health_check=slow)


class Case(NamedTuple):
    """One call."""

    name: str
    image: npt.NDArray[Any]
    kernel: npt.NDArray[Any]
    options: dict[str, Any]

    def expected(self, **changes: Any) -> npt.NDArray[Any]:
        """Return scipy's answer."""
        with np.errstate(all="ignore"):
            result: npt.NDArray[Any] = getattr(truth, self.name)(self.image, self.kernel, **self.options | changes)
        return result

    def actual(self, image: Any = None, **changes: Any) -> Any:
        """Return ours."""
        image = self.image if image is None else image
        return getattr(ndimage, self.name)(image, self.kernel, **self.options | changes)

    def bound(self, dtype: npt.DTypeLike) -> npt.NDArray[np.float64]:
        """Return, voxel by voxel, γₙ·(|w| * |x|): how far two correct sums may lie apart."""
        wide = np.abs(self.image.astype(np.complex128))
        options = {**self.options, "cval": abs(self.options.get("cval", 0)), "output": np.float64}
        magnitude = getattr(truth, self.name)(wide, np.abs(self.kernel).astype(np.float64), **options)
        rounding = (2 * self.kernel.size + 8) * float(np.finfo(np.dtype(dtype)).eps)
        return np.asarray(rounding * magnitude + np.finfo(np.dtype(dtype)).tiny)

    def check(self, actual: npt.NDArray[Any]) -> None:
        """Fail where the two differ by more than rounding, or at all on whole numbers."""
        expected = self.expected()
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        if expected.dtype.kind in "fc":
            excess = np.abs(actual.astype(np.complex128) - expected) - self.bound(expected.dtype)
            assert not np.any(excess > 0), (actual, expected)
        else:
            np.testing.assert_array_equal(actual, expected)


@st.composite
def cases(draw: st.DrawFn, dtypes: list[str], *, outputs: bool = True) -> Case:
    """Draw an image of any of these dtypes, a kernel, and everything that can be said of them."""
    shape = draw(shapes(max_dims=4, max_side=9))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    axes = draw(st.one_of(st.none(), st.permutations(range(len(shape)))))
    if axes is not None:
        axes = [axis - draw(st.sampled_from([0, len(shape)])) for axis in axes[: draw(st.integers(1, len(shape)))]]
    places = range(len(shape)) if axes is None else sorted(axis % len(shape) for axis in axes)
    sides = draw(st.lists(st.integers(1, 5), min_size=len(places), max_size=len(places)))
    mode = draw(boundary_modes())
    assume(scipy_is_sound(tuple(shape[axis] for axis in places), tuple(sides), mode))
    # Origins are named beside the axes, in their order.
    shift: Any = draw(st.one_of(st.just(0), origins(tuple(sides))))
    in_order = axes is None or [axis % len(shape) for axis in axes] == list(places)
    assume(in_order or np.ndim(shift) == 0 or len(set(sides)) == 1)
    kernel = generator.normal(size=sides) * (generator.random(sides) < 0.8)
    if dtype.kind == "c":
        kernel = kernel if draw(st.booleans()) else kernel + 1j * generator.normal(size=sides)
    kinds = COMPLEX if dtype.kind == "c" else REALS
    # Of complex64 images with complex weights scipy keeps a part in complex64, whatever the output.
    free = outputs and not (dtype == np.complex64 and kernel.dtype.kind == "c")
    output = draw(st.one_of(st.none(), st.sampled_from(kinds).map(np.dtype))) if free else None
    cval = draw(st.sampled_from([0, 3, -2, 0.1, 300.5]))
    options = {"mode": str(mode), "cval": cval, "origin": shift, "axes": axes, "output": output}
    return Case(draw(names), _voxels(generator, shape, dtype), kernel, options)


def _voxels(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        wide = generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        return np.where(generator.random(shape) < 0.5, wide, generator.integers(0, 99, shape).astype(dtype))
    real = generator.normal(size=shape) * 60
    if dtype.kind == "b":
        return np.asarray(real > 0)
    return (real + 1j * generator.normal(size=shape) if dtype.kind == "c" else real).astype(dtype)


@settings(250)
@given(cases(REALS))
def test_reals_are_scipys(case: Case) -> None:
    """Integer results to the digit, float results within the rounding of their sums."""
    case.check(case.actual())


@settings(80)
@given(cases(COMPLEX))
def test_complex_images_are_scipys(case: Case) -> None:
    """Real and complex kernels; correlate conjugates the kernel."""
    case.check(case.actual())


@settings(60)
@given(cases([*INTEGERS, "bool", "float64"], outputs=False), st.data())
def test_arrays_of_any_layout_are_taken(case: Case, data: st.DataObject) -> None:
    """Fortran order, strides, the other byte order, read-only: the same digits, in this machine's byte order."""
    expected = case.actual()
    image = case.image
    strided = np.repeat(image, 2, axis=-1)[..., ::2]
    backwards = np.ascontiguousarray(image[::-1])[::-1]
    swapped = image.astype(image.dtype.newbyteorder())
    read_only = image.copy()
    read_only.flags.writeable = False
    layout = data.draw(st.sampled_from([np.asfortranarray(image), strided, backwards, swapped, read_only]))
    actual = case.actual(layout)
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype.isnative


@settings(60)
@given(cases(REALS, outputs=False), st.sampled_from(REALS), st.data())
def test_output_takes_the_result(case: Case, dtype: str, data: st.DataObject) -> None:
    """Any strides and byte order, or the input itself; the very array comes back."""
    shape = case.image.shape
    wide = np.full((*shape[:-1], 2 * shape[-1]), 7, dtype)
    swapped = np.zeros(shape, np.dtype(dtype).newbyteorder())
    output = data.draw(st.sampled_from([np.zeros(shape, dtype), np.zeros(shape, dtype, "F"), wide[..., ::2], swapped]))
    assert case.actual(output=output) is output
    np.testing.assert_array_equal(output, case.actual(output=np.dtype(dtype)))
    assert (wide[..., 1::2] == np.dtype(dtype).type(7)).all()


@settings(40)
@given(cases(REALS, outputs=False), st.integers(0, 2))
def test_output_may_share_memory_with_the_input(case: Case, shift: int) -> None:
    """The result is as if it did not."""
    expected = case.actual()
    memory = np.zeros(case.image.size + 2, case.image.dtype)
    image = memory[: case.image.size].reshape(case.image.shape)
    image[...] = case.image
    output = memory[shift : shift + case.image.size].reshape(case.image.shape)
    case.actual(image, output=output)
    np.testing.assert_array_equal(output, expected)


@settings(60)
@given(cases([*REALS, *COMPLEX]), st.data())
def test_dask_arrays_give_the_same_bits(case: Case, data: st.DataObject) -> None:
    """Of any chunks, and nothing is computed before it is asked for."""
    chunks = data.draw(block_shapes(case.image.shape))
    result = case.actual(da.from_array(case.image, chunks=chunks))
    expected = case.actual()
    assert isinstance(result, da.Array)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(result.compute(scheduler="synchronous"), expected)


@settings(30)
@given(st.sampled_from([1.0, -1.0]), st.floats(0.5, 1.5), st.booleans())
@example(1.0, 1.0, True)  # noqa: FBT003 - drawn
def test_weights_of_no_weight_are_left_out(sign: float, factor: float, single: bool) -> None:  # noqa: FBT001 - drawn
    """Those up to C's DBL_EPSILON, as scipy does: they make no NaN of an infinite voxel."""
    weight = sign * factor * np.finfo(np.float64).eps
    image = np.array([np.inf, 1.0, 2.0])
    kernel = np.array([weight, 1.0, 0.0] if not single else [weight])
    np.testing.assert_array_equal(ndimage.correlate(image, kernel), truth.correlate(image, kernel))
    alone = ndimage.correlate(np.array(3.0), np.array(weight))
    np.testing.assert_array_equal(alone, truth.correlate(np.array(3.0), np.array(weight)))


@pytest.mark.parametrize("cval", [np.nan, np.inf, -np.inf, 0.1, 300, -1, 1e30])
@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("mode", ["constant", "grid-constant"])
def test_a_constant_need_not_be_a_voxel(cval: float, dtype: str, mode: str) -> None:
    """It is summed as it is, and not cast to the image's dtype first."""
    image = np.arange(12).reshape(3, 4).astype(dtype)
    with np.errstate(all="ignore"):
        options: Any = {"output": np.float64, "mode": mode, "cval": cval}
        expected = truth.correlate(image, np.ones((2, 3)), **options)
    np.testing.assert_array_equal(ndimage.correlate(image, np.ones((2, 3)), **options), expected)


@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize(
    "image", [3.5, np.array(7, np.uint8), np.array(2 + 3j), [[1, 2], [3, 4]], (1.5, 2.5), [True, False]]
)
def test_numbers_and_lists_are_images(name: str, image: Any) -> None:
    """As scipy has it, down to an image without axes."""
    kernel = np.full((2,) * np.ndim(image), 2.0)
    expected, actual = getattr(truth, name)(image, kernel), getattr(ndimage, name)(image, kernel)
    np.testing.assert_array_equal(actual, expected, strict=True)
    lazily = getattr(ndimage, name)(da.from_array(np.asarray(image), chunks=-1), kernel)
    np.testing.assert_array_equal(lazily.compute(scheduler="synchronous"), expected, strict=True)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex64"])
def test_images_without_voxels_stay_so(shape: tuple[int, ...], dtype: str) -> None:
    """NumPy and dask; errors come all the same."""
    image, kernel = np.zeros(shape, dtype), np.ones((2,) * len(shape))
    for given_image in (image, da.from_array(image, chunks=-1)):
        actual = np.asarray(ndimage.convolve(given_image, kernel))
        np.testing.assert_array_equal(actual, truth.convolve(image, kernel), strict=True)
        with pytest.raises(InputError, match="axes of the image are filtered"):
            ndimage.convolve(given_image, np.ones((2,) * (len(shape) + 1)))


def test_without_axes_every_voxel_is_weighed_alone() -> None:
    """``axes=()`` goes with a kernel without axes."""
    image = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(ndimage.convolve(image, np.array(2.0), axes=()), 2 * image)


def test_chunks_without_voxels_are_no_obstacle() -> None:
    """Dask makes them when it cuts and selects."""
    image = np.arange(20.0).reshape(4, 5)
    lazily = da.from_array(image, chunks=(2, 5)).rechunk(((2, 0, 2), (5,)))
    result = ndimage.convolve(lazily, np.ones((3, 3)), mode="wrap").compute(scheduler="synchronous")
    np.testing.assert_array_equal(result, truth.convolve(image, np.ones((3, 3)), mode="wrap"))


def test_infinite_parts_stay_in_their_part() -> None:
    """An infinite imaginary part makes no NaN of the real one."""
    image = np.array([1, complex(0, np.inf), complex(np.inf, 2), 4, 5])
    for given_image in (image, da.from_array(image, chunks=2)):
        actual = np.asarray(ndimage.convolve(given_image, [1, 2.0]))
        expected = truth.convolve(image, [1, 2.0])
        np.testing.assert_array_equal(actual.real, expected.real)
        np.testing.assert_array_equal(actual.imag, expected.imag)


IMAGE = np.arange(12.0).reshape(3, 4)
BOX = np.ones((3, 3))
FIXED = np.zeros((3, 4))
FIXED.flags.writeable = False

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"mode": "reflekt"}, "there is no boundary mode 'reflekt'; did you mean 'reflect'?"),
    ({"mode": None}, "there is no boundary mode None"),
    ({"weights": np.ones(3)}, "the kernel has 1 axes, and 2 axes of the image are filtered"),
    ({"weights": np.ones((3, 0))}, "it needs at least one axis and one weight"),
    ({"weights": [["a"]]}, "the kernel is not made of numbers"),
    ({"origin": 2}, "origin 2 on the kernel's axis 0 is out of range: a size of 3 allows -1 to 1"),
    ({"origin": [0, 0, 0]}, r"origin \[0, 0, 0\] has 3 entries for a kernel of 2 axes"),
    ({"axes": (0, 0)}, r"axes \[0, 0\]: each is one of the image's 2 axes, and none comes twice"),
    ({"axes": (0, 2)}, r"axes \[0, 2\]: each is one of the image's 2 axes, and none comes twice"),
    ({"axes": (0, -2)}, r"axes \[0, -2\]: each is one of the image's 2 axes, and none comes twice"),
    ({"output": np.zeros((3, 3))}, r"output has shape \(3, 3\), and the image has \(3, 4\)"),
    ({"output": FIXED}, "output is read-only: give an array that can take the result"),
    ({"output": "float16"}, "dtype float16 is not filtered"),
    ({"output": "bool"}, "output 'bool' is no numeric dtype"),
    ({"input": IMAGE.astype(np.float16)}, "dtype float16 is not filtered"),
    ({"input": IMAGE.astype(object)}, "dtype object is not filtered"),
    ({"input": IMAGE.astype("m8[s]")}, r"dtype timedelta64\[s\] is not filtered"),
    ({"input": IMAGE + 1j, "output": "float64"}, "a complex result does not fit into an output of float64"),
    ({"input": IMAGE + 1j, "output": np.zeros((3, 4))}, "a complex result does not fit into an output of float64"),
    ({"weights": BOX + 1j, "cval": 1j}, "a complex cval stands for complex images only"),
    ({"cval": 1j}, "a complex cval stands for complex images only"),
]


@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize(("wrong", "message"), REFUSED)
def test_what_scipy_refuses_is_refused(name: str, wrong: dict[str, Any], message: str) -> None:
    """As an `InputError`, which is a `ValueError`, with what is wrong in it."""
    options = {"input": IMAGE, "weights": BOX, **wrong}
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        getattr(truth, name)(**options)
    with pytest.raises(InputError, match=message):
        getattr(ndimage, name)(**options)


def test_a_dask_array_has_a_known_shape_and_makes_its_own_output() -> None:
    """Both are said."""
    lazily = da.from_array(IMAGE, chunks=2)
    with pytest.raises(InputError, match="a dask array is filtered lazily: `output` may name a dtype, not an array"):
        ndimage.convolve(lazily, BOX, output=np.zeros((3, 4)))
    with pytest.raises(InputError, match=r"call `compute_chunk_sizes\(\)` on it first"):
        ndimage.convolve(lazily[lazily > 3], [1.0])


def test_an_infinite_weight_is_refused() -> None:
    """Here scipy goes on."""
    with pytest.raises(InputError, match="weights must be finite"):
        ndimage.convolve(IMAGE, BOX * np.inf)


class Quick(NumpyDevice):
    """A device to which the Fourier transform, or going axis by axis, is the quickest always."""

    speeds = MethodSpeeds(
        call_ns=1.0,
        transform_call_ns=1e-9,
        pass_ns=1.0,
        tap_ns=1.0,
        special_tap_ns=1.0,
        walk_ns=1.0,
        line_point_ns=1e-9,
        plane_point_ns=1e-9,
        point_ns=1e-9,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16", "complex64"])
def test_floats_take_the_quickest_way_and_integers_stay_exact(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the same choice as workflows, for NumPy and for dask."""
    device = Quick(convolume.choose_device("numpy").info)
    monkeypatch.setattr("convolume.ndimage._weighing.open_device", lambda _: device)
    monkeypatch.setattr("convolume.execution.task.open_device", lambda _: device)
    monkeypatch.setattr("convolume.planning.method._FEWEST_SUMS", 0)
    taken: list[str] = []
    monkeypatch.setattr(Quick, "correlate", lambda *args: taken.append("sum") or NumpyDevice.correlate(*args))
    by_transform = NumpyDevice.correlate_by_transform
    monkeypatch.setattr(Quick, "correlate_by_transform", lambda *args: taken.append("transform") or by_transform(*args))
    generator = np.random.default_rng(3)
    image, kernel = _voxels(generator, (14, 15, 16), np.dtype(dtype)), generator.random((4, 3, 5))
    case = Case("convolve", image, kernel, {"mode": "mirror"})
    for given_image in (image, da.from_array(image, chunks=9)):
        taken.clear()
        actual, expected = np.asarray(case.actual(given_image)), case.expected()
        if dtype == "uint16":
            np.testing.assert_array_equal(actual, expected)
        else:
            largest = float(np.abs(expected).max())
            np.testing.assert_allclose(actual, expected, atol=20 * np.finfo(dtype).eps * largest)
        assert set(taken) == {"sum" if dtype == "uint16" else "transform"}
