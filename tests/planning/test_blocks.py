"""The choice among shapes of blocks."""

from __future__ import annotations

from math import prod

import pytest

from convolume.planning.blocks import BlockOption, choose_blocks, whole_units
from convolume.planning.reading import Reading

NOTHING = Reading(0, 0, 0, 0)


def options(seconds: dict[tuple[int, ...], float], shape: tuple[int, ...]) -> list[BlockOption]:
    """Return a shape as it is, and with chunks kept: a little quicker, and twice as large."""
    size = prod(shape)
    return [
        BlockOption(shape, NOTHING, seconds[shape], size),
        BlockOption(shape, NOTHING, 0.9 * seconds[shape], 2 * size),
    ]


def test_the_quickest_that_fits_is_taken_and_others_are_told() -> None:
    """Of nearly equal ones that with the smallest promise."""
    seconds = {(4,): 9.0, (8,): 5.0, (16,): 4.95, (32,): 1.0}
    choice = choose_blocks(iter(seconds), lambda shape: options(seconds, shape), limit_bytes=32)
    assert choice.chosen.shape == (32,)
    choice = choose_blocks(iter(seconds), lambda shape: options(seconds, shape), limit_bytes=31)
    assert (choice.chosen.shape, choice.chosen.peak_host_bytes) == ((8,), 16)
    assert choice.reason == "the least predicted time of 3 shapes of whole shards that fit; 1 would not"
    assert [option.shape for option in choice.rejected] == [(4,), (16,)]


def test_where_nothing_fits_what_needs_least_is_told() -> None:
    """For the refusal to name it."""
    choice = choose_blocks(iter([(4,), (2,)]), lambda shape: options({(4,): 1.0, (2,): 2.0}, shape), limit_bytes=1)
    assert (choice.chosen.shape, choice.chosen.peak_host_bytes) == ((2,), 2)
    assert choice.reason == "no shape fits; this one needs least"


@pytest.mark.parametrize(
    ("image", "units", "expected"),
    [
        ((2, 9), [(1, 4)], [(1, 4), (1, 8), (1, 9)]),
        ((2, 24), [(1, 4), (2, 6)], [(2, 12), (2, 24)]),
        ((3, 3), [(128, 128)], [(3, 3)]),
    ],
)
def test_shapes_are_whole_shards_of_every_output(
    image: tuple[int, ...], units: list[tuple[int, ...]], expected: list[tuple[int, ...]]
) -> None:
    """Along the last axis, which is the only one of space here."""
    assert list(whole_units(image, units, (1,))) == expected
