"""Trees of operations: what they read is enough, near every face and through every chain."""

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.operations import Combine, Correlate, Operation, Sequence, correlations, merge_axes, reach_of
from convolume.regions import Region
from convolume.stencil import Stencil
from convolume.testing.evaluation import evaluate_whole
from convolume.testing.strategies import boundary_modes, images, operations, origin_at, regions, shapes


@given(st.data())
def test_what_is_not_read_does_not_matter(data: st.DataObject) -> None:
    """Voxels outside the reach of a region may be anything: the result there stays the same, bit for bit."""
    shape = data.draw(shapes(max_dims=2, max_side=9))
    operation = data.draw(operations(len(shape)))
    region = data.draw(regions(shape))
    image = data.draw(images(shape, dtype=np.float64))
    spoiled = np.full(shape, np.nan)
    held = np.ix_(*(held_indices(runs) for runs in reach_of(operation, runs_of(region), shape)))
    spoiled[held] = image[held]
    assert np.array_equal(
        evaluate_whole(operation, spoiled)[region.slices], evaluate_whole(operation, image)[region.slices]
    )


@given(st.data())
def test_whatever_is_read_matters(data: st.DataObject) -> None:
    """With positive weights everywhere, a voxel changes the result if it is read, and only then."""
    length = data.draw(st.integers(1, 9))
    chain = Sequence(tuple(data.draw(st.lists(positive_correlations(), min_size=1, max_size=3))))
    region = data.draw(regions((length,)))
    (runs,) = reach_of(chain, runs_of(region), (length,))
    read = np.zeros(length, dtype=bool)
    read[held_indices(runs)] = True
    depends = [evaluate_whole(chain, impulse)[region.slices].any() for impulse in np.eye(length)]
    assert read.tolist() == depends


@st.composite
def positive_correlations(draw: st.DrawFn) -> Correlate:
    """Draw a correlation of one axis whose voxels all count, beyond the faces nothing."""
    size = draw(st.integers(1, 7))
    stencil = Stencil.correlate(np.ones(size), draw(origin_at(size)))
    return Correlate(stencil, (draw(boundary_modes()),))


@given(st.data())
def test_branches_read_together(data: st.DataObject) -> None:
    """A joined tree reads the union of its branches."""
    shape = data.draw(shapes(max_dims=2))
    branches = tuple(data.draw(st.lists(operations(len(shape)), min_size=1, max_size=3)))
    wanted = runs_of(data.draw(regions(shape)))
    joined = reach_of(Combine("add", branches), wanted, shape)
    assert joined == merge_axes(*(reach_of(branch, wanted, shape) for branch in branches))


@given(operations(2))
def test_they_travel_and_compare_by_value(operation: Operation) -> None:
    """Through pickle, and as keys."""
    copy = pickle.loads(pickle.dumps(operation))  # noqa: S301 (just pickled)
    assert copy == operation
    assert hash(copy) == hash(operation)


def test_the_sum_of_halos_would_read_too_little() -> None:
    """Two steps of halo (0, 3) in `reflect`: the last voxel needs voxels before it."""
    step = Correlate(Stencil.correlate([1.0, 1.0, 1.0, 1.0], origin=-2), (BoundaryMode.REFLECT,))
    assert step.stencil.halo.before == (0,)
    assert reach_of(Sequence((step, step)), (((9, 10),),), (10,)) == (((7, 10),),)


def test_correlations_come_in_the_order_of_doing() -> None:
    """Depth first, branches from the first to the last."""
    one, two, three = (Correlate(Stencil.correlate([weight]), (BoundaryMode.WRAP,)) for weight in (1.0, 2.0, 3.0))
    tree = Sequence((one, Combine("subtract", (Sequence((two,)), three)), one))
    assert list(correlations(tree)) == [one, two, three, one]


def runs_of(region: Region) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return a region as one run an axis."""
    return tuple(((start, stop),) for start, stop in zip(region.start, region.stop, strict=True))


def held_indices(runs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Return the voxels that runs name."""
    return np.array([voxel for start, stop in runs for voxel in range(start, stop)], dtype=int)
