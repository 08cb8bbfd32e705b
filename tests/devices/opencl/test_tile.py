"""Tiles give the bits of voxels that are looked up one by one, and those are the bits of filled copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.devices import Pass
from convolume.devices.numpy import NumpyDevice
from convolume.devices.numpy import available as numpy_devices
from convolume.devices.opencl import _state, _tile, _tile_job, available, rendered_source
from convolume.devices.opencl._jobs import Numbers, Traits
from convolume.devices.opencl._resident import Resident
from convolume.devices.opencl._tile import tile_of
from convolume.devices.opencl._tile_job import LOCAL_BYTES, SUM_REGISTERS, Limits, TileJob
from convolume.execution.in_memory import filter_array
from convolume.numerics import Precision
from convolume.operations import Correlate, Operation, Sequence
from convolume.stencil import Stencil
from convolume.testing.devices import layouts

if TYPE_CHECKING:
    from tests.devices.opencl.comparison import Stepwise

    from convolume.devices import Device
    from convolume.devices.opencl._device import OpenCLDevice

Array = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(not available(), reason="this machine has no OpenCL")

SETTINGS = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
MARK = 77
# A few forms, since each is compiled: even and odd, with and without gaps, over every set of axes.
FORMS: dict[str, Array] = {
    "even": np.ones((2, 4, 3)),
    "plane": np.ones((1, 4, 3)),
    "gaps": np.array([[[1, 0, 0, 1]], [[0, 0, 0, 0]], [[0, 1, 0, 0]]]),
    "line z": np.ones((9, 1, 1)),
    "line x": np.ones((1, 1, 9)),
}
# Passes along z, y and x, and which of them are boxes.
CHAINS = (
    ((5, 3, 4), ()),
    ((4, 5, 1), ()),
    ((7, 5, 6), (0, 1, 2)),
    ((3, 13, 15), (1, 2)),
    ((1, 4, 3), (1,)),
    ((1, 1, 9), (2,)),
    ((12, 1, 1), (0,)),
)


def _image(data: st.DataObject, ndim: int) -> Array:
    """Draw an image whose tiles have few shapes, but end anywhere."""
    few, many = st.tuples(st.just(1), st.integers(3, 4)), st.tuples(st.integers(17, 32), st.integers(33, 64))
    inner = data.draw(st.one_of(few, many, many))
    outer = [data.draw(st.integers(1, 9 if axis == ndim - 3 else 3)) for axis in range(ndim - 2)]
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    image = (generator.normal(size=(*outer, *inner)) * 50 + 100).astype(np.float32)
    if data.draw(st.booleans()):
        image[tuple(data.draw(st.integers(0, n - 1)) for n in image.shape)] = data.draw(
            st.sampled_from([np.nan, np.inf])
        )
    return image


def _step(data: st.DataObject, weights: Array, ndim: int) -> Correlate:
    """Draw faces and an origin for weights over the last three axes."""
    origins = tuple(data.draw(st.integers(-(n // 2), (n - 1) // 2)) for n in weights.shape)
    stencil = Stencil.correlate(weights, origins).on_axes(range(ndim - 3, ndim), ndim)
    modes = tuple(data.draw(st.sampled_from(list(BoundaryMode))) for _ in range(ndim))
    return Correlate(stencil, modes, data.draw(st.sampled_from([0.0, 2.5, np.nan, np.inf])))


def _random(form: Array, data: st.DataObject) -> Array:
    values = np.random.default_rng(data.draw(st.integers(0, 9))).normal(size=form.shape)
    return np.where(form, values, 0.0)


def _bits(operation: Operation, image: Array, device: Device, precision: Precision = Precision.SINGLE) -> bytes:
    dtype = np.float32 if precision is Precision.SINGLE else np.float64
    return filter_array(image, operation, device, precision, dtype).tobytes()


@SETTINGS
@given(data=st.data(), form=st.sampled_from(sorted(FORMS)), ndim=st.sampled_from([3, 3, 4]))
def test_bits_of_a_stencil(
    tiling_gpu: OpenCLDevice, plain_gpu: OpenCLDevice, stepwise: Stepwise, data: st.DataObject, form: str, ndim: int
) -> None:
    """Any faces, origins, voxels that lie anyhow, NaN; as tiles, looked up, and on filled copies."""
    image = _image(data, ndim)
    step = _step(data, _random(FORMS[form], data), ndim)
    image = data.draw(layouts(ndim)).holding(image)
    expected = _bits(step, image, stepwise)
    assert _bits(step, image, plain_gpu) == expected
    memory, out = data.draw(layouts(ndim)).empty(image.shape, np.float32)
    filter_array(image, step, tiling_gpu, Precision.SINGLE, np.float32, out)
    assert out.tobytes() == expected
    # Nothing beside the output is written.
    out[...] = np.array([MARK] * 4, dtype=np.uint8).view(np.float32)
    assert (memory == MARK).all()


@SETTINGS
@given(data=st.data(), chain=st.sampled_from(CHAINS), ndim=st.sampled_from([3, 3, 4]))
def test_bits_of_passes(
    tiling_gpu: OpenCLDevice,
    plain_gpu: OpenCLDevice,
    data: st.DataObject,
    chain: tuple[tuple[int, ...], tuple[int, ...]],
    ndim: int,
) -> None:
    """Passes done in one go have the bits of one after the other, each with faces of its own."""
    extents, boxes = chain
    lines = {axis: np.ones(np.where(np.arange(3) == axis, n, 1)) for axis, n in enumerate(extents) if n > 1}
    weights = [line / 7 if axis in boxes else _random(line, data) for axis, line in lines.items()]
    operation = Sequence(tuple(_step(data, each, ndim) for each in weights))
    image = _image(data, ndim)
    expected = _bits(operation, image, plain_gpu)
    memory, out = data.draw(layouts(ndim)).empty(image.shape, np.float32)
    filter_array(image, operation, tiling_gpu, Precision.SINGLE, np.float32, out)
    assert out.tobytes() == expected
    out[...] = np.array([MARK] * 4, dtype=np.uint8).view(np.float32)
    assert (memory == MARK).all()


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1)])
def test_passes_in_any_order(tiling_gpu: OpenCLDevice, stepwise: Stepwise, order: tuple[int, ...]) -> None:
    """What is not first to last goes pass by pass, or in two parts."""
    image = np.random.default_rng(3).normal(size=(6, 9, 40)).astype(np.float32)
    modes = (BoundaryMode.REFLECT,) * 3
    steps = tuple(Correlate(Stencil.correlate([0.3, 1.0, -2.0]).on_axes((axis,), 3), modes) for axis in order)
    assert _bits(Sequence(steps), image, tiling_gpu) == _bits(Sequence(steps), image, stepwise)


@pytest.mark.parametrize("dtype", ["bool", "float16", ">i4", "uint64"])
@pytest.mark.parametrize("precision", [Precision.SINGLE, Precision.SCIPY])
def test_dtypes_are_read(tiling_gpu: OpenCLDevice, stepwise: Stepwise, dtype: str, precision: Precision) -> None:
    """Any source, summed in float32 or in float64."""
    image = (np.random.default_rng(4).normal(size=(4, 5, 40)) * 30).astype(dtype)
    step = Correlate(Stencil.correlate(np.arange(1.0, 13.0).reshape(2, 3, 2)), (BoundaryMode.CONSTANT,) * 3, 0.7)
    if precision is Precision.SINGLE and not np.can_cast(image.dtype, np.float32, "safe"):
        precision = Precision.DOUBLE
    assert _bits(step, image, tiling_gpu, precision) == _bits(step, image, stepwise, precision)


@pytest.mark.parametrize("target", ["uint8", "uint64"])
def test_whole_numbers_are_scipys(tiling_gpu: OpenCLDevice, plain_gpu: OpenCLDevice, target: str) -> None:
    """Lines in pairs, dense kernels and passes: to the bit, in the target's dtype between two steps too."""
    image = np.random.default_rng(5).integers(0, 200, (5, 6, 40), np.uint8)
    modes = (BoundaryMode.MIRROR,) * 3
    lines = tuple(Correlate(Stencil.line([0.2, 0.5, 0.2]).on_axes((axis,), 3), modes) for axis in range(3))
    passes = tuple(Correlate(Stencil.correlate([0.4, 0.5, 0.2]).on_axes((axis,), 3), modes) for axis in range(3))
    dense = Correlate(Stencil.correlate(np.full((2, 3, 2), 0.1)), modes)
    for operation in (Sequence(lines), Sequence(passes), dense):
        expected = filter_array(image, operation, NumpyDevice(numpy_devices()[0]), Precision.SCIPY, target)
        for device in (tiling_gpu, plain_gpu):
            actual = filter_array(image, operation, device, Precision.SCIPY, target)
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("extents", [(2, 3, 3), (1, 5, 1)])
def test_marches_are_cut_for_many_processors(tiling_gpu: OpenCLDevice, extents: tuple[int, int, int]) -> None:
    """Pieces along the axis that is marched have the bits of the whole."""
    image = np.random.default_rng(6).normal(size=(41, 5, 20)).astype(np.float32)
    step = Correlate(Stencil.correlate(np.random.default_rng(7).normal(size=extents)), (BoundaryMode.WRAP,) * 3)
    expected = _bits(step, image, tiling_gpu)
    held = tiling_gpu.hold(image, image.dtype)
    assert isinstance(held, Resident)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held.home, "limits", Limits(LOCAL_BYTES, 256, compute_units=500, parameter_bytes=1024))
        assert _bits(step, image, tiling_gpu) == expected


@pytest.mark.parametrize("kernel", ["stencil", "passes"])
@pytest.mark.parametrize("form", ["weights in a list", "long places"])
def test_other_forms(tiling_gpu: OpenCLDevice, kernel: str, form: str) -> None:
    """More weights than a call may have, and planes of more voxels than fit 32 bits: the same bits."""
    generator = np.random.default_rng(8)
    image, modes = generator.normal(size=(9, 10, 70)).astype(np.float32), (BoundaryMode.CONSTANT,) * 3
    steps: Operation = Correlate(Stencil.correlate(generator.normal(size=(3, 2, 4))), modes, 1.5)
    if kernel == "passes":
        lines = (Stencil.correlate(generator.normal(size=n)).on_axes((axis,), 3) for axis, n in enumerate((3, 4, 5)))
        steps = Sequence(tuple(Correlate(line, modes, 1.5) for line in lines))
    expected = _bits(steps, image, tiling_gpu)
    held = tiling_gpu.hold(image, image.dtype)
    assert isinstance(held, Resident)
    with pytest.MonkeyPatch.context() as patch:
        if form == "long places":
            patch.setattr(_tile, "LAST_SHORT_PLACE", 0)
        else:
            patch.setattr(held.home, "limits", Limits(LOCAL_BYTES, 256, 4, parameter_bytes=0))
        made: list[TileJob] = []
        patch.setattr(_tile_job, "TileJob", lambda *told: made.append(TileJob(*told)) or made[-1])
        assert _bits(steps, image, tiling_gpu) == expected
        assert made
        assert all(job.wide_planes if form == "long places" else not job.weights_by_value for job in made)


def _job(
    extents: tuple[int, ...], limits: Limits, dtype: str = "float32", weights: Array | None = None
) -> TileJob | None:
    """Return the job for a stencil on an image of 64 voxels a side."""
    image = np.lib.stride_tricks.as_strided(np.zeros(1, dtype), (64,) * len(extents), (0,) * len(extents))
    stencil = Stencil.correlate(np.arange(1.0, 1 + np.prod(extents)).reshape(extents) if weights is None else weights)
    step = Pass(stencil, tuple(np.zeros(63 + n, np.intp) for n in extents), 0.0)
    tile = tile_of(image, [step], image, Numbers(dtype, dtype, dtype, exact=False), limits)
    return tile.job if tile else None


@given(
    extents=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)),
    local_kib=st.sampled_from([16, 32, 48, 1024]),
    work_items=st.sampled_from([64, 128, 256, 1024]),
    dtype=st.sampled_from(["float32", "float64"]),
)
@settings(deadline=None, max_examples=150)
def test_a_group_stays_within_the_device(
    extents: tuple[int, int, int], local_kib: int, work_items: int, dtype: str
) -> None:
    """Local memory, work items and registers."""
    job = _job(extents, Limits(local_kib * 1024, work_items, 2, 4352), dtype)
    if job is not None:
        assert job.local_bytes <= min(local_kib * 1024, LOCAL_BYTES)
        assert job.columns * job.lines <= work_items
        assert job.rows * extents[0] * np.dtype(dtype).itemsize <= 4 * SUM_REGISTERS


@pytest.mark.parametrize(
    "extents", [(3, 3, 3), (7, 7, 7), (11, 11, 11), (1, 1, 31), (17, 1, 1), (1, 65, 1), (5, 9, 13)]
)
def test_common_stencils_get_tiles(extents: tuple[int, ...]) -> None:
    """On what every GPU offers."""
    assert _job(extents, Limits(48 * 1024, 256, 100, 4352)) is not None


@pytest.mark.parametrize(
    ("extents", "weights"),
    [
        ((3, 3, 3, 3), None),
        ((200, 1, 1), None),
        ((3, 3, 3), np.zeros((3, 3, 3))),
        ((64, 64, 64), np.ones((64, 64, 64))),
    ],
    ids=["four axes", "too many sums", "no weight", "too many weights"],
)
def test_what_gets_none(extents: tuple[int, ...], weights: Array | None) -> None:
    """Such stencils are looked up voxel by voxel."""
    assert _job(extents, Limits(48 * 1024, 256, 100, 4352), weights=weights) is None


@pytest.mark.parametrize(
    ("kernel", "line"), [(np.ones((3, 3, 3)), "a work group marches"), (np.ones((3,) * 4), "Any stencil")]
)
def test_source_is_that_of_a_gpu(monkeypatch: pytest.MonkeyPatch, kernel: Array, line: str) -> None:
    """What is shown is what runs there."""
    monkeypatch.setattr(_state, "traits_of", lambda _: Traits(on_cpu=False, vector_bytes=16, loose_pointers=False))
    shape = (9,) * kernel.ndim
    source = rendered_source(available()[0], Stencil.correlate(kernel), shape, ("uint8", "float32"), Precision.SINGLE)
    assert line in source
