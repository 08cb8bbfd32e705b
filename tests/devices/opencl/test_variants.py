"""Variants: all give a voxel the same bits; which one is taken is what was remembered, or the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convolume.devices.opencl import available
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._discovery import find, traits_of
from convolume.devices.opencl._jobs import Traits, render
from convolume.devices.opencl._strip import MAX_UNROLLED_SUMS, lines_of, strip_job
from convolume.devices.opencl._variants import CASES, Case, Variant, Variants, candidates, case_of, default_variant
from convolume.records import DeviceInfo
from convolume.stencil import Stencil
from convolume.testing.devices import correlated, layouts

if TYPE_CHECKING:
    from pathlib import Path

Array = npt.NDArray[Any]

on_a_processor = pytest.mark.skipif(
    not available() or available()[0].kind != "cpu", reason="this machine has no OpenCL on a processor"
)

SETTINGS = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
TRAITS = Traits(on_cpu=True, vector_bytes=64, loose_pointers=True)
INFO = DeviceInfo("a processor", "opencl", "one", "cpu", driver="1.0")
SMALL = [next(case for case in CASES if case.numbers.sum == dtype) for dtype in ("float32", "float64")]
# Few weights, so that compiling is quick; a plane and places without any.
PATTERN = np.array([[[1, 0], [0, 1]], [[0, 0], [0, 0]], [[0, 1], [0, 0]]])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the cache of the user out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


class Turning:
    """A device that always runs special programs, of the variant that it is told, and one that never does."""

    def __init__(self) -> None:
        info = available()[0]
        self.traits = traits_of(find(info.identifier))
        self.held = Variants(self.traits)
        self.special, self.generic = OpenCLDevice(info, 0, self.held), OpenCLDevice(info, 1 << 62)

    def take(self, case: Case, place: int) -> None:
        """Take one of a case's candidates for all stencils."""
        variant = candidates(case, self.traits)[place]
        self.held.chosen = {other.label: variant for other in CASES if other.numbers.sum == case.numbers.sum}


@pytest.fixture(scope="module")
def turning() -> Turning:
    """Return the device."""
    return Turning()


@on_a_processor
@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.numbers.sum)
@SETTINGS
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_every_candidate_gives_the_bits_of_the_generic_program(
    turning: Turning, case: Case, place: int, data: st.DataObject, seed: int
) -> None:
    """Rows, steps and spans that do not divide, weights of zero, outputs that lie anyhow; nothing beside is written."""
    generator = np.random.default_rng(seed)
    stencil = Stencil.correlate(PATTERN * generator.normal(size=PATTERN.shape))
    shape = (data.draw(st.integers(8, 19)), data.draw(st.integers(1, 5)), data.draw(st.sampled_from([64, 100, 128])))
    padded = generator.uniform(0, 999, stencil.halo.outer(shape)).astype(case.numbers.source)
    expected = correlated(turning.generic, padded, stencil, case.precision, case.numbers.target)
    memory, out = data.draw(layouts(3)).empty(shape, case.numbers.target)
    mark = memory.flat[0]
    turning.take(case, place)
    turning.special.correlate(padded, stencil, out, case.precision)
    assert out.tobytes() == expected.tobytes()
    out[...] = np.full(out.itemsize, mark).view(out.dtype)
    assert (memory == mark).all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
def test_candidates_differ_and_begin_with_the_default(case: Case, vector_bytes: int) -> None:
    """Vectors are those of the device, or half as wide."""
    traits = Traits(on_cpu=True, vector_bytes=vector_bytes, loose_pointers=True)
    found = candidates(case, traits)
    assert len(set(found)) == len(found)
    assert found[0] == default_variant(case, traits)
    lanes = vector_bytes // np.dtype(case.numbers.sum).itemsize
    assert {variant.vector_width for variant in found} == {lanes, lanes // 2}


@given(
    rows=st.integers(1, 20),
    width=st.integers(16, 400),
    variant=st.sampled_from(candidates(SMALL[0], TRAITS)),
)
def test_a_variant_is_fitted_to_its_output(rows: int, width: int, variant: Variant) -> None:
    """It never reaches beyond the output, is never larger, and a row takes no more spans than before."""
    fitted = variant.fitted(rows, width)
    span = fitted.vectors * fitted.vector_width
    assert 1 <= fitted.rows <= min(rows, variant.rows)
    assert 1 <= fitted.vectors <= variant.vectors
    assert span <= width
    if width >= variant.vectors * variant.vector_width:
        assert -(-width // span) == -(-width // (variant.vectors * variant.vector_width))


def test_large_stencils_take_smaller_programs() -> None:
    """A ball of 925 weights has too many places for the largest shape."""
    axis = np.arange(-6, 7) ** 2
    ball = Stencil.correlate((axis[:, None, None] + axis[:, None] + axis <= 36) * 1.0)
    job = strip_job(ball, (64,) * 3, SMALL[0].numbers, (TRAITS, 2**20), Variant(4, 4, 16))
    assert job
    assert job.unrolled_sums <= MAX_UNROLLED_SUMS < 2 * job.unrolled_sums
    assert render(job).count(" += part") == job.unrolled_sums
    assert 1 < job.rows * job.vectors < 16


@pytest.mark.parametrize(
    ("shape", "label"),
    [
        ((3, 3, 3), "3x3x3 float32"),
        ((4, 4, 4), "3x3x3 float32"),
        ((5, 5, 5), "5x5x5 float32"),
        ((5, 9, 13), "7x7x7 float32"),
        ((9, 9), "1x7x7 float32"),
        ((2, 1, 2, 1), "1x7x7 float32"),
    ],
)
def test_stencils_are_like_one_of_the_cases(shape: tuple[int, ...], label: str) -> None:
    """By their axes and their number of taps."""
    assert case_of(Stencil.correlate(np.ones(shape)), SMALL[0].numbers).label == label


def test_lines_keep_the_order_of_taps() -> None:
    """Plane by plane of the last axis but x, each weight at its place."""
    stencil = Stencil.correlate(np.arange(24.0).reshape(2, 3, 1, 4))
    lines = lines_of(stencil)
    assert lines.axis == 1
    np.testing.assert_array_equal(lines.weights, np.moveaxis(stencil.weights[:, :, 0], 1, 0))
    np.testing.assert_array_equal(lines.starts, [[z, 0, 0, 0] for z in range(2)])


def test_variants_come_back_from_disk() -> None:
    """Chosen ones and skipped ones; what is no candidate any more is left out."""
    case, other = CASES[:2]
    known = Variants(TRAITS, {case.label: Variant(6, 4, 16)}, {case.label: {Variant(8, 2, 16): "hangs"}})
    known.remember(INFO)
    assert Variants.recalled(INFO, TRAITS) == known
    stencil = Stencil.correlate(np.ones(case.extents))
    assert known.best(stencil, case.numbers) == Variant(6, 4, 16)
    assert known.best(Stencil.correlate(np.ones(other.extents)), other.numbers) == default_variant(other, TRAITS)
    narrow = Traits(on_cpu=True, vector_bytes=16, loose_pointers=True)
    assert Variants.recalled(INFO, narrow).best(stencil, case.numbers) == default_variant(case, narrow)


@pytest.mark.parametrize(
    "content",
    [
        3,
        ["x"],
        {CASES[0].label: 3},
        {CASES[0].label: {"chosen": [4], "skipped": "x"}},
        {CASES[0].label: {"chosen": "99 rows x 3 vectors of 5"}},
    ],
)
def test_what_is_broken_on_disk_counts_as_none(content: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first variant is taken."""
    monkeypatch.setattr("convolume.devices.opencl._variants.recall", lambda *_: content)
    known = Variants.recalled(INFO, TRAITS)
    assert known.chosen == {}
    assert not any(known.skipped.values())
