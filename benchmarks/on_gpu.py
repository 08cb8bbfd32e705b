"""The programs of GPUs: their share of the card's floor, whole calls, chains that stay there, overlapped transfers.

    python benchmarks/on_gpu.py [--device NAME] [--extent 256] [--repeats 7] [--only NAME] [--json FILE]

Every result is first compared with scipy.ndimage's on 24 planes. "program" is what the programs of a call took by
OpenCL's own clock, "call" a whole one from a NumPy array to a NumPy array, in milliseconds. The floor is the larger of
the multiply-adds over the card's peak, and one read and one write of every voxel at its copy speed, both measured in
this run. "cupy" is cupyx.scipy.ndimage on the same card, its arrays there already, where CuPy is installed; "cupy call"
with the way from NumPy and back.
On a processor the same programs run, as if it were a GPU: that shows that they work, not how fast a GPU is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import scipy.ndimage
from side_by_side import Bench, aligned_empty, share, timed

from convolume.boundary import BoundaryMode
from convolume.devices.opencl import _device, _state
from convolume.devices.opencl._jobs import Traits
from convolume.execution.in_memory import filter_array
from convolume.numerics import Precision
from convolume.operations import Correlate, Operation, Sequence
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from convolume.devices import Device

PLANES, MOST_DIFFERENCE = 24, 1e-5
BLOCKS = 8
GPU = Traits(on_cpu=False, vector_bytes=16, loose_pointers=False)
MODES = (BoundaryMode.REFLECT,) * 3


@dataclass(frozen=True)
class Case:
    """A filter as an operation, and as a function of modules that are like scipy.ndimage."""

    name: str
    operation: Operation
    by_module: Callable[[Any, Any], Any]

    @property
    def multiply_adds(self) -> int:
        """Taps that one output costs."""
        steps = self.operation.operations if isinstance(self.operation, Sequence) else (self.operation,)
        return sum(step.stencil.tap_count for step in steps if isinstance(step, Correlate))


def _dense(kernel: npt.NDArray[Any]) -> Operation:
    return Correlate(Stencil.convolve(kernel), MODES)


def _lines(*weights: npt.ArrayLike) -> Operation:
    lines = (Stencil.correlate(np.asarray(each)).on_axes((axis,), 3) for axis, each in enumerate(weights))
    return Sequence(tuple(Correlate(line, MODES) for line in lines))


def _convolution(extent: int) -> Case:
    kernel = np.random.default_rng(1).normal(size=(extent,) * 3).astype(np.float32)
    name = f"convolve {extent}x{extent}x{extent}"
    return Case(name, _dense(kernel), lambda module, image: module.convolve(image, _beside(image, kernel)))


def _beside(image: Any, kernel: npt.NDArray[np.float32]) -> Any:
    """Return a kernel where the image is."""
    return kernel if isinstance(image, np.ndarray) else import_module("cupy").asarray(kernel)


def _gaussian(sigma: int) -> npt.NDArray[np.float64]:
    weights = np.exp(-0.5 * (np.arange(-4 * sigma, 4 * sigma + 1) / sigma) ** 2)
    normalised: npt.NDArray[np.float64] = weights / weights.sum()
    return normalised


SMOOTH, DIFFERENCE = (1.0, 2.0, 1.0), (-1.0, 0.0, 1.0)
# An impulse gives the kernel.
LAPLACE = scipy.ndimage.laplace(np.pad([[[1.0]]], 1), mode="constant")
CASES = (
    _convolution(3),
    _convolution(5),
    _convolution(7),
    Case("gaussian sigma 2", _lines(*[_gaussian(2)] * 3), lambda module, image: module.gaussian_filter(image, 2)),
    Case("uniform 15", _lines(*[np.full(15, 1 / 15)] * 3), lambda module, image: module.uniform_filter(image, 15)),
    Case("sobel", _lines(SMOOTH, SMOOTH, DIFFERENCE), lambda module, image: module.sobel(image)),
    Case("laplace", _dense(LAPLACE), lambda module, image: module.laplace(image)),
)
COLUMNS = ("program", "floor", "% floor", "GFLOP/s", "GB/s", "call", "cupy", "cupy call", "cupy / program")
CHAIN = ("gaussian sigma 2", "convolve 3x3x3", "uniform 15", "laplace")


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Run the programs of GPUs, on whatever device there is."""
    with patch.object(_state, "traits_of", lambda _: GPU), patch.object(_state, "shares_memory", lambda _: False):
        yield


def main() -> None:
    """Measure the floor, then every filter, the chain and the overlap."""
    with as_on_a_gpu():
        bench = Bench(__doc__)
        device = _device.OpenCLDevice(bench.info, specialise_from=0)
        for case in CASES:
            _check(case, device, bench.extent)
        if bench.info.has_float64:
            _check_whole_numbers(device, bench.extent)
        _filters(bench, device)
        if bench.is_wanted("chain"):
            _chain(bench, device)
        if bench.is_wanted("overlap"):
            _overlap(bench, device)
        bench.close()


def filtered(device: Device, operation: Operation, image: npt.NDArray[Any], out: npt.NDArray[Any] | None = None) -> Any:
    """Return the result of a whole call."""
    return filter_array(image, operation, device, Precision.SINGLE, np.float32, out)


def _check(case: Case, device: Device, extent: int) -> None:
    image = np.random.default_rng(2).random((min(PLANES, extent), extent, extent), np.float32)
    expected = case.by_module(scipy.ndimage, image.astype(np.float64))
    difference = np.abs(filtered(device, case.operation, image) - expected).max() / np.abs(expected).max()
    if not difference < MOST_DIFFERENCE:
        message = f"{case.name}: differs from scipy by {difference:.1e} of the largest value"
        raise SystemExit(message)


def _check_whole_numbers(device: Device, extent: int) -> None:
    """Compare with scipy to the digit: no contraction, sums in scipy's order, cut off as C does."""
    image = np.random.default_rng(3).integers(0, 2**16, (min(PLANES, extent), extent, extent), np.uint16)
    kernel = np.random.default_rng(4).normal(size=(3, 3, 3)) / 27
    actual = filter_array(image, _dense(kernel), device, Precision.SCIPY, np.uint16)
    if not np.array_equal(actual, scipy.ndimage.convolve(image, kernel)):
        message = "uint16: differs from scipy, which it should equal"
        raise SystemExit(message)


def _filters(bench: Bench, device: Device) -> None:
    floor = bench.measure_floor("float")
    image, out = bench.volume(), aligned_empty((bench.extent,) * 3)
    table = bench.table("filter", *COLUMNS)
    for case in CASES:
        if not bench.is_wanted(case.name):
            continue
        (timing,) = bench.time(partial(filtered, device, case.operation, image, out))
        least = floor.seconds(case.multiply_adds * image.size, 2 * image.nbytes)
        cupy, cupy_call = _cupy_seconds(case, image, bench.repeats) if find_spec("cupy") else (None, None)
        program = timing.program_seconds
        table.add(
            case.name,
            1e3 * program,
            1e3 * least,
            share(least, program),
            2e-9 * case.multiply_adds * image.size / program,
            2e-9 * image.nbytes / program,
            1e3 * timing.seconds,
            1e3 * cupy if cupy else None,
            1e3 * cupy_call if cupy_call else None,
            cupy / program if cupy else None,
        )


def _cupy_seconds(case: Case, image: npt.NDArray[Any], repeats: int) -> tuple[float, float]:
    """Return the least times of CuPy's function on the card, by its own clock, and from NumPy to NumPy."""
    cupy, module = import_module("cupy"), import_module("cupyx.scipy.ndimage")
    held = cupy.asarray(image)
    there, whole = [], []
    for _ in range(1 + repeats):
        began, ended = cupy.cuda.Event(), cupy.cuda.Event()
        began.record()
        case.by_module(module, held)
        ended.record()
        ended.synchronize()
        there.append(1e-3 * cupy.cuda.get_elapsed_time(began, ended))
        whole.append(timed(lambda: case.by_module(module, cupy.asarray(image)).get())[0])
    return min(there[1:]), min(whole[1:])


def _chain(bench: Bench, device: Device) -> None:
    """Compare a chain of steps with the same steps as calls of their own."""
    steps = [case.operation for case in CASES if case.name in CHAIN]
    image, out = bench.volume(), aligned_empty((bench.extent,) * 3)
    one_by_one = partial(reduce, lambda voxels, step: filtered(device, step, voxels), steps, image)
    together, apart = bench.time(partial(filtered, device, Sequence(tuple(steps)), image, out), one_by_one)
    table = bench.table("chain of four", "call", "programs", "outside", "one by one", "one by one / call")
    outside = together.seconds - together.program_seconds
    milliseconds = [1e3 * each for each in (together.seconds, together.program_seconds, outside, apart.seconds)]
    table.add("on the device", *milliseconds, apart.seconds / together.seconds)


def _overlap(bench: Bench, device: Device) -> None:
    """Compare blocks done by one thread with the same done by two, whose transfers and programs overlap."""
    image = bench.volume()
    outs = [aligned_empty(image.shape) for _ in range(BLOCKS)]
    table = bench.table("overlap of blocks", "one thread", "two threads", "programs", "one / two")
    for case in CASES:
        if case.name in CHAIN:
            block = partial(filtered, device, case.operation, image)
            with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:
                alone, both = bench.time(*(partial(_all_blocks, pool, block, outs) for pool in (one, two)))
            seconds = alone.seconds, both.seconds, alone.program_seconds
            table.add(case.name, *(1e3 * each for each in seconds), alone.seconds / both.seconds)


def _all_blocks(
    pool: ThreadPoolExecutor, block: Callable[[npt.NDArray[Any]], Any], outs: list[npt.NDArray[Any]]
) -> None:
    for _ in pool.map(block, outs):
        pass


if __name__ == "__main__":
    main()
