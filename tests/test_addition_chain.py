"""Addition chains: what they promise, for sizes that are drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.addition_chain import addition_chain, additions, completed_sums

# The On-Line Encyclopedia of Integer Sequences, A003313, from 1 to 32.
SHORTEST = [0, 1, 2, 2, 3, 3, 4, 3, 4, 4, 5, 4, 5, 5, 5, 4, 5, 5, 6, 5, 6, 6, 6, 5, 6, 6, 6, 6, 7, 6, 7, 5]
SIZES = st.one_of(st.integers(1, 100), st.integers(1000, 1100), st.integers(1, 2**31))


@pytest.mark.parametrize(("size", "length"), list(enumerate(SHORTEST, start=1)))
def test_short_chains_are_the_shortest(size: int, length: int) -> None:
    """Of all that there are."""
    assert len(additions(size)) == length


@given(SIZES)
def test_every_sum_is_made_of_earlier_ones(size: int) -> None:
    """One of them the last one; each has the chain that leads to it, so that programs agree on its sum."""
    chain = addition_chain(size)
    assert (chain[0], chain[-1]) == (1, size)
    for place, (first, second) in enumerate(additions(size), start=1):
        assert first == chain[place - 1]
        assert first + second == chain[place]
        assert second in chain[:place]
    assert all(addition_chain(length) == chain[:place] for place, length in enumerate(chain, start=1))


@given(SIZES)
def test_no_chain_is_longer_than_that_of_binary_digits(size: int) -> None:
    """A doubling for every digit but the first, and an addition for every further one."""
    assert len(additions(size)) <= size.bit_length() - 1 + size.bit_count() - 1


@given(st.one_of(st.integers(1, 300), st.integers(1, 20_000)))
def test_sums_that_are_completed_one_by_one(size: int) -> None:
    """They are those of the chain: from the earlier and the later neighbours, each a whole sum."""
    waiting: list[tuple[int, int]] = []
    made = set()
    for voxel, completed in enumerate(completed_sums(size)):
        begin, length = voxel, 1
        for _ in range(completed):
            begin, earlier = waiting.pop()
            assert begin + earlier + length == voxel + 1
            made.add((earlier, length))
            length += earlier
        waiting.append((begin, length))
    assert waiting == [(0, size)]
    assert made == set(additions(size))


def test_few_sums_wait_at_a_time() -> None:
    """Programs have room for 32 of them: for boxes longer than any array, too."""
    assert max(map(_most_waiting, [*range(1, 2000), *(2**digits - 1 for digits in range(11, 29))])) < 32


def _most_waiting(size: int) -> int:
    """Return how many sums wait at once: those of the later neighbours wait beside the earlier ones."""
    most = {1: 1}
    for first, second in additions(size):
        most[first + second] = max(most[first], 1 + most[second])
    return most[size]
