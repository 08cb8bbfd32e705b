"""What several outputs share is done once, with the bits of each alone, in every way to drive blocks."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convolume
from convolume.boundary import BoundaryMode
from convolume.devices import Device
from convolume.devices._selection import choose_device, open_device
from convolume.execution import task
from convolume.execution.evaluate import Patch, Work, evaluate, fetched
from convolume.execution.in_memory import whole_runs
from convolume.execution.staged import evaluate_each
from convolume.numerics import Precision, cast_result, working_dtype
from convolume.operations import Combine, Correlate, Operation, Sequence, merge_axes, reach_of
from convolume.stages import SOURCE, Stages
from convolume.stencil import Stencil
from convolume.stores import memory
from convolume.testing.strategies import boundary_modes, cvals, images, operations, regions, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

STRATEGIES = ("windows", "overlap", "in_memory")
IMAGE = np.random.default_rng(0).random((30, 20, 22), dtype=np.float32)
# No thinner than any halo, so that overlaps merge none of them.
BLOCK = [15, 20, 22]


class Counting(Device):
    """The NumPy device, counting the voxels that each stencil gives."""

    def __init__(self) -> None:
        self.info = choose_device("numpy").info
        self.voxels: Counter[Stencil] = Counter()
        self._lock = threading.Lock()

    def correlate(
        self, padded: npt.NDArray[Any], stencil: Stencil, out: npt.NDArray[Any], precision: Precision
    ) -> None:
        """Count, and leave the rest to NumPy."""
        with self._lock:
            self.voxels[stencil] += out.size
        open_device(self.info).correlate(padded, stencil, out, precision)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Return the device that blocks run on."""
    device = Counting()
    monkeypatch.setattr(task, "open_device", lambda _: device)
    return device


@st.composite
def families(draw: st.DrawFn, ndim: int) -> list[Operation]:
    """Draw several operations that are made of the same few."""
    few = draw(st.lists(operations(ndim, max_side=3), min_size=1, max_size=3))
    one = st.sampled_from(few)
    chain = st.lists(one, max_size=3).map(lambda steps: Sequence(tuple(steps)))
    joined = st.builds(
        Combine, st.sampled_from(["add", "magnitude"]), st.lists(chain, min_size=1, max_size=3).map(tuple)
    )
    return draw(st.lists(st.one_of(chain, joined, st.builds(lambda *s: Sequence(s), one, joined, one)), max_size=4))


@st.composite
def passes(draw: st.DrawFn, ndim: int) -> Operation:
    """Draw passes along some axes, smooth or boxes, as filters make them."""
    steps = []
    for axis in draw(st.lists(st.sampled_from(range(ndim)), min_size=1, unique=True)):
        size = draw(st.sampled_from([2, 3, 5, 9, 12]))
        weights = np.full(size, 1 / size) if draw(st.booleans()) else np.arange(1.0, size + 1) / size**2
        weights = weights.reshape([size if here == axis else 1 for here in range(ndim)])
        steps.append(Correlate(Stencil.correlate(weights), (draw(boundary_modes()),) * ndim, draw(cvals())))
    return Sequence(tuple(steps))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_has_the_bits_that_it_has_alone(data: st.DataObject) -> None:
    """Anywhere in an image, chains and joins that share what they can; no stencil gives more voxels than before."""
    shape = data.draw(shapes(max_dims=2, max_side=9))
    image, family, region = data.draw(images(shape)), data.draw(families(len(shape))), data.draw(regions(shape))
    together, alone = Counting(), Counting()
    runs = whole_runs(shape)
    for wanted in (runs, tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True))):
        results = evaluate_each(_work(together, shape), family, Patch(image, runs), wanted)
        for operation, result in zip(family, results, strict=True):
            expected = evaluate(_work(alone, shape), operation, Patch(image, runs), wanted)
            np.testing.assert_array_equal(result, expected, strict=True)
    assert together.voxels <= alone.voxels


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_a_device_rounds_has_the_bits_of_the_cast(device: Device, data: st.DataObject) -> None:
    """Programs for one stencil, passes and boxes, the general one, and joins; NaN and what does not fit too."""
    shape = data.draw(shapes(max_side=20))
    family = [*data.draw(families(len(shape))), *data.draw(st.lists(passes(len(shape)), max_size=2))]
    image = data.draw(images(shape, finite=False)) * np.float32(300)
    region, precision = data.draw(regions(shape)), data.draw(st.sampled_from([Precision.SINGLE, Precision.DOUBLE]))
    wanted, runs = tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True)), whole_runs(shape)
    prepared = device.prepared() if data.draw(st.booleans()) else device
    work = Work(prepared, precision, working_dtype(image.dtype, precision), shape)
    integers = st.sampled_from(["int8", "int16", "int32", "uint8", "uint16", "uint64"]).map(np.dtype)
    dtypes = [data.draw(st.none() | integers) for _ in family]
    results = evaluate_each(work, family, Patch(image, runs), wanted, dtypes)
    for operation, dtype, result in zip(family, dtypes, results, strict=True):
        expected = evaluate(work, operation, Patch(image, runs), wanted)
        if dtype is None:
            np.testing.assert_array_equal(result, expected, strict=True)
        else:
            np.testing.assert_array_equal(
                cast_result(result, dtype), cast_result(fetched(expected), dtype), strict=True
            )


def test_whole_numbers_are_written_as_they_are_summed(device: Device) -> None:
    """Dense kernels and passes of a device that rounds give the dtype of the output, without floats on the way."""
    image, runs = (IMAGE * 255).astype(np.uint16), whole_runs(IMAGE.shape)
    work = Work(device.prepared(), Precision.SINGLE, np.dtype(np.float32), image.shape)
    kernel = Correlate(Stencil.correlate(np.full((3, 3, 3), 1 / 28)), (BoundaryMode.MIRROR,) * 3)
    lines = [np.full(shape, 1 / 9) for shape in ((9, 1, 1), (1, 9, 1), (1, 1, 9))]
    boxes = Sequence(tuple(Correlate(Stencil.correlate(line), (BoundaryMode.MIRROR,) * 3) for line in lines))
    for operation in (kernel, boxes, Sequence((boxes, kernel))):
        (result,) = evaluate_each(work, [operation], Patch(image, runs), runs, [np.dtype(np.uint16)])
        assert (result.dtype == np.uint16) == device.rounds(np.dtype(np.uint16))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_stages_need_of_the_source_what_the_operations_read(data: st.DataObject) -> None:
    """Cutting changes nothing of it; and every stage comes after those that it uses."""
    shape = data.draw(shapes(max_dims=2, max_side=9))
    family, region = data.draw(families(len(shape))), data.draw(regions(shape))
    wanted = tuple(((a, b),) for a, b in zip(region.start, region.stop, strict=True))
    stages = Stages.of(family)
    needs = stages.needs(wanted, shape)
    read = [reach_of(operation, wanted, shape) for operation in family]
    assert (needs[SOURCE] == merge_axes(*read)) if read else needs == {}
    assert all(source < number for number, stage in enumerate(stages.stages) for source in stage.sources)


def _work(device: Device, shape: tuple[int, ...]) -> Work:
    return Work(device, Precision.SINGLE, np.dtype(np.float32), shape)


class Holding(Counting):
    """A device that takes what it holds through its own memory, where there are no integers of 64 bits."""

    def hold(self, voxels: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return other voxels than those that were given."""
        return voxels.astype(dtype).astype(voxels.dtype)


def test_copies_never_meet_the_device() -> None:
    """Alone and beside filters, voxels stay what they are: no float on the way holds these."""
    image = np.array([[2**53 + 1, -(2**62) - 1, 7]])
    runs, box = whole_runs(image.shape), Sequence((BOX,))
    for family in ([Sequence()], [box, Sequence()], [Sequence(), box, Sequence()]):
        results = list(evaluate_each(_work(Holding(), image.shape), family, Patch(image, runs), runs))
        for operation, result in zip(family, results, strict=True):
            assert operation == box or result.tolist() == image.tolist()


BOX = Correlate(Stencil.correlate([[1.0]]), (BoundaryMode.NEAREST,) * 2)
GAUSSIAN = {"gaussian": {"sigma": 1.0}}
OUTPUTS: dict[str, list[Any]] = {
    "smooth": [GAUSSIAN],
    "edges": [GAUSSIAN, {"sobel": {"axis": "x"}}],
    "spots": [{"difference_of_gaussians": {"low_sigma": 1.0, "high_sigma": 2.0}}],
    "large spots": [{"difference_of_gaussians": {"low_sigma": 2.0, "high_sigma": 3.0}}],
    "sharp edges": [GAUSSIAN, {"sobel": {"axis": "x"}}, {"unsharp_mask": {"sigma": 1.0}}],
}


@pytest.fixture
def source() -> Iterator[str]:
    """Return the path of an image."""
    memory.put("staged", IMAGE)
    yield "memory:staged"
    memory.drop("staged")


def run(source: str, strategy: str, *names: str) -> dict[str, npt.NDArray[Any]]:
    """Return outputs that were made in one run, in blocks."""
    block = {} if strategy == "in_memory" else {"block": BLOCK}
    outputs = {
        name: {"path": f"memory:{name}", "steps": OUTPUTS[name], "pyramid": False, "chunks": BLOCK} for name in names
    }
    workflow = {"input": {"path": source}, "outputs": outputs, "strategy": strategy, **block}
    convolume.run(workflow, config={"cluster": "in_process", "device": "numpy"})
    try:
        return {name: memory.get(name) for name in names}
    finally:
        for name in names:
            memory.drop(name)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_shared_step_is_done_once(counting: Counting, source: str, strategy: str) -> None:
    """As often as for the output that needs most of it: a prefix of chains, and a branch of a join."""
    alone, voxels = {}, {}
    for name in OUTPUTS:
        counting.voxels.clear()
        alone[name] = run(source, strategy, name)[name]
        voxels[name] = gaussian_voxels(counting)
    counting.voxels.clear()
    together = run(source, strategy, *OUTPUTS)
    for name, result in together.items():
        np.testing.assert_array_equal(result, alone[name], err_msg=name)
    # Once of the image and once of the edges with sigma 1, once with sigma 2 and 3.
    expected = {"1": voxels["sharp edges"]["1"], "2": voxels["large spots"]["2"], "3": voxels["large spots"]["3"]}
    assert gaussian_voxels(counting) == expected
    if strategy == "in_memory":
        assert expected == {"1": 6 * IMAGE.size, "2": 3 * IMAGE.size, "3": 3 * IMAGE.size}


def gaussian_voxels(counting: Counting) -> dict[str, int]:
    """Return how many voxels passes of each sigma gave; the Gaussians are cut at four sigmas."""
    of_size = {size: sum(n for stencil, n in counting.voxels.items() if stencil.size == size) for size in (9, 17, 25)}
    return dict(zip("123", of_size.values(), strict=True))


def test_the_plan_tells_what_is_shared(source: str) -> None:
    """Whole steps where there are such, else the step that it is a part of; and for which outputs."""
    outputs = {name: {"path": f"memory:{name}", "steps": steps} for name, steps in OUTPUTS.items()}
    plan = convolume.plan({"input": {"path": source}, "outputs": outputs})
    assert [(shared.steps, shared.is_part, shared.outputs) for shared in plan.shared] == [
        (("gaussian",), False, ("smooth", "edges", "spots", "sharp edges")),
        (("gaussian", "sobel"), False, ("edges", "sharp edges")),
        (("difference_of_gaussians",), True, ("spots", "large spots")),
    ]
    assert convolume.plan({"input": {"path": source}, "outputs": {"spots": outputs["spots"]}}).shared == ()
