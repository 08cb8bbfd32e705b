"""What every filter of workflows keeps: sums, shifts on a ring, and NaN within the voxels that read it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from convolume.boundary import BoundaryMode
from convolume.devices._selection import choose_device, open_device
from convolume.execution.in_memory import filter_array
from convolume.filters import make_filter
from convolume.numerics import Precision
from convolume.operations import Operation, reach_of
from convolume.testing.filters import Case, context_of, every_case, operation_that_fits

SHAPE = (7, 9, 11)
CASES = [case for case in every_case() if operation_that_fits(case, context_of(3))]
# The length of a gradient is no linear filter.
LINEAR = [case for case in CASES if case.name != "gradient_magnitude"]


def filtered(operation: Operation, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the result in the image's dtype, on the device that is taken by default."""
    precision = Precision.SINGLE if image.dtype == np.float32 else Precision.DOUBLE
    return filter_array(image, operation, open_device(choose_device().info), precision, image.dtype)


def operation_of(case: Case, mode: BoundaryMode) -> Operation:
    """Return what a filter does on a volume."""
    return make_filter(case.name, **case.parameters).operation(context_of(3, mode=mode, cval=0.0))


@pytest.mark.parametrize("case", LINEAR, ids=str)
@pytest.mark.parametrize("mode", BoundaryMode)
def test_sums_and_multiples_are_kept(case: Case, mode: BoundaryMode) -> None:
    """In every mode, with 0 for the constant."""
    operation, generator = operation_of(case, mode), np.random.default_rng(0)
    first, second = generator.normal(size=(2, *SHAPE))
    joined = filtered(operation, first - 2.5 * second)
    expected = filtered(operation, first) - 2.5 * filtered(operation, second)
    np.testing.assert_allclose(joined, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("shift", [(1, 0, 0), (3, -4, 5)])
def test_on_a_ring_shifts_are_kept(case: Case, shift: tuple[int, ...]) -> None:
    """To the bit."""
    operation = operation_of(case, BoundaryMode.WRAP)
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    moved = filtered(operation, np.roll(image, shift, (0, 1, 2)))
    np.testing.assert_array_equal(moved, np.roll(filtered(operation, image), shift, (0, 1, 2)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nan_stays_within_the_voxels_that_read_it(case: Case) -> None:
    """And changes none of the others."""
    operation = operation_of(case, BoundaryMode.NEAREST)
    place = (3, 4, 5)
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    broken = image.copy()
    broken[place] = np.nan
    expected, actual = filtered(operation, image), filtered(operation, broken)
    reading = [
        [_reads(operation, axis, position, place[axis]) for position in range(extent)]
        for axis, extent in enumerate(SHAPE)
    ]
    far = ~np.logical_and.reduce(np.meshgrid(*reading, indexing="ij"))
    np.testing.assert_array_equal(actual[far], expected[far])
    assert np.isnan(actual).any()


def _reads(operation: Operation, axis: int, position: int, voxel: int) -> bool:
    """Say whether an output at a position of an axis reads a voxel there."""
    wanted = tuple(((position, position + 1),) if a == axis else ((0, n),) for a, n in enumerate(SHAPE))
    return any(start <= voxel < stop for start, stop in reach_of(operation, wanted, SHAPE)[axis])
