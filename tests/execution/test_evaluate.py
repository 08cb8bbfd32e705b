"""Operations on patches give the bits that they give on the whole image."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.devices import Device
from convolume.devices import _transform as tiles
from convolume.execution import filling
from convolume.execution.evaluate import Patch, Work, evaluate
from convolume.execution.in_memory import filter_array, whole_runs
from convolume.numerics import Precision, working_dtype
from convolume.operations import Arithmetic, Combine, Correlate, Sequence, reach_of
from convolume.stencil import Stencil
from convolume.testing.evaluation import assert_close, evaluate_whole, rounding_bound, transform_bound
from convolume.testing.strategies import chains, correlations, images, operations, regions, shapes


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_patch_gives_the_bits_of_the_whole(device: Device, data: st.DataObject) -> None:
    """Any tree, mixed modes, anywhere: what `reach_of` names is enough."""
    shape = data.draw(shapes(max_side=10))
    operation, image = data.draw(operations(len(shape))), data.draw(images(shape, finite=False))
    region = data.draw(regions(shape))
    wanted = tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True))
    needs = reach_of(operation, wanted, shape)
    places = np.ix_(*(np.concatenate([np.arange(a, b) for a, b in runs]) if runs else np.arange(0) for runs in needs))
    work = Work(device, Precision.SINGLE, np.dtype(np.float32), shape)
    whole = filter_array(image, operation, device, Precision.SINGLE, np.float32)
    part = evaluate(work, operation, Patch(image[places], needs), wanted)
    np.testing.assert_array_equal(part, whole[region.slices])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_whole_is_right(device: Device, data: st.DataObject) -> None:
    """Within the rounding of its sums, exactly on whole numbers."""
    shape, exact = data.draw(shapes(max_side=10)), data.draw(st.booleans())
    image = data.draw(images(shape, exact=exact, finite=exact))
    operation = Sequence(data.draw(chains(len(shape), max_steps=2, max_side=3, exact=exact)))
    bound = np.zeros(shape) if exact else rounding_bound(operation, image, np.float32)
    actual = filter_array(image, operation, device, Precision.SINGLE, np.float32)
    assert_close(actual, evaluate_whole(operation, image), bound)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 16, 100, 500]))
def test_the_size_of_tiles_makes_no_difference(device: Device, data: st.DataObject, voxels: int) -> None:
    """Row by row, or one filled copy: the same bits."""
    shape = data.draw(shapes(max_side=40, max_dims=2))
    image, step = data.draw(images(shape, finite=False)), data.draw(correlations(len(shape)))
    at_once = filter_array(image, step, device, Precision.SINGLE, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "_TILE_VOXELS", voxels)
        in_tiles = filter_array(image, step, device, Precision.SINGLE, np.float32)
    np.testing.assert_array_equal(in_tiles, at_once)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_output_takes_the_result_of_any_tree(device: Device, data: st.DataObject) -> None:
    """And nothing else is touched."""
    shape = data.draw(shapes(max_side=8))
    image, operation = data.draw(images(shape)), data.draw(operations(len(shape)))
    room = np.full((*shape[:-1], 2 * shape[-1]), 7, np.float32)
    result = filter_array(image, operation, device, Precision.SINGLE, np.float32, room[..., ::2])
    np.testing.assert_array_equal(result, filter_array(image, operation, device, Precision.SINGLE, np.float32))
    assert np.shares_memory(result, room)
    assert (room[..., 1::2] == 7).all()


@pytest.mark.parametrize("arithmetic", ["add", "subtract", "magnitude"])
def test_the_image_itself_may_be_joined_with_a_result(device: Device, arithmetic: Arithmetic) -> None:
    """Whole numbers become those of the sums first: in uint8 they would wrap around."""
    image = np.array([[200, 3], [100, 250]], np.uint8)
    nothing = Sequence()
    operation = Combine(arithmetic, (nothing, nothing))
    expected = {"add": 2.0 * image, "subtract": 0.0 * image, "magnitude": np.sqrt(2.0 * image.astype(float) ** 2)}
    actual = filter_array(image, operation, device, Precision.SINGLE, np.float32)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected[arithmetic], rtol=1e-6)


def test_a_constant_is_kept_as_exactly_as_the_sums(device: Device) -> None:
    """0.1 is no float32: where sums are kept in float64 it is not rounded to one."""
    step = Correlate(Stencil.correlate([1.0, 0.0, 0.0]), (BoundaryMode.CONSTANT,), 0.1)
    actual = filter_array(np.zeros(3, np.float32), step, device, Precision.DOUBLE, np.float64)
    np.testing.assert_array_equal(actual, [0.1, 0, 0])


def test_doing_nothing_copies_nothing(device: Device) -> None:
    """The patch's own voxels come back, in their dtype."""
    image = np.arange(6, dtype=np.int64).reshape(2, 3)
    work = Work(device, Precision.SINGLE, np.dtype(np.float32), image.shape)
    runs = whole_runs(image.shape)
    result = evaluate(work, Sequence(), Patch(image, runs), runs)
    assert np.shares_memory(result, image)
    assert result.dtype == np.int64


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from([1, 60, 400, 2**25]), st.sampled_from(["float32", "float64", "uint8", "float16"]))
def test_transforms_lie_within_their_bound(device: Device, data: st.DataObject, points: int, dtype: str) -> None:
    """In tiles of any size, in mixed modes, any parity and origin, anywhere in the image; NaN stays local."""
    shape = data.draw(shapes(max_side=12))
    step = replace(data.draw(correlations(len(shape), 6)), method="fft")
    image = data.draw(images(shape, finite=not dtype.startswith("f"), dtype=dtype))
    region = data.draw(regions(shape))
    wanted = tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True))
    precision = Precision.DOUBLE if dtype == "float64" else Precision.SINGLE
    sums = working_dtype(dtype, precision)
    work = Work(device, precision, sums, shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_TILE_POINTS", points)
        patch.setattr(tiles, "_TILE_POINTS_OF_PLANES", points)
        actual = evaluate(work, step, Patch(image, whole_runs(shape)), wanted)
    bound = transform_bound(step, np.nan_to_num(image.astype(np.float64), posinf=0, neginf=0), sums)
    expected = evaluate_whole(step, image)[region.slices]
    assert_close(actual, expected, np.full(expected.shape, bound))


def test_planes_beyond_a_face_are_filled_where_they_are_transformed_one_by_one(device: Device) -> None:
    """They were taken for the face itself, which stands side by side with nothing."""
    image, weights = np.array([[3, 2]], np.float32), [[0.0, 0.0], [0.5, 0.25]]
    step = Correlate(Stencil.correlate(weights, (-1, -1)), (BoundaryMode.CONSTANT, BoundaryMode.REFLECT), method="fft")
    wanted = ((0, 1),), ((0, 1),)
    work = Work(device, Precision.SINGLE, np.dtype(np.float32), image.shape)
    assert evaluate(work, step, Patch(image, whole_runs(image.shape)), wanted).item() == pytest.approx(0, abs=1e-6)
