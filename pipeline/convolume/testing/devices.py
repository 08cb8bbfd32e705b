"""The conformance suite of devices: every device there is computes what scipy.ndimage computes.

A test module takes it up with ``from convolume.testing.devices import TestEveryDevice``. Devices are found by
themselves; one that needs other preparations is tested by a subclass with a ``device`` fixture of its own.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.devices._selection import list_devices, open_device
from convolume.numerics import Precision, cast_result, truncate_like_scipy
from convolume.operations import Correlate
from convolume.stencil import Stencil
from convolume.testing.evaluation import assert_close, rounding_bound, transform_bound
from convolume.testing.strategies import kernels, origins

if TYPE_CHECKING:
    from convolume.devices import Device

__all__ = ["Layout", "TestEveryDevice", "correlated", "layouts", "reference", "stencils", "valid_bound"]

Array = npt.NDArray[Any]

# A process opens a device once, whatever the fixture's scope; one suite may stand in several classes.
_SETTINGS = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[
        HealthCheck.differing_executors,
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)
# Narrow, a vector, a vector and a bit, several vectors and a bit.
_WIDTHS = (1, 2, 7, 16, 31, 70)
_MARK = 77
_SHARE_AT_LIMITS = 0.25
_SCIPY_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64")


@dataclass(frozen=True)
class Layout:
    """How an array lies in memory: within a larger one, every so many voxels, turned, mirrored, off its alignment."""

    margin_voxels: tuple[int, ...]
    steps: tuple[int, ...]
    is_transposed: bool = False
    offset_bytes: int = 0

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[Array, Array]:
        """Return the larger array, filled with a mark, and the view of this shape into it."""
        outer = tuple(n * abs(s) + 2 * m for n, s, m in zip(shape, self.steps, self.margin_voxels, strict=True))
        item = np.dtype(dtype).itemsize
        memory = np.full(int(np.prod(outer)) * item + self.offset_bytes, _MARK, dtype=np.uint8)
        whole = memory[self.offset_bytes :].view(dtype).reshape(outer, order="F" if self.is_transposed else "C")
        inner = tuple(
            slice(m, m + n * abs(s), abs(s)) for n, s, m in zip(shape, self.steps, self.margin_voxels, strict=True)
        )
        turned = tuple(slice(None, None, 1 if s > 0 else -1) for s in self.steps)
        return memory, whole[inner][turned]

    def holding(self, values: Array) -> Array:
        """Return a view with these values that lies so."""
        _, view = self.empty(values.shape, values.dtype)
        view[...] = values
        return view


def layouts(ndim: int) -> st.SearchStrategy[Layout]:
    """Draw a layout: mostly a plain view into a larger array, which is what devices meet."""
    margins = st.tuples(*(st.integers(0, 3) for _ in range(ndim)))
    plain = st.builds(Layout, margins, st.just((1,) * ndim))
    steps = st.tuples(*(st.sampled_from([1, 2, -1]) for _ in range(ndim)))
    odd = st.builds(Layout, margins, steps, st.booleans(), st.integers(0, 3))
    return st.one_of(plain, plain, odd)


@st.composite
def stencils(draw: st.DrawFn, min_dims: int = 1, max_dims: int = 4, *, exact: bool | None = None) -> Stencil:
    """Draw a stencil of any kernel and legal origin, some without weights."""
    ndim = draw(st.integers(min_dims, max_dims))
    kernel = draw(kernels(ndim, max_side=5 if ndim < max_dims else 3, exact=exact))
    return Stencil.correlate(kernel * draw(st.sampled_from([0, 1, 1, 1, 1])), draw(origins(kernel.shape)))


def reference(padded: Array, stencil: Stencil, output: npt.DTypeLike = np.float64) -> Array:
    """Return scipy.ndimage's correlation where it lies wholly inside `padded`."""
    whole = scipy.ndimage.correlate(padded, stencil.weights, output=np.dtype(output), mode="constant")
    shape = stencil.halo.inner(padded.shape)
    # scipy's middle of a kernel is n // 2, so that many voxels lie before the first valid one.
    inside = tuple(slice(n // 2, n // 2 + extent) for n, extent in zip(stencil.shape, shape, strict=True))
    valid: Array = whole[inside]
    return valid


def valid_bound(padded: Array, stencil: Stencil, dtype: npt.DTypeLike) -> Array:
    """Return how far each sum kept in `dtype` may lie from the exact one: γₙ·(|w| * |x|)."""
    # Boundaries touch no valid voxel: the bound of the whole array, cropped, is the bound.
    unpadded = Stencil(stencil.shape, stencil.weights_float64, tuple(0 for _ in stencil.shape))
    whole = rounding_bound(Correlate(unpadded, (BoundaryMode.CONSTANT,) * padded.ndim), padded, dtype)
    return whole[tuple(slice(0, n) for n in stencil.halo.inner(padded.shape))]


def correlated(
    device: Device, padded: Array, stencil: Stencil, precision: Precision, dtype: npt.DTypeLike = np.float32
) -> Array:
    """Return what a device computes, in a new array."""
    out = np.empty(stencil.halo.inner(padded.shape), dtype=dtype)
    device.correlate(padded, stencil, out, precision)
    return out


def _padded_shape(draw: st.DrawFn, stencil: Stencil) -> tuple[int, ...]:
    extents = [draw(st.integers(1, 6)) for _ in stencil.shape[1:]] + [draw(st.sampled_from(_WIDTHS))]
    return stencil.halo.outer(tuple(extents))


@st.composite
def _cases(draw: st.DrawFn, *, exact: bool | None = None) -> tuple[Stencil, tuple[int, ...], int]:
    stencil = draw(stencils(exact=exact))
    return stencil, _padded_shape(draw, stencil), draw(st.integers(0, 2**32 - 1))


def _whole_numbers(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).integers(-8, 8, shape, endpoint=True)


def _reals(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def _at_limits(shape: tuple[int, ...], seed: int, dtype: str) -> Array:
    """Return voxels from all over an integer dtype, a share of them at its limits."""
    limits, generator = np.iinfo(dtype), np.random.default_rng(seed)
    voxels = generator.integers(limits.min, limits.max, shape, dtype=np.dtype(dtype), endpoint=True)
    extremes = generator.choice(np.array([limits.min, limits.max], dtype=dtype), shape)
    mixed: Array = np.where(generator.random(shape) < _SHARE_AT_LIMITS, extremes, voxels)
    return mixed


class TestEveryDevice:
    """What a device promises, whatever drives it."""

    @pytest.fixture(params=list_devices(), ids=lambda info: info.identifier)
    def device(self, request: pytest.FixtureRequest) -> Device:
        """Return each device of this machine."""
        return open_device(request.param)

    def test_info_travels(self, device: Device) -> None:
        """What a device says of itself is small, pickles, and finds it again."""
        copied = pickle.loads(pickle.dumps(device.info))  # noqa: S301 (made a moment ago)
        np.testing.assert_equal(copied, device.info)
        np.testing.assert_equal([info.identifier for info in list_devices()].count(copied.identifier), 1)

    @_SETTINGS
    @given(data=st.data(), case=_cases(exact=True))
    def test_whole_numbers_are_exact_in_any_layout(
        self, device: Device, data: st.DataObject, case: tuple[Stencil, tuple[int, ...], int]
    ) -> None:
        """Small whole numbers equal scipy's in float32, however arrays lie; nothing beside `out` is written."""
        stencil, shape, seed = case
        padded = data.draw(layouts(stencil.ndim)).holding(_whole_numbers(shape, seed).astype(np.float32))
        before = padded.copy()
        memory, out = data.draw(layouts(stencil.ndim)).empty(stencil.halo.inner(shape), np.float32)
        device.correlate(padded, stencil, out, Precision.SINGLE)
        np.testing.assert_array_equal(out, reference(padded.astype(np.float64), stencil))
        np.testing.assert_array_equal(padded, before)
        out[...] = np.array([_MARK] * 4, dtype=np.uint8).view(np.float32)
        np.testing.assert_array_equal(memory, _MARK)

    @_SETTINGS
    @given(case=_cases(), precision=st.sampled_from([Precision.SINGLE, Precision.DOUBLE]))
    def test_reals_lie_within_the_rounding_bound(
        self, device: Device, case: tuple[Stencil, tuple[int, ...], int], precision: Precision
    ) -> None:
        """Every voxel lies within the bound of the precision that was asked for."""
        stencil, shape, seed = case
        dtype = np.float32 if precision is Precision.SINGLE else np.float64
        padded = _reals(shape, seed).astype(dtype)
        bound = valid_bound(padded.astype(np.float64), stencil, dtype)
        actual = correlated(device, padded, stencil, precision, dtype)
        assert_close(actual, reference(padded.astype(np.float64), stencil), bound)

    @_SETTINGS
    @given(case=_cases(), source=st.sampled_from([*_SCIPY_DTYPES, "uint64"]), dtype=st.sampled_from(_SCIPY_DTYPES))
    def test_scipy_precision_is_scipy_to_the_bit(
        self, device: Device, case: tuple[Stencil, tuple[int, ...], int], source: str, dtype: str
    ) -> None:
        """Integers and float64, sums cut off as C does where they fit."""
        stencil, shape, seed = case
        padded = (
            _at_limits(shape, seed, source) if np.dtype(source).kind in "iu" else _reals(shape, seed).astype(source)
        )
        # C leaves open what becomes of sums beyond int64.
        target = dtype if padded.dtype.kind == "f" or padded.itemsize < 4 else "float64"  # noqa: PLR2004 (bytes)
        sums = reference(padded, stencil)
        actual = correlated(device, padded, stencil, Precision.SCIPY, target)
        np.testing.assert_array_equal(actual, truncate_like_scipy(sums, target))
        if target in {"float32", "float64", "int64"}:
            np.testing.assert_array_equal(actual, reference(padded, stencil, target))

    @_SETTINGS
    @given(data=st.data(), case=_cases())
    def test_bits_do_not_depend_on_the_block(
        self, device: Device, data: st.DataObject, case: tuple[Stencil, tuple[int, ...], int]
    ) -> None:
        """A part of the output, computed alone, has the bits of the whole."""
        stencil, shape, seed = case
        padded = _reals(shape, seed).astype(np.float32)
        whole = correlated(device, padded, stencil, Precision.SINGLE)
        starts = [data.draw(st.integers(0, n - 1)) for n in whole.shape]
        stops = [data.draw(st.integers(a + 1, n)) for a, n in zip(starts, whole.shape, strict=True)]
        read = tuple(slice(a, b + k - 1) for a, b, k in zip(starts, stops, stencil.shape, strict=True))
        part = correlated(device, padded[read], stencil, Precision.SINGLE)
        inside = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
        np.testing.assert_equal(part.tobytes(), whole[inside].tobytes())

    @_SETTINGS
    @given(case=_cases(), value=st.sampled_from([np.nan, np.inf, -np.inf]))
    def test_nan_and_inf_reach_what_weighs_them_and_no_more(
        self, device: Device, case: tuple[Stencil, tuple[int, ...], int], value: float
    ) -> None:
        """A weight of zero does not spread NaN; any other weight does."""
        stencil, shape, seed = case
        padded = _reals(shape, seed).astype(np.float32)
        place = tuple(seed % n for n in shape)
        padded[place] = value
        touched = np.zeros(stencil.halo.inner(shape), dtype=bool)
        for offset, _ in stencil.taps():
            target = tuple(p - o for p, o in zip(place, offset, strict=True))
            if all(0 <= t < n for t, n in zip(target, touched.shape, strict=True)):
                touched[target] = True
        actual = correlated(device, padded, stencil, Precision.SINGLE)
        np.testing.assert_array_equal(~np.isfinite(actual), touched)

    @_SETTINGS
    @given(
        case=_cases(),
        precision=st.sampled_from([Precision.SINGLE, Precision.DOUBLE]),
        specials=st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 1e38]), max_size=3),
    )
    def test_transforms_are_sums(
        self,
        device: Device,
        case: tuple[Stencil, tuple[int, ...], int],
        precision: Precision,
        specials: list[float],
    ) -> None:
        """By norms in their bound, voxels near the largest float32 included; NaN and inf are where sums have them."""
        stencil, shape, seed = case
        dtype = np.float32 if precision is Precision.SINGLE else np.float64
        padded = _reals(shape, seed).astype(dtype)
        generator = np.random.default_rng(seed)
        for value in specials:
            padded[tuple(generator.integers(shape))] = value
        out = np.empty(stencil.halo.inner(shape), np.float64)
        device.correlate_by_transform(lambda part: padded[part], stencil, out, precision)
        expected = reference(padded.astype(np.float64), stencil)
        finite = np.where(np.isfinite(padded), padded, 0.0)
        unfilled = Correlate(Stencil.correlate(stencil.weights), (BoundaryMode.CONSTANT,) * stencil.ndim)
        assert_close(out, expected, np.full(out.shape, transform_bound(unfilled, finite, dtype)))

    @pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "float16", "float32", ">f4", ">i2"])
    def test_reads_every_dtype_that_float32_holds(self, device: Device, dtype: str) -> None:
        """Single precision takes them as they are, in either byte order."""
        padded = np.abs(_whole_numbers((5, 6, 40), 3)).astype(dtype)
        stencil = Stencil.correlate(np.arange(-4.0, 5.0).reshape(1, 3, 3))
        actual = correlated(device, padded, stencil, Precision.SINGLE)
        np.testing.assert_array_equal(actual, reference(padded.astype(np.float64), stencil))

    @_SETTINGS
    @given(
        seed=st.integers(0, 2**32 - 1),
        symmetry=st.sampled_from([0, 1, -1]),
        source=st.sampled_from(["uint8", "int32", "uint64", "float64"]),
        dtype=st.sampled_from([*_SCIPY_DTYPES, "uint64"]),
    )
    def test_lines_are_scipys_to_the_bit(
        self, device: Device, seed: int, symmetry: int, source: str, dtype: str
    ) -> None:
        """Weights in pairs and out of pairs, along any axis."""
        generator = np.random.default_rng(seed)
        weights = generator.normal(size=generator.integers(1, 8))
        weights = weights + symmetry * weights[::-1]
        axis, shape = int(generator.integers(2)), (int(generator.integers(1, 5)), int(generator.choice(_WIDTHS)))
        stencil = Stencil.line(weights).on_axes((axis,), 2)
        image = _reals(shape, seed) * 9 if source == "float64" else _at_limits(shape, seed, source)
        padded = np.pad(image, list(zip(stencil.halo.before, stencil.halo.after, strict=True)))
        expected = scipy.ndimage.correlate1d(image, weights, axis, output=np.dtype(dtype), mode="constant")
        np.testing.assert_array_equal(correlated(device, padded, stencil, Precision.SCIPY, dtype), expected)

    @pytest.mark.parametrize("divisor", [1, 3, 49])
    def test_sums_of_lines_are_divided(self, device: Device, divisor: int) -> None:
        """By the divisor itself, not by its inverse: 49 · (1 / 49) is less than 1."""
        padded = _whole_numbers((3, 45), divisor).astype(np.float64)
        stencil = Stencil.line(np.ones(4), divisor=divisor).on_axes((1,), 2)
        expected = reference(padded, Stencil.correlate(np.ones((1, 4)))) / divisor
        for precision in (Precision.DOUBLE, Precision.SCIPY):
            np.testing.assert_array_equal(correlated(device, padded, stencil, precision, np.float64), expected)

    @_SETTINGS
    @given(data=st.data(), case=_cases(), precision=st.sampled_from([Precision.SINGLE, Precision.DOUBLE]))
    def test_rounds_to_the_dtypes_that_it_names(
        self, device: Device, data: st.DataObject, case: tuple[Stencil, tuple[int, ...], int], precision: Precision
    ) -> None:
        """To the bits of the cast on the host: halves, what does not fit, infinities and NaN."""
        stencil, shape, seed = case
        real = np.float32 if precision is Precision.SINGLE else np.float64
        padded = (_reals(shape, seed) * data.draw(st.sampled_from([1, 100, 30_000]))).round(1).astype(real)
        padded[np.random.default_rng(seed).random(shape) < _SHARE_AT_LIMITS] = data.draw(
            st.sampled_from([0.5, -1.5, 127.5, 254.5, 65534.5, -32768.5, np.nan, np.inf, -np.inf])
        )
        with np.errstate(all="ignore"):
            sums = correlated(device, padded, stencil, precision, real)
            for dtype in filter(device.rounds, map(np.dtype, _SCIPY_DTYPES)):
                _, out = data.draw(layouts(stencil.ndim)).empty(sums.shape, dtype)
                device.correlate(padded, stencil, out, precision)
                np.testing.assert_array_equal(out, cast_result(sums, dtype))

    @pytest.mark.parametrize("dtype", ["bool", "uint64"])
    def test_casts_to_the_dtypes_that_c_treats_apart(self, device: Device, dtype: str) -> None:
        """Sums below zero and above 2^53 included."""
        padded = _whole_numbers((4, 40), 5).astype(np.float64) * 1e17
        stencil = Stencil.correlate([[-1.0, 0.25]])
        actual = correlated(device, padded, stencil, Precision.SCIPY, dtype)
        np.testing.assert_array_equal(actual, truncate_like_scipy(reference(padded, stencil), dtype))

    @pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 4)])
    def test_no_voxels_are_no_work(self, device: Device, shape: tuple[int, ...]) -> None:
        """An output without voxels is left as it is."""
        stencil = Stencil.correlate(np.ones((3,) * len(shape)))
        out = np.empty(shape, dtype=np.float32)
        device.correlate(np.ones(stencil.halo.outer(shape), np.float32), stencil, out, Precision.SINGLE)

    def test_reads_what_it_must_not_write(self, device: Device) -> None:
        """A read-only input, one row repeated by a stride of 0, is an input like any other."""
        padded = np.broadcast_to(np.arange(40, dtype=np.float32), (6, 40))
        stencil = Stencil.correlate(np.ones((3, 2)))
        np.testing.assert_array_equal(
            correlated(device, padded, stencil, Precision.SINGLE), reference(padded.astype(np.float64), stencil)
        )
