"""What lies beyond the faces: the same as numpy.pad says, and what is read is what is needed, no more."""

import re
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.boundary import OUTSIDE, BoundaryMode, Runs, merge, positions_in, reach, runs_length, source_indices
from convolume.testing.strategies import boundary_modes

NUMPY_MODE = {
    BoundaryMode.REFLECT: "symmetric",
    BoundaryMode.GRID_MIRROR: "symmetric",
    BoundaryMode.MIRROR: "reflect",
    BoundaryMode.NEAREST: "edge",
    BoundaryMode.CONSTANT: "constant",
    BoundaryMode.GRID_CONSTANT: "constant",
    BoundaryMode.WRAP: "wrap",
    BoundaryMode.GRID_WRAP: "wrap",
}
HALOS = st.tuples(st.integers(0, 12), st.integers(0, 12))


@st.composite
def runs_in(draw: st.DrawFn, length: int) -> Runs:
    """Draw one or two runs inside an axis."""
    held = draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=2, unique=True))
    return merge(*(((start, draw(st.integers(start + 1, length))),) for start in held))


def members(runs: Runs) -> set[int]:
    """Return the voxels that runs name."""
    return {voxel for start, stop in runs for voxel in range(start, stop)}


@given(boundary_modes(), st.integers(1, 6), st.integers(0, 30), st.integers(0, 30))
def test_indices_are_those_of_numpy_pad(mode: BoundaryMode, length: int, before: int, after: int) -> None:
    """Every mode, with halos many times as wide as the axis."""
    options = {"constant_values": OUTSIDE} if mode.is_constant else {}
    padded = np.pad(np.arange(length), (before, after), mode=NUMPY_MODE[mode], **options)
    assert np.array_equal(source_indices(-before, length + after, length, mode), padded)


@given(boundary_modes(), st.integers(1, 6), st.integers(-40, 40), st.integers(0, 20), st.integers(0, 20))
def test_indices_of_a_part_are_a_part_of_the_indices(
    mode: BoundaryMode, length: int, start: int, first: int, second: int
) -> None:
    """A coordinate has one source, wherever the interval begins."""
    middle, stop = start + first, start + first + second
    parts = [source_indices(start, middle, length, mode), source_indices(middle, stop, length, mode)]
    assert np.array_equal(np.concatenate(parts), source_indices(start, stop, length, mode))


@given(st.data())
def test_a_chain_reads_exactly_what_its_output_depends_on(data: st.DataObject) -> None:
    """Up to three steps on one axis, against matrices that say which voxel depends on which."""
    length = data.draw(st.integers(1, 9))
    steps = data.draw(st.lists(st.tuples(HALOS, boundary_modes()), min_size=1, max_size=3))
    wanted = data.draw(runs_in(length))
    needed = np.isin(np.arange(length), list(members(wanted)))
    for (before, after), mode in reversed(steps):
        depends = np.zeros((length, length), dtype=bool)
        for out in range(length):
            voxels = source_indices(out - before, out + after + 1, length, mode)
            depends[out, voxels[voxels != OUTSIDE]] = True
        needed = depends[needed].any(axis=0)
    found = reduce(lambda runs, step: reach(runs, *step[0], length, step[1]), reversed(steps), wanted)
    assert members(found) == set(np.flatnonzero(needed).tolist())
    assert list(found) == sorted(found)
    assert all(a < b for a, b in found)


@given(st.data())
def test_runs_add_up(data: st.DataObject) -> None:
    """Runs that touch become one, and nothing is counted twice."""
    length = data.draw(st.integers(1, 12))
    parts = data.draw(st.lists(runs_in(length), min_size=1, max_size=3))
    union = merge(*parts)
    assert members(union) == set().union(*map(members, parts))
    assert runs_length(union) == len(members(union))
    assert all(a[1] < b[0] for a, b in pairwise(union))


@given(st.data())
def test_positions_find_the_voxels_of_runs(data: st.DataObject) -> None:
    """What stands at a position is the voxel that was asked for."""
    length = data.draw(st.integers(1, 12))
    runs = data.draw(runs_in(length))
    held = np.concatenate([np.arange(a, b) for a, b in runs])
    indices = np.array(data.draw(st.lists(st.sampled_from([OUTSIDE, *held.tolist()]), max_size=9)), dtype=np.intp)
    positions = positions_in(runs, indices)
    inside = indices != OUTSIDE
    assert np.array_equal(held[positions[inside]], indices[inside])
    assert (positions[~inside] == OUTSIDE).all()


def test_a_voxel_that_is_not_held_is_refused() -> None:
    """Reading too little is an error, never a wrong voxel."""
    message = "voxels 2..2 are not all held by the runs ((0, 2), (8, 10))"
    with pytest.raises(IndexError, match=re.escape(message)):
        positions_in(((0, 2), (8, 10)), np.array([2]))


def test_there_are_scipys_eight_modes() -> None:
    """By their names, two of which wrap."""
    assert {str(mode) for mode in BoundaryMode} == {
        "reflect", "grid-mirror", "mirror", "nearest", "constant", "grid-constant", "wrap", "grid-wrap",
    }  # fmt: skip
    assert [mode for mode in BoundaryMode if mode.wraps] == [BoundaryMode.WRAP, BoundaryMode.GRID_WRAP]
