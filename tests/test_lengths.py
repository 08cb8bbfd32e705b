"""Lengths are read as people write them, and written so that they are read again."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.errors import InputError
from convolume.image import MICROMETRES_PER_UNIT
from convolume.lengths import Length

UNITS = st.sampled_from(["", *MICROMETRES_PER_UNIT])
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, UNITS)
def test_what_is_written_is_read_again(value: float, unit: str) -> None:
    """To the last digit."""
    length = Length(value, unit)
    assert Length.parse(str(length)) == length == Length.parse(length)


@given(FINITE)
def test_a_number_is_voxels_whatever_the_voxel_size(value: float) -> None:
    """Known or not."""
    assert Length.parse(value).in_voxels(None) == Length.parse(value).in_voxels(0.25) == value


@given(st.floats(1e-3, 1e3), UNITS.filter(bool), st.floats(1e-2, 1e2))
def test_a_length_is_as_many_voxels_as_it_measures(value: float, unit: str, spacing_um: float) -> None:
    """In every unit."""
    voxels = Length(value, unit).in_voxels(spacing_um)
    assert voxels * spacing_um == pytest.approx(value * MICROMETRES_PER_UNIT[unit])


@pytest.mark.parametrize(
    ("written", "length"),
    [
        ("1.5 um", Length(1.5, "micrometer")),
        ("1.5µm", Length(1.5, "micrometer")),
        ("1.5 \N{GREEK SMALL LETTER MU}m", Length(1.5, "micrometer")),
        (" 3e-1 mm ", Length(0.3, "millimeter")),
        ("2 nanometer", Length(2.0, "nanometer")),
        (".5", Length(0.5)),
        (4, Length(4.0)),
    ],
)
def test_it_is_read_as_people_write_it(written: Any, length: Length) -> None:
    """Symbols, full names, both micro signs."""
    assert Length.parse(written) == length


@pytest.mark.parametrize("written", ["", "um", "1.5.2 um", "one um", True, None, [1]])
def test_what_is_no_length_is_refused(written: Any) -> None:
    """With what to write instead."""
    message = f"{written!r} is not a length: write a number of voxels, or a number and a unit (1.5 um)"
    with pytest.raises(InputError, match=re.escape(message)):
        Length.parse(written)


def test_a_foreign_unit_is_told_with_those_there_are() -> None:
    """The message lists them."""
    with pytest.raises(InputError, match=re.escape("the unit 'inch' is not known (there are: nm, um, ")):
        Length.parse("3 inch")


def test_a_length_needs_the_voxel_size() -> None:
    """The message says where to give it."""
    message = "1.5 um needs the voxel size, which this image does not tell: give `spacing:` with the input"
    with pytest.raises(InputError, match=re.escape(message)):
        Length.parse("1.5 um").in_voxels(None)
