"""The keystone: the whole road, from a workflow to a finished image, equals scipy.ndimage on the whole array.

Hypothesis draws image, filters, boundary, blocks, strategy and device together. Where weights and voxels are small
whole numbers every sum is exact and results are compared with ``==``; the others voxel by voxel with γₙ·(|w| * |x|).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, get_args
from uuid import uuid4

import numpy as np
import pytest
from distributed import Client, LocalCluster
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import convolume
from convolume.filters import Filter, make_filter
from convolume.operations import Sequence, correlations
from convolume.regions import Region
from convolume.stores import Format, memory, open_source
from convolume.testing.evaluation import assert_close, evaluate_whole, rounding_bound, scipy_is_sound, transform_bound
from convolume.testing.filters import context_of
from convolume.testing.strategies import block_shapes, boundary_modes, cvals, images, kernels, origins, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from convolume.boundary import BoundaryMode

DEVICES = ("opencl", "numpy")
STRATEGIES = ("windows", "overlap", "in_memory")

thorough = settings(deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Road:
    """One drawn run: what is filtered, how, and in which blocks."""

    image: Any
    steps: tuple[dict[str, Any], ...]
    mode: BoundaryMode
    cval: float
    block: tuple[int, ...]
    strategy: str
    device: str

    @property
    def filters(self) -> list[Filter]:
        """The filters of the steps."""
        return [make_filter(name, **parameters) for step in self.steps for name, parameters in step.items()]

    def workflow(self, source: str, target: str, **output: Any) -> dict[str, Any]:
        """Return the run as a workflow."""
        chunks = [min(b, n) for b, n in zip(self.block, self.image.shape, strict=True)]
        return {
            "input": {"path": source},
            "mode": self.mode.value,
            "cval": self.cval,
            "strategy": self.strategy,
            "block": chunks,
            "outputs": {"result": {"path": target, "steps": list(self.steps), "chunks": chunks, **output}},
        }


@st.composite
def steps(draw: st.DrawFn, ndim: int) -> dict[str, Any]:
    """Draw one filter with its parameters, for an image of `ndim` axes."""
    space = min(ndim, 3)
    name = draw(
        st.sampled_from(["convolve", "correlate", "convolve", "correlate", "box", "gaussian", "laplace", "sobel"])
    )
    if name in {"convolve", "correlate"}:
        kernel = draw(kernels(draw(st.integers(1, space)), max_side=5))
        return {name: {"kernel": kernel.tolist(), "origin": list(draw(origins(kernel.shape)))}}
    if name == "box":
        sizes = draw(st.lists(st.integers(1, 5), min_size=space, max_size=space))
        return {name: {"size": sizes, "statistic": draw(st.sampled_from(["mean", "sum"]))}}
    if name == "gaussian":
        return {name: {"sigma": draw(st.sampled_from([0.4, 0.8, 1.3])), "order": draw(st.sampled_from([0, 0, 1]))}}
    return {name: {} if name == "laplace" else {"axis": draw(st.integers(-space, space - 1))}}


@st.composite
def roads(draw: st.DrawFn, strategies: tuple[str, ...] = STRATEGIES, min_dims: int = 1) -> Road:
    """Draw a run."""
    shape = draw(shapes(min_dims, 4, 12))
    return Road(
        image=draw(images(shape, dtype=draw(st.sampled_from(["float32", "float32", "float64", "int16"])))),
        steps=tuple(draw(st.lists(steps(len(shape)), max_size=2))),
        mode=draw(boundary_modes()),
        cval=draw(cvals()),
        block=draw(block_shapes(shape)),
        strategy=draw(st.sampled_from(strategies)),
        device=draw(st.sampled_from(DEVICES)),
    )


def expected_of(road: Road) -> tuple[Any, Any]:
    """Return scipy's result on the whole image in float64, and how far float32 sums may lie from it."""
    context = context_of(road.image.ndim, mode=road.mode, cval=road.cval)
    operation = Sequence(tuple(step.operation(context) for step in road.filters))
    inner = list(correlations(operation))
    assume(all(scipy_is_sound(road.image.shape, step.stencil.shape, road.mode) for step in inner))
    result = reduce(lambda image, step: step.reference(image, context), road.filters, road.image.astype(np.float64))
    is_whole = np.array_equal(road.image, np.rint(road.image))
    is_exact = is_whole and all(np.array_equal(c.stencil.weights, np.rint(c.stencil.weights)) for c in inner)
    sums = np.float64 if road.image.dtype == np.float64 else np.float32
    return result, np.zeros(result.shape) if is_exact else rounding_bound(operation, road.image, sums)


def result_in_memory(road: Road) -> Any:
    """Run a road from memory to memory and return the result."""
    name = uuid4().hex
    memory.put(name, road.image)
    try:
        workflow = road.workflow(f"memory:{name}", f"memory:{name}-result", pyramid=False)
        record = convolume.run(workflow, config={"cluster": "in_process", "device": road.device})
        assert record.output_voxels == road.image.size
        assert record.strategy == road.strategy
        return memory.get(f"{name}-result")
    finally:
        memory.drop(name)
        memory.drop(f"{name}-result")


@st.composite
def transformed_roads(draw: st.DrawFn) -> Road:
    """Draw a run of one dense kernel by the Fourier transform; some voxels are NaN or infinite."""
    road = draw(roads())
    kernel = draw(kernels(draw(st.integers(1, min(road.image.ndim, 3))), max_side=7))
    parameters = {"kernel": kernel.tolist(), "origin": list(draw(origins(kernel.shape))), "method": "fft"}
    is_float = road.image.dtype.kind == "f"
    image = draw(images(road.image.shape, dtype=road.image.dtype, finite=not is_float))
    return replace(road, image=image, steps=({draw(st.sampled_from(["convolve", "correlate"])): parameters},))


@given(road=transformed_roads())
@settings(thorough, max_examples=300)
def test_transforms_on_the_whole_road_lie_within_their_bound(road: Road) -> None:
    """From memory to memory, in any blocks; by norms, and NaN stays where it is weighed."""
    (step,) = road.filters
    operation = step.operation(context_of(road.image.ndim, mode=road.mode, cval=road.cval))
    (correlation,) = correlations(operation)
    finite = np.nan_to_num(road.image.astype(np.float64), posinf=0, neginf=0)
    sums = np.float64 if road.image.dtype == np.float64 else np.float32
    bound = transform_bound(correlation, finite, sums)
    expected = evaluate_whole(operation, road.image)
    assert_close(result_in_memory(road), expected, np.full(expected.shape, bound), road.strategy)


@given(road=roads())
@settings(thorough, max_examples=2000)
def test_whole_road_equals_scipy(road: Road) -> None:
    """From memory to memory, in every way to drive blocks, on every device."""
    result = result_in_memory(road)
    is_copy_or_float = not road.steps or road.image.dtype.kind == "f"
    assert result.dtype == (road.image.dtype if is_copy_or_float else np.float32)
    assert_close(result, *expected_of(road), note=f"{road.strategy} on {road.device}")


@given(road=roads(), data=st.data())
@settings(thorough, max_examples=400)
def test_bits_depend_neither_on_blocks_nor_on_strategy(road: Road, data: st.DataObject) -> None:
    """Two block shapes and two strategies on one device: the same bits, reals and NaN included."""
    shape = road.image.shape
    other = Road(
        road.image,
        road.steps,
        road.mode,
        road.cval,
        data.draw(block_shapes(shape)),
        data.draw(st.sampled_from(STRATEGIES)),
        road.device,
    )
    assert result_in_memory(road).tobytes() == result_in_memory(other).tobytes()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two worker processes of the user's own, which runs in Python join."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0
        ) as cluster,
        Client(cluster) as active,
    ):
        yield active


# The cluster's threads take numbers from `random` while an example is drawn.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@pytest.mark.usefixtures("client")
@given(road=roads(strategies=("windows", "overlap"), min_dims=2), format_=st.sampled_from(get_args(Format)))
@settings(thorough, max_examples=100)
def test_whole_road_through_files_and_processes(
    tmp_path_factory: pytest.TempPathFactory, road: Road, format_: Format
) -> None:
    """From an OME-Zarr to whatever is written, on worker processes."""
    folder: Path = tmp_path_factory.mktemp("road")
    convolume.Volume.from_array(road.image).save(str(folder / "input.ome.zarr"))
    with convolume.select_device(road.device):
        workflow = road.workflow(str(folder / "input.ome.zarr"), str(folder / "result.zarr"), format=format_)
        record = convolume.run(workflow)
    source = open_source(str(folder / "result.zarr"))
    assert record.strategy == road.strategy
    assert_close(source.read(Region.whole(road.image.shape)), *expected_of(road), note=f"{road.strategy}")
