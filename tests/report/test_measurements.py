"""Measurements and histograms, against NumPy on the whole array."""

from __future__ import annotations

from math import isnan, nan
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convolume
from convolume.errors import InputError
from convolume.image import Axis, ImageInfo
from convolume.regions import Region
from convolume.report.measurements import BIN_COUNT, Level, fitting_level, histograms_of, measure
from convolume.report.texts import summary
from convolume.stores import SourceOptions, create_sink, lazy, memory, open_source
from convolume.testing.stores import DTYPES, random_array

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from convolume.stores import Source

LIMIT = "convolume.report.measurements._WANTED_VOXELS"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    for name in ("measured", "result"):
        memory.drop(name)


def level_of(array: npt.NDArray[Any]) -> Level:
    """Return an array as level 0."""
    memory.put("measured", array)
    return Level(0, open_source("memory:measured"))


def told(array: npt.NDArray[Any]) -> tuple[float, float, float, float]:
    """Return what NumPy says of the finite voxels."""
    finite = array[np.isfinite(array)].astype(np.float64)
    return (finite.min(), finite.max(), finite.mean(), finite.std()) if finite.size else (nan,) * 4


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 999),
    strange=st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=3),
)
def test_measured_as_numpy_does(shape: tuple[int, ...], dtype: str, seed: int, strange: list[float]) -> None:
    """Over finite voxels of any dtype, whatever the chunks."""
    array = random_array(shape, dtype, seed)
    if np.dtype(dtype).kind == "f":
        array.flat[: len(strange)] = strange[: array.size]
    lazy.put("measured", dask.array.from_array(array, chunks=4))
    level = Level(0, open_source("lazy:measured"))
    (found,) = measure("input", level)
    expected = told(array)
    scale = max(1.0, abs(expected[0]), abs(expected[1])) if not isnan(expected[0]) else 1.0
    values = (found.minimum, found.maximum, found.mean, found.deviation)
    # The variance is a difference of squares.
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-7 * scale, equal_nan=True)
    (histogram,) = histograms_of(level)
    assert histogram.counts.sum() == np.isfinite(array).sum()
    assert (found.image, found.channel, found.level, found.shape) == ("input", "", 0, array.shape)


@pytest.mark.parametrize("array", [np.arange(1000.0) ** 2, np.full(7, 3.0), np.zeros(3)])
def test_bins_as_numpy_has_them(array: npt.NDArray[Any]) -> None:
    """Of equal width from the smallest to the largest value."""
    (histogram,) = histograms_of(level_of(array))
    counts, edges = np.histogram(array.astype(np.float64), bins=BIN_COUNT)
    np.testing.assert_allclose(histogram.edges, edges)
    np.testing.assert_array_equal(histogram.counts, counts)


@pytest.mark.parametrize(
    ("array", "width"),
    [
        (np.arange(10, dtype="uint8"), 1),
        (np.array([True, False, True]), 1),
        (np.repeat(np.arange(-100, 200, dtype="int16"), 3), 3),
        (np.full(4, -7, "int32"), 1),
        (np.array([0, 2**63], "uint64"), 2**56 + 1),
    ],
)
def test_bins_of_whole_numbers_hold_as_many_each(array: npt.NDArray[Any], width: int) -> None:
    """A flat image has a flat histogram."""
    (histogram,) = histograms_of(level_of(array))
    assert len(histogram.counts) <= BIN_COUNT
    np.testing.assert_allclose(np.diff(histogram.edges), width, rtol=1e-12)
    assert histogram.edges[0] == float(array.min()) - 0.5
    counts, _ = np.histogram(array.astype(np.float64), histogram.edges)
    np.testing.assert_array_equal(histogram.counts, counts)
    if width == 3:
        assert set(histogram.counts.tolist()) == {9}


def test_nothing_finite_is_told_as_such() -> None:
    """Not as zeros, and it can be drawn."""
    level = level_of(np.full((2, 3), np.nan, np.float32))
    (found,) = measure("input", level)
    assert all(map(isnan, (found.minimum, found.maximum, found.mean, found.deviation)))
    (histogram,) = histograms_of(level)
    assert histogram.counts.sum() == 0


def test_channels_are_measured_each(tmp_path: Path) -> None:
    """Under the names that the image gives them, or their positions."""
    array = random_array((2, 3, 4, 5), "uint16")
    axes = (Axis("t", "time"), Axis("c", "channel"), Axis("y", "space"), Axis("x", "space"))
    sink = create_sink(str(tmp_path / "image.ome.zarr"), ImageInfo(array.shape, "uint16", axes))
    sink.create()
    sink.write(0, Region.whole(array.shape), array)
    sink.finish({}, ((0.0, 1.0, 0.0, 1.0),) * 3)
    found = measure("input", Level(0, open_source(sink.path)))
    assert [each.channel for each in found] == ["Channel 0", "Channel 1", "Channel 2"]
    for position, each in enumerate(found):
        assert (each.minimum, each.maximum) == told(array[:, position])[:2]
        assert (each.mean, each.deviation) == pytest.approx(told(array[:, position])[2:])


def test_the_finest_level_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of levels of 4,096, 512 and 64 voxels in each of 3 channels; the coarsest where none does."""

    def opened(number: int) -> Source:
        if number > 2:
            message = "no such level"
            raise InputError(message)
        memory.put("measured", np.zeros((3, *[16 >> number] * 3), "uint8"))
        return open_source("memory:measured", SourceOptions(axes="czyx"))

    for most, finest, expected in ((4096, 0, 0), (4095, 0, 1), (511, 0, 2), (1, 0, 2), (4096, 1, 1)):
        monkeypatch.setattr(LIMIT, most)
        level = fitting_level(opened, finest)
        assert (level.number, level.source.info.shape) == (expected, (3, *[16 >> expected] * 3))


def test_too_large_an_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than read for hours."""
    monkeypatch.setattr("convolume.report.measurements._MOST_VOXELS", 5)
    with pytest.raises(InputError, match=r"^memory:measured: is not measured: its coarsest level has 6 voxels in a"):
        measure("input", level_of(np.zeros((2, 3))))


WORKFLOW = """
input: {path: 'memory:measured', region: {x: [0, 20]}}
measure: true
outputs:
  result: {path: 'memory:result', steps: [{box: {size: 3}}]}
"""


def test_a_run_tells_what_it_measured() -> None:
    """Of the part that was filtered, and of what came out; the summary has a line for each."""
    array = random_array((30, 40), "float32")
    memory.put("measured", array)
    record = convolume.run(WORKFLOW, overrides=["device=numpy"])
    before, after = record.measurements
    result = memory.get("result")
    for found, image, voxels in ((before, "input", array[:, :20]), (after, "result", result)):
        assert (found.image, found.level, found.shape) == (image, 0, (30, 20))
        assert (found.minimum, found.maximum, found.mean, found.deviation) == pytest.approx(told(voxels))
    text = " ".join(summary(record).split())
    assert f"input: values {before.minimum:.6g} to {before.maximum:.6g}, mean {before.mean:.6g}, deviation" in text


def test_a_run_does_not_fail_for_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be measured is a note."""
    memory.put("measured", random_array((30, 40), "float32"))
    monkeypatch.setattr("convolume.report.measurements._MOST_VOXELS", 5)
    record = convolume.run(WORKFLOW, overrides=["device=numpy"])
    assert not record.measurements
    assert [note.split(":")[1] for note in record.notes if "is not measured" in note] == ["measured", "result"]


def test_nothing_is_measured_unless_asked_for() -> None:
    """It reads voxels again."""
    memory.put("measured", random_array((30, 40), "float32"))
    record = convolume.run(WORKFLOW, overrides=["device=numpy", "measure=false"])
    assert not record.measurements
    assert "measured  " not in summary(record)
