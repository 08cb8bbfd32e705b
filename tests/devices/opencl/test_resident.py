"""Volumes that stay on a device with memory of its own: the same numbers, and no way to the host between steps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.devices import Pass
from convolume.devices.opencl import _transfers, available
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._resident import Resident
from convolume.devices.opencl._transfers import Transfers
from convolume.errors import DeviceError
from convolume.execution.evaluate import Patch, Work, boxes_of, evaluate, fetched
from convolume.execution.in_memory import filter_array
from convolume.numerics import Precision
from convolume.operations import Combine, Correlate, Operation, Sequence, reach_of
from convolume.stencil import Stencil
from convolume.testing.devices import layouts
from convolume.testing.strategies import kernels, origins

Array = npt.NDArray[Any]

pytestmark = pytest.mark.skipif(not available(), reason="this machine has no OpenCL")

SETTINGS = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
FLOAT32 = np.dtype(np.float32)


@pytest.fixture(scope="module")
def processor() -> OpenCLDevice:
    """Return the device as it is."""
    return OpenCLDevice(available()[0])


def _held(device: OpenCLDevice, voxels: Array) -> Resident:
    held = device.hold(voxels, FLOAT32)
    assert isinstance(held, Resident)
    return held


@st.composite
def operations(draw: st.DrawFn, ndim: int, depth: int = 2) -> Operation:
    """Draw a tree of operations, with branches that do nothing."""
    kind = draw(st.sampled_from(["weigh", "weigh", "chain", "join"] if depth else ["weigh"]))
    if kind == "weigh":
        kernel = draw(kernels(ndim, max_side=4))
        modes = tuple(draw(st.sampled_from(list(BoundaryMode))) for _ in range(ndim))
        return Correlate(
            Stencil.correlate(kernel, draw(origins(kernel.shape))), modes, draw(st.sampled_from([0.0, 1.5]))
        )
    inner = operations(ndim, depth - 1)
    if kind == "chain":
        return Sequence(tuple(draw(st.lists(inner, max_size=3))))
    return Combine(
        draw(st.sampled_from(["add", "subtract", "magnitude"])), tuple(draw(st.lists(inner, min_size=1, max_size=3)))
    )


@SETTINGS
@given(data=st.data(), ndim=st.integers(1, 3))
def test_a_block_has_the_bits_of_the_processor(
    plain_gpu: OpenCLDevice, processor: OpenCLDevice, data: st.DataObject, ndim: int
) -> None:
    """Any tree, on any block of an image; the processor does it whole."""
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    image = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=shape).astype(np.float32)
    operation = data.draw(operations(ndim))
    starts = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    wanted = tuple(((a, data.draw(st.integers(a + 1, n))),) for a, n in zip(starts, shape, strict=True))
    needs = reach_of(operation, wanted, shape)
    voxels = np.empty(tuple(sum(b - a for a, b in runs) for runs in needs), np.float32)
    for place, box in boxes_of(needs):
        voxels[place] = image[tuple(slice(a, b) for a, b in box)]
    work = Work(plain_gpu, Precision.SINGLE, FLOAT32, shape)
    actual = fetched(evaluate(work, operation, work.held(Patch(voxels, needs)), wanted))
    whole = filter_array(image, operation, processor, Precision.SINGLE, FLOAT32)
    expected = whole[tuple(slice(a, b) for ((a, b),) in wanted)]
    # A root may be rounded otherwise.
    np.testing.assert_allclose(actual, expected, rtol=0 if "magnitude" not in repr(operation) else 1e-4, atol=1e-6)


def test_a_chain_makes_one_upload_and_one_download(tiling_gpu: OpenCLDevice, processor: OpenCLDevice) -> None:
    """Four steps, a branch among them, and nothing of them on the host."""
    modes = (BoundaryMode.REFLECT,) * 3
    steps = [Correlate(Stencil.correlate(np.full((3, 3, 3), weight)), modes) for weight in (0.1, -0.3, 0.2)]
    passes = tuple(Correlate(Stencil.correlate([0.2, 1.0, 0.3]).on_axes((axis,), 3), modes) for axis in range(3))
    chain = Sequence((steps[0], Combine("add", (steps[1], Sequence())), Sequence(passes), steps[2]))
    image = np.random.default_rng(0).normal(size=(20, 24, 40)).astype(np.float32)
    transfers = _held(tiling_gpu, image).home.transfers
    before = transfers.uploads, transfers.downloads
    actual = filter_array(image, chain, tiling_gpu, Precision.SINGLE, np.float32)
    assert (transfers.uploads - before[0], transfers.downloads - before[1]) == (1, 1)
    assert actual.tobytes() == filter_array(image, chain, processor, Precision.SINGLE, np.float32).tobytes()


def test_a_transform_goes_by_the_host(plain_gpu: OpenCLDevice, processor: OpenCLDevice) -> None:
    """There and back, and the chain goes on where it was."""
    modes = (BoundaryMode.MIRROR,) * 2
    stencil = Stencil.correlate(np.random.default_rng(1).normal(size=(9, 8)))
    chain = Sequence((Correlate(stencil, modes, method="fft"), Correlate(Stencil.correlate([[1.0, -2.0]]), modes)))
    image = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    transfers = _held(plain_gpu, image).home.transfers
    before = transfers.uploads, transfers.downloads
    actual = filter_array(image, chain, plain_gpu, Precision.SINGLE, np.float32)
    assert (transfers.uploads - before[0], transfers.downloads - before[1]) == (2, 2)
    np.testing.assert_array_equal(actual, filter_array(image, chain, processor, Precision.SINGLE, np.float32))


@pytest.mark.skipif(not available() or available()[0].kind != "cpu", reason="the device is no processor")
def test_arrays_stay_where_they_are_on_a_processor(processor: OpenCLDevice) -> None:
    """It reads them there."""
    image = np.ones((4, 40), np.float32)
    assert processor.hold(image, FLOAT32) is image


@pytest.mark.parametrize(("source", "target"), [("complex64", "float32"), ("uint8", "uint8")])
def test_what_a_gpu_cannot_end_stays_on_the_host(plain_gpu: OpenCLDevice, source: str, target: str) -> None:
    """Whole numbers between two steps are cast as scipy does, which programs do not for all dtypes."""
    image = np.ones((4, 40), source)
    assert plain_gpu.hold(image, np.dtype(target)) is image


@settings(SETTINGS, max_examples=60)
@given(data=st.data(), dtype=st.sampled_from(["float32", "float16", "bool", ">i4", "uint64"]))
def test_transfers_keep_voxels(plain_gpu: OpenCLDevice, data: st.DataObject, dtype: str) -> None:
    """In pieces, from and to arrays that lie anyhow, boxes too."""
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(data.draw(st.integers(1, 4))))
    image = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    box = tuple(slice(a := data.draw(st.integers(0, n - 1)), data.draw(st.integers(a + 1, n))) for n in shape)
    queue = plain_gpu.hold(np.ones(1, np.float32), FLOAT32)
    assert isinstance(queue, Resident)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_transfers, "PIECE_BYTES", data.draw(st.sampled_from([8, 64, 1000])))
        patch.setattr(queue.home, "transfers", Transfers(queue.home.queue))
        held = _held(plain_gpu, data.draw(layouts(len(shape))).holding(image))
        _, out = data.draw(layouts(len(shape))).empty(image[box].shape, np.float64)
        np.testing.assert_array_equal(held.fetch(), image)
        np.testing.assert_array_equal(held[box].fetch(out), image[box])


def test_threads_have_queues_of_their_own(tiling_gpu: OpenCLDevice) -> None:
    """They work at the same time, and their voxels do not mix."""
    step = Correlate(Stencil.correlate(np.full((2, 3, 3), 0.1)), (BoundaryMode.REFLECT,) * 3)
    images = [np.random.default_rng(seed).normal(size=(20, 24, 40)).astype(np.float32) for seed in range(12)]
    expected = [filter_array(image, step, tiling_gpu, Precision.SINGLE, np.float32) for image in images]
    with ThreadPoolExecutor(4) as pool:
        homes = set(pool.map(lambda image: _held(tiling_gpu, image).home, images))
        actual = list(
            pool.map(lambda image: filter_array(image, step, tiling_gpu, Precision.SINGLE, np.float32), images)
        )
    assert all(a.tobytes() == b.tobytes() for a, b in zip(actual, expected, strict=True))
    assert len({id(home.queue) for home in homes}) == len(homes)


def test_voxels_of_two_devices_do_not_meet(plain_gpu: OpenCLDevice) -> None:
    """A result on the host is no result of voxels on the device."""
    held = _held(plain_gpu, np.ones((4, 40), np.float32))
    step = Pass(Stencil.correlate([[1.0]]), (np.arange(4), np.arange(40)), 0.0)
    with pytest.raises(DeviceError, match="voxels and result are held by different devices"):
        plain_gpu.correlate_passes(held, [step], np.ones((4, 40), np.float32), Precision.SINGLE)


def test_what_is_too_large_stays_on_the_host(plain_gpu: OpenCLDevice) -> None:
    """One allocation must hold it; the host then cuts it up."""
    image = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**20, 2**20), (0, 0))
    assert plain_gpu.hold(image, FLOAT32) is image
