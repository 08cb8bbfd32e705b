"""Memory of results comes back when the last view is gone, never before, and never beyond the pool's limit."""

import gc
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convolume
from convolume.arrays import OutputPool, new_array
from convolume.errors import InputError

Array = npt.NDArray[Any]

KIB, MIB = 2**10, 2**20
IMAGE = np.random.default_rng(0).random((40, 40, 50), dtype=np.float32)


@pytest.fixture
def pool() -> Iterator[OutputPool]:
    """Return a pool of 4 MiB that is switched on."""
    with OutputPool(4 * MIB) as pool:
        yield pool


def bytes_of(size_bytes: int) -> Array:
    """Return a new array of so many bytes."""
    return new_array((size_bytes,), np.uint8)


def place(array: Array) -> int:
    """Return where an array begins."""
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (70, 60, 50)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128", "bool"])
@pytest.mark.parametrize("limit", [1, 2**30])
def test_arrays_are_ordinary_ones(shape: tuple[int, ...], dtype: str, limit: int) -> None:
    """From a pool, and where its limit is reached."""
    with OutputPool(limit):
        array = new_array(shape, dtype)
    assert (array.shape, array.dtype, type(array)) == (shape, np.dtype(dtype), np.ndarray)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned
    assert array.size == 0 or place(array) % 64 == 0


def test_memory_comes_back_with_the_array(pool: OutputPool) -> None:
    """The same place serves the next array, of another dtype and a little smaller too."""
    first = bytes_of(MIB)
    there = place(first)
    assert (pool.lent_bytes, pool.waiting_bytes) == (MIB, 0)
    del first
    assert (pool.lent_bytes, pool.waiting_bytes) == (0, MIB)
    assert place(new_array((600, 200), np.float64)) == there
    assert place(bytes_of(MIB // 2 - 1)) != there
    assert place(bytes_of(MIB + 1)) != there


@pytest.mark.parametrize(
    "held",
    [
        lambda array: array[1:-1].reshape(2, -1)[:, ::2].T,
        lambda array: array.view(np.float16)[:7],
        memoryview,
        lambda array: np.frombuffer(memoryview(array)[5:], np.uint8),
        np.from_dlpack,
        lambda array: np.lib.stride_tricks.as_strided(array, (3,), (2,)),
        pickle.PickleBuffer,
        lambda array: [array, (cycle := []), cycle.append(array)],
    ],
)
def test_what_is_still_seen_is_not_lent_again(pool: OutputPool, held: Callable[[Array], object]) -> None:
    """Views of views, buffers of other libraries and containers keep the memory."""
    array = bytes_of(MIB)
    there, seen = place(array), held(array)
    del array
    assert (pool.lent_bytes, pool.waiting_bytes) == (MIB, 0)
    assert place(bytes_of(MIB)) != there
    del seen
    assert pool.lent_bytes == 0
    assert there in {place(each) for each in [bytes_of(MIB), bytes_of(MIB)]}


def test_memory_in_a_circle_comes_back_when_it_is_collected(pool: OutputPool) -> None:
    """As any memory in Python."""
    circle: list[Any] = [bytes_of(MIB)]
    circle.append(circle)
    del circle
    gc.collect()
    assert (pool.lent_bytes, pool.waiting_bytes) == (0, MIB)


def test_the_limit_counts_what_is_in_use_and_what_waits(pool: OutputPool) -> None:
    """What waits gives way, the oldest first; what does not fit then is no part of the pool."""
    first, second, third = bytes_of(MIB), bytes_of(MIB), bytes_of(2 * MIB)
    beyond = bytes_of(MIB)
    assert pool.lent_bytes == 4 * MIB
    del beyond
    assert pool.waiting_bytes == 0
    there = place(second)
    del first, second
    assert (pool.lent_bytes, pool.waiting_bytes) == (2 * MIB, 2 * MIB)
    smaller = bytes_of(MIB // 4)
    assert (pool.lent_bytes, pool.waiting_bytes) == (9 * MIB // 4, MIB)
    assert place(bytes_of(MIB)) == there
    del smaller, third
    # Too large in any case: nothing has to give way.
    bytes_of(5 * MIB)
    assert pool.waiting_bytes == 13 * MIB // 4


def test_small_arrays_are_left_to_the_allocator(pool: OutputPool) -> None:
    """Below 128 KiB."""
    small, large = bytes_of(128 * KIB - 1), bytes_of(128 * KIB)
    assert pool.lent_bytes == 128 * KIB
    del small, large
    assert pool.waiting_bytes == 128 * KIB


def test_of_several_pools_the_last_one_serves(pool: OutputPool) -> None:
    """What was taken from another goes back to it; without a pool nothing is kept."""
    outer = bytes_of(MIB)
    with OutputPool() as inner:
        inside = bytes_of(MIB)
        assert (inner.is_on, inner.lent_bytes, pool.lent_bytes) == (True, MIB, MIB)
        del outer
        assert (inner.waiting_bytes, pool.waiting_bytes) == (0, MIB)
    assert (inner.is_on, inner.lent_bytes) == (False, MIB)
    del inside
    assert (inner.lent_bytes, inner.waiting_bytes) == (0, 0)
    again = bytes_of(MIB)
    assert (pool.lent_bytes, pool.waiting_bytes) == (MIB, 0)
    del again
    pool.switch_off()
    assert (pool.is_on, pool.waiting_bytes) == (False, 0)
    assert pool.switch_on() is pool.switch_on()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(128 * KIB, MIB), st.integers(0, 9)), max_size=40))
def test_no_voxel_is_lent_twice(steps: list[tuple[int, int]]) -> None:
    """Whatever is taken and dropped in whatever order."""
    alive: dict[int, Array] = {}
    with OutputPool(3 * MIB) as pool:
        for number, (size_bytes, slot) in enumerate(steps):
            alive.pop(slot + 1, None)
            alive[slot] = bytes_of(size_bytes)[size_bytes // 3 :]
            alive[slot][...] = alive[slot][0] = number % 251
            assert pool.lent_bytes + pool.waiting_bytes <= 3 * MIB
            assert all((array == array[0]).all() for array in alive.values())
        alive.clear()
        assert pool.lent_bytes == 0


def test_threads_share_a_pool() -> None:
    """None of them sees what another writes, and the limit holds."""
    wrong: list[int] = []

    def work(number: int) -> None:
        for size_bytes in np.random.default_rng(number).integers(128 * KIB, MIB, 200).tolist():
            array = bytes_of(size_bytes)
            array[...] = number
            if (array != number).any() or pool.lent_bytes + pool.waiting_bytes > 4 * MIB:
                wrong.append(number)

    with OutputPool(4 * MIB) as pool:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.lent_bytes == 0
    assert wrong == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_goes_on_with_memory_of_its_own(pool: OutputPool) -> None:
    """The child's arrays are its own."""
    array = bytes_of(MIB)
    array[...] = 1
    child = os.fork()
    if not child:
        del array
        mine = bytes_of(MIB)
        mine[...] = 2
        os._exit(0 if (pool.lent_bytes, pool.waiting_bytes) == (MIB, 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (array == 1).all()


def test_results_travel_as_copies(pool: OutputPool) -> None:
    """A pickled result takes its voxels with it."""
    array = bytes_of(MIB)
    array[...] = 7
    there = pickle.loads(pickle.dumps(array))  # noqa: S301 - our own
    del array
    bytes_of(MIB)[...] = 8
    assert (there == 7).all()
    assert pool.lent_bytes == 0


FILTERS: dict[str, Callable[[], Array]] = {
    "correlate": lambda: convolume.ndimage.correlate(IMAGE, np.ones((3, 3, 3))),
    "gaussian_filter": lambda: convolume.ndimage.gaussian_filter(IMAGE, 1.5),
    "gradient": lambda: convolume.ndimage.gaussian_gradient_magnitude(IMAGE, 1.5),
    "complex": lambda: convolume.ndimage.sobel(IMAGE + 1j * IMAGE),
    "Volume": lambda: convolume.Volume.from_array(IMAGE).gaussian(1).laplace().compute(),
    "integers": lambda: convolume.Volume.from_array(IMAGE).box(3).compute("uint16"),
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("backend", ["numpy", "any"])
def test_results_are_the_same_and_come_from_the_pool(name: str, backend: str) -> None:
    """Bit for bit, in memory that comes back."""
    with convolume.select_device(backend):
        expected = FILTERS[name]()
        with OutputPool() as pool:
            waiting_bytes = set()
            for _ in range(3):
                result = FILTERS[name]()
                np.testing.assert_array_equal(result, expected, strict=True)
                assert result.nbytes <= pool.lent_bytes
                del result
                assert pool.lent_bytes == 0
                waiting_bytes.add(pool.waiting_bytes)
            # Only the first takes memory that is new.
            assert len(waiting_bytes) == 1


def test_a_pool_takes_some_memory() -> None:
    """None at all is no pool."""
    with pytest.raises(InputError, match="limit_bytes is 0: a pool takes at least some memory"):
        OutputPool(0)
