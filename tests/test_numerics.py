"""What happens to numbers: rounded once, saturated, or cast as scipy's C code casts."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from convolume.errors import InputError
from convolume.numerics import Precision, cast_result, default_result_dtype, truncate_like_scipy, working_dtype

INTEGERS = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64")
REALS = ("float16", "float32", "float64")
# Halves, and the neighbourhood of every limit, are where casts go wrong.
LIMITS = [float(limit) for name in INTEGERS for limit in (np.iinfo(name).min, np.iinfo(name).max)]
VALUES = st.one_of(
    st.integers(-600, 600).map(lambda n: n / 2),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(LIMITS).flatmap(lambda limit: st.sampled_from([limit, math.nextafter(limit, 0), limit - 0.5])),
)


@given(st.lists(VALUES, min_size=1, max_size=9), st.sampled_from(INTEGERS))
def test_integers_are_rounded_half_to_even_and_saturate(values: list[float], name: str) -> None:
    """Against Python's own integers, which have no limits."""
    limits = np.iinfo(name)

    def expected(value: float) -> int:
        if math.isnan(value):
            return 0
        if math.isinf(value):
            return int(limits.max if value > 0 else limits.min)
        return max(int(limits.min), min(int(limits.max), round(value)))

    result = cast_result(np.array(values), name)
    assert result.dtype == name
    assert result.tolist() == [expected(value) for value in values]


@given(VALUES, st.sampled_from(INTEGERS))
def test_what_does_not_fit_can_be_an_error(value: float, name: str) -> None:
    """And only that."""
    limits = np.iinfo(name)
    if math.isfinite(value) and limits.min <= round(value) <= limits.max:
        assert cast_result(np.array([value]), name, "error").tolist() == [round(value)]
    else:
        with pytest.raises(OverflowError, match=f"does not fit into {name}"):
            cast_result(np.array([value]), name, "error")


@given(st.data(), st.sampled_from(INTEGERS), st.sampled_from(INTEGERS))
def test_integers_are_limited_as_integers(data: st.DataObject, source: str, name: str) -> None:
    """No float comes between: it would not hold those above 2**53. Or they are refused, where that is asked for."""
    of_source, limits = np.iinfo(source), np.iinfo(name)
    values = data.draw(st.lists(st.integers(int(of_source.min), int(of_source.max)), min_size=1, max_size=9))
    result = cast_result(np.array(values, source), name)
    assert result.dtype == name
    assert result.tolist() == [max(int(limits.min), min(int(limits.max), value)) for value in values]
    if result.tolist() == values:
        assert cast_result(np.array(values, source), name, "error").tolist() == values
    else:
        with pytest.raises(OverflowError, match=f"does not fit into {name}"):
            cast_result(np.array(values, source), name, "error")


def test_an_overflow_names_the_value_and_the_limits() -> None:
    """The message says why."""
    with pytest.raises(OverflowError, match=re.escape("the value 300.0 does not fit into uint8 (0 to 255)")):
        cast_result(np.array([1.0, 300.0]), np.uint8, "error")


@given(st.lists(st.floats(-1e18, 1e18), min_size=1, max_size=9), st.sampled_from([*INTEGERS[:-1], *REALS[1:], "bool"]))
def test_truncation_is_scipys(values: list[float], name: str) -> None:
    """Beyond the limits of 32 bits, too."""
    image = np.array(values)
    with np.errstate(over="ignore"):
        expected = ndimage.correlate(image, [1.0], output=np.dtype(name))
    if name == "bool":
        # scipy leaves bytes such as 3 in boolean arrays.
        expected = expected.view(np.uint8) != 0
    assert np.array_equal(truncate_like_scipy(image, name), expected)


@given(st.lists(st.floats(0, 1.8e19), min_size=1, max_size=9))
def test_truncation_to_uint64_is_scipys(values: list[float]) -> None:
    """Up to its limit; below zero C leaves it open."""
    image = np.array(values)
    assert np.array_equal(truncate_like_scipy(image, "uint64"), ndimage.correlate(image, [1.0], output=np.uint64))


@pytest.mark.parametrize("name", [*INTEGERS, *REALS, "bool"])
def test_sums_are_kept_where_the_image_is_exact(name: str) -> None:
    """In float32 only where every voxel is a float32."""
    assert default_result_dtype(name) == (name if name in REALS else np.float32)
    fits = name in {"bool", "uint8", "int8", "uint16", "int16", "float16", "float32"}
    assert working_dtype(name, Precision.SINGLE) == (np.float32 if fits else np.float64)
    assert working_dtype(name, Precision.DOUBLE) == working_dtype(name, Precision.SCIPY) == np.float64


def test_floats_are_cast_plainly() -> None:
    """NaN and inf stay, and nothing is copied without need."""
    values = np.array([0.1, np.nan, np.inf])
    assert np.array_equal(cast_result(values, np.float32), values.astype(np.float32), equal_nan=True)
    assert cast_result(values, np.float64) is values


def test_complex_images_are_refused() -> None:
    """With what to do instead."""
    message = "complex images (complex64) are not filtered: filter the real and the imaginary part"
    with pytest.raises(InputError, match=re.escape(message)):
        working_dtype(np.complex64, Precision.SINGLE)


@pytest.mark.parametrize("shape", [(), (7,), (140_001,), (3, 70_001), (2, 300, 301), (3, 0, 5)])
@pytest.mark.parametrize("name", INTEGERS)
def test_parts_of_an_array_are_cast_as_its_voxels_are(shape: tuple[int, ...], name: str) -> None:
    """Large arrays are cast part by part, whatever their strides; what does not fit lies in some of the parts only."""
    values = np.full(shape, 2.5, np.float32)
    values.reshape(-1)[: 2 * 3 * 70_001 // 2 : 7] = np.float32(-1e10)
    turned = values.T
    one_by_one = {value: cast_result(np.array([value], np.float32), name)[0] for value in (2.5, -1e10)}
    expected = np.where(turned == np.float32(2.5), one_by_one[2.5], one_by_one[-1e10])
    result = cast_result(turned, name)
    assert result.dtype == np.dtype(name)
    np.testing.assert_array_equal(result, expected)
