"""Copies from one layout to another, in threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.layouts import THREADS_VARIABLE, boxes, copy_voxels, host_threads, row_axis

shapes = st.lists(st.integers(1, 20), min_size=1, max_size=4).map(tuple)

SHAPE = (96, 80, 65)
LAYOUTS = {
    "rows": lambda array: array,
    "columns": np.asfortranarray,
    "turned": lambda array: np.ascontiguousarray(array.transpose(1, 2, 0)).transpose(2, 0, 1),
    "mirrored": lambda array: array[::-1, :, ::-1],
    "every second voxel": lambda array: np.repeat(array, 2, axis=2)[:, :, ::2],
    "one value": lambda array: np.broadcast_to(array[:1, :1], array.shape),
    "one line": lambda array: array.reshape(-1),
}


@given(shape=shapes, voxels=st.integers(1, 500), data=st.data())
def test_boxes_fill_a_shape_once(shape: tuple[int, ...], voxels: int, data: st.DataObject) -> None:
    """No voxel is left out, none comes twice."""
    seen = np.zeros(shape, int)
    for box in boxes(shape, voxels, data.draw(st.sampled_from([None, *range(len(shape))]))):
        seen[box] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("target", ["rows", "columns", "turned"])
@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("dtypes", [("float32", "float32"), (">i2", "float64"), ("float64", "uint8")], ids=str)
def test_copies_are_numpys(source: str, target: str, dtypes: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough for threads, in any layout and dtype."""
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    image = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtypes[0])
    image = LAYOUTS[source](image)
    out: npt.NDArray[Any] = (
        LAYOUTS[target](np.empty(image.shape, dtypes[1])) if image.ndim > 1 else np.empty_like(image)
    )
    copy_voxels(out, image)
    np.testing.assert_array_equal(out, image.astype(out.dtype))


def test_what_fails_in_a_thread_fails_here() -> None:
    """A copy that is not whole is never taken for one."""
    out = np.empty(SHAPE)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        copy_voxels(out, np.ones(SHAPE))


def test_threads_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process has its share of them."""
    monkeypatch.setenv(THREADS_VARIABLE, "5")
    assert host_threads() == 5


@given(shape=shapes)
def test_rows_are_never_shorter_than_they_were(shape: tuple[int, ...]) -> None:
    """Only a last axis of one voxel makes way, for a longer one."""
    axis = row_axis(shape)
    assert shape[axis] >= shape[-1]
    assert axis == len(shape) - 1 or shape[-1] == 1
