"""The blocks of a run: of all shapes that fit, the one that is expected to take the least time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import lcm, prod
from typing import TYPE_CHECKING

from convolume.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convolume.planning.reading import Reading

__all__ = ["BlockChoice", "BlockOption", "checked_block", "choose_blocks", "full_block", "whole_units"]

# Blocks beyond this are no faster: halos are cheap long before.
_MOST_VOXELS = 2**27
# A shape that takes a little longer and much less memory is the better one.
_WORTH = 1.02


@dataclass(frozen=True, slots=True)
class BlockOption:
    """A shape of blocks that was considered: what a run would take with it, and what a worker would promise."""

    shape: tuple[int, ...]
    reading: Reading
    seconds: float
    peak_host_bytes: int


@dataclass(frozen=True, slots=True)
class BlockChoice:
    """The shape of blocks, why, and the best of the others by the number of their voxels, smallest first."""

    chosen: BlockOption
    reason: str
    rejected: tuple[BlockOption, ...] = ()


def choose_blocks(
    shapes: Iterator[tuple[int, ...]], weigh: Callable[[tuple[int, ...]], list[BlockOption]], limit_bytes: int
) -> BlockChoice:
    """Return the shape that takes the least time of those that a worker has room for.

    Parameters
    ----------
    shapes : iterator of tuple of int
        The shapes that may be, such as `whole_units` yields, the smallest first.
    weigh : callable
        Returns what a shape takes, with fewer and with more chunks kept.
    limit_bytes : int
        Memory of a worker.

    Returns
    -------
    BlockChoice
        Where nothing fits, what needs least.
    """
    options = [option for shape in shapes for option in weigh(shape)]
    fitting = [option for option in options if option.peak_host_bytes <= limit_bytes]
    if not fitting:
        least = min(options, key=lambda option: option.peak_host_bytes)
        return BlockChoice(least, "no shape fits; this one needs least")
    quickest = min(option.seconds for option in fitting)
    worthy = [option for option in fitting if option.seconds <= _WORTH * quickest]
    chosen = min(worthy, key=lambda option: option.peak_host_bytes)
    count = len({option.shape for option in fitting})
    too_large = len({option.shape for option in options}) - count
    reason = f"the least predicted time of {count} shape{'s' if count > 1 else ''} of whole shards that fit"
    if too_large:
        reason += f"; {too_large} would not"
    return BlockChoice(chosen, reason, _others(fitting, chosen))


def whole_units(
    image_shape: tuple[int, ...], write_units: list[tuple[int, ...]], space_axes: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """Yield shapes that are a whole number of every output's shards, and grow along space axes by doubling.

    Examples
    --------
    >>> list(whole_units((4, 300), [(1, 128)], (1,)))
    [(1, 128), (1, 256), (1, 300)]
    """
    unit = tuple(min(lcm(*axis), n) for axis, n in zip(zip(*write_units, strict=True), image_shape, strict=True))
    along = [
        list(_doubled(u, n)) if axis in space_axes else [u]
        for axis, (u, n) in enumerate(zip(unit, image_shape, strict=True))
    ]
    for shape in product(*along):
        if shape == unit or prod(shape) <= _MOST_VOXELS:
            yield shape


def full_block(wanted: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the wanted block for all axes: missing leading ones get 1, none exceeds the image.

    Raises
    ------
    InputError
        It has too many axes.
    """
    if len(wanted) > len(shape):
        message = f"{list(wanted)} has {len(wanted)} axes, and the image has {len(shape)}"
        raise InputError(message)
    return tuple(min(b, n) for b, n in zip((1,) * (len(shape) - len(wanted)) + wanted, shape, strict=True))


def checked_block(wanted: tuple[int, ...], shape: tuple[int, ...], units: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the wanted block for all axes.

    Raises
    ------
    InputError
        It has too many axes, or cuts through a shard.
    """
    block = full_block(wanted, shape)
    for unit in units:
        if any(b % u and b < n for b, u, n in zip(block, unit, shape, strict=True)):
            message = (
                f"{list(block)} cuts through the outputs' shards of {list(unit)}: each shard has one writer, so a "
                "block is a whole number of them (name smaller `chunks:` or `shards:` for the output, or another block)"
            )
            raise InputError(message)
    return block


def _doubled(unit: int, length: int) -> Iterator[int]:
    extent = unit
    while extent < length:
        yield extent
        extent *= 2
    yield length


def _others(fitting: list[BlockOption], chosen: BlockOption) -> tuple[BlockOption, ...]:
    """Return the smallest, the largest and the next best of the other shapes, each as it is best."""
    best: dict[tuple[int, ...], BlockOption] = {}
    for option in sorted(fitting, key=lambda option: option.seconds):
        best.setdefault(option.shape, option)
    best.pop(chosen.shape)
    others = list(best.values())
    if not others:
        return ()
    by_size = sorted(others, key=lambda option: prod(option.shape))
    kept = {option.shape: option for option in (others[0], by_size[0], by_size[-1])}
    return tuple(sorted(kept.values(), key=lambda option: prod(option.shape)))
