"""How an output is laid out: its chunks and shards, and the levels of its pyramid. Pure, without arrays."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod, sqrt
from typing import TYPE_CHECKING

from convolume.errors import InputError
from convolume.regions import BlockGrid, Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.image import Axis, ImageInfo
    from convolume.stores._interfaces import SinkOptions

__all__ = ["level_infos", "units_of", "write_unit"]

CHUNK_VOXELS = 128
COARSEST_VOXELS = 128
# So many files in one folder are where file systems, and whoever copies them, begin to suffer.
MOST_CHUNKS_WITHOUT_SHARDS = 4096
CHUNKS_PER_SHARD_AXIS = 2
# Chunks that are made to suit blocks are no smaller: each is a file.
LEAST_FITTED_VOXELS = 32


def write_unit(level: ImageInfo) -> tuple[int, ...]:
    """Return the shape that one writer owns: the shard, or the chunk where there are no shards."""
    unit = level.shards or level.chunks or level.shape
    return tuple(unit)


def units_of(shape: tuple[int, ...], unit: tuple[int, ...], region: Region) -> Iterator[tuple[tuple[int, ...], Region]]:
    """Yield the index and the place of every unit of a region of whole ones.

    Examples
    --------
    >>> [index for index, _ in units_of((5, 9), (4, 4), Region((4, 0), (5, 8)))]
    [(1, 0), (1, 1)]
    """
    grid = BlockGrid(shape, unit)
    first = (a // u for a, u in zip(region.start, unit, strict=True))
    last = (-(-b // u) for b, u in zip(region.stop, unit, strict=True))
    for index in product(*map(range, first, last)):
        yield index, grid.region(index)


def level_infos(path: str, image: ImageInfo, options: SinkOptions, *, has_shards: bool = True) -> tuple[ImageInfo, ...]:
    """Return the levels of an output, level 0 first, each with its chunks, shards, voxel size and translation.

    The finest space axes are halved (sizes rounded up) until voxels are isotropic within a factor of sqrt(2), then
    all of them, until every space axis has at most 128 voxels. Without `has_shards` the format knows none.

    Raises
    ------
    InputError
        Chunks or shards do not fit the image.

    Examples
    --------
    >>> from convolume.image import ImageInfo, default_axes
    >>> from convolume.stores import SinkOptions
    >>> image = ImageInfo((40, 300, 300), "uint16", default_axes(3))
    >>> [level.shape for level in level_infos("out.zarr", image, SinkOptions())]
    [(40, 300, 300), (20, 150, 150), (10, 75, 75)]
    """
    _check_units(path, image, options)
    if options.shards is not None and not has_shards:
        message = (
            f"{path}: shards {options.shards}: this format has none, each chunk is a file of its own; leave `shards` "
            "out, or write `format: ome-zarr`"
        )
        raise InputError(message)
    levels = [image]
    halved = [axis for axis in image.space_axes if image.axes[axis].name in options.pyramid_axes]
    while options.pyramid and any(levels[-1].shape[axis] > COARSEST_VOXELS for axis in halved):
        levels.append(_halved(levels[-1], halved))
    chunks = _chunks(image, options)
    per_shard, is_named = _chunks_per_shard(image, chunks, options) if has_shards else None, options.shards is not None
    return tuple(_with_units(level, chunks, per_shard, always=is_named) for level in levels)


def _halved(level: ImageInfo, axes_halved: list[int]) -> ImageInfo:
    chosen = _finest_axes(level, axes_halved)
    shape = tuple(-(-n // 2) if i in chosen else n for i, n in enumerate(level.shape))
    axes = tuple(_halved_axis(axis) if i in chosen else axis for i, axis in enumerate(level.axes))
    return level.with_(shape=shape, axes=axes)


def _halved_axis(axis: Axis) -> Axis:
    # The first voxel of a coarser level covers two: its centre lies half a finer voxel further on.
    return replace(axis, spacing=2 * axis.spacing, translation=axis.translation + axis.spacing / 2)


def _finest_axes(level: ImageInfo, axes_halved: list[int]) -> frozenset[int]:
    long = [axis for axis in axes_halved if level.shape[axis] > 1]
    in_um = {axis: level.axes[axis].spacing_um for axis in long}
    spacing = {axis: level.axes[axis].spacing if None in in_um.values() else in_um[axis] for axis in long}
    sizes = {axis: size for axis, size in spacing.items() if size is not None}
    finest = min(sizes.values())
    return frozenset(axis for axis, size in sizes.items() if size <= sqrt(2) * finest)


def _chunks(image: ImageInfo, options: SinkOptions) -> tuple[int, ...]:
    """Return the extents of a chunk: those that are named, else usual ones, or such as suit the blocks."""
    usual = tuple(CHUNK_VOXELS if axis.kind == "space" else 1 for axis in image.axes)
    if options.chunks is not None or options.shards is not None or options.block is None:
        return options.chunks or usual
    return tuple(c if b >= n else _fitted(c, b) for c, b, n in zip(usual, options.block, image.shape, strict=True))


def _fitted(usual: int, block: int) -> int:
    """Return the largest extent up to the usual one that divides a block; the usual one at a pinch."""
    extents = range(min(LEAST_FITTED_VOXELS, usual, block), usual + 1)
    return max((extent for extent in extents if block % extent == 0), default=usual)


def _chunks_per_shard(image: ImageInfo, chunks: tuple[int, ...], options: SinkOptions) -> tuple[int, ...] | None:
    """Return how many chunks a shard has along each axis, where there are shards."""
    if options.shards is not None:
        return tuple(max(1, s // c) for s, c in zip(options.shards, chunks, strict=True))
    usual = tuple(CHUNKS_PER_SHARD_AXIS if axis.kind == "space" else 1 for axis in image.axes)
    extents = tuple(c * count for c, count in zip(chunks, usual, strict=True))
    block = options.block or extents
    cuts = any(b % e and b < n for b, e, n in zip(block, extents, image.shape, strict=True))
    return None if options.chunks is not None or cuts else usual


def _with_units(
    level: ImageInfo, wished: tuple[int, ...], per_shard: tuple[int, ...] | None, *, always: bool
) -> ImageInfo:
    chunks = tuple(min(c, n) for c, n in zip(wished, level.shape, strict=True))
    counts = tuple(-(-n // c) for n, c in zip(level.shape, chunks, strict=True))
    if per_shard is None or not (always or prod(counts) > MOST_CHUNKS_WITHOUT_SHARDS):
        return level.with_(chunks=chunks, shards=None)
    shards = tuple(c * min(count, n) for c, count, n in zip(chunks, counts, per_shard, strict=True))
    return level.with_(chunks=chunks, shards=shards)


def _check_units(path: str, image: ImageInfo, options: SinkOptions) -> None:
    for what, unit in (("chunks", options.chunks), ("shards", options.shards)):
        if unit is not None and len(unit) != image.ndim:
            message = f"{path}: {what} {unit} have {len(unit)} numbers, and the image has {image.ndim} axes"
            raise InputError(message)
        if unit is not None and min(unit) < 1:
            message = f"{path}: {what} {unit}: each is 1 or more"
            raise InputError(message)
    if options.shards is None:
        return
    chunks = tuple(map(min, _chunks(image, options), image.shape))
    if any(s % c and s < n for s, c, n in zip(options.shards, chunks, image.shape, strict=True)):
        message = f"{path}: shards {options.shards} are no whole number of chunks {chunks}"
        raise InputError(message)
