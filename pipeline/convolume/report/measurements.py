"""Measurements of images, a channel at a time, on a level of their pyramid that is quickly read."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isnan, nan, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute
from dask_image import ndmeasure

from convolume.errors import InputError
from convolume.execution.overlap import lazy_source
from convolume.records import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import dask.array as da
    import numpy.typing as npt

    from convolume.stores import Source

__all__ = ["BIN_COUNT", "Histogram", "Level", "fitting_level", "histograms_of", "measure"]

# Voxels of a channel that are read in a second or two; where no level is so coarse, up to the second number.
# `dask_image.ndmeasure` gathers all voxels that it measures in one array, here of 8 bytes each.
_WANTED_VOXELS, _MOST_VOXELS = 2**23, 2**26
# Of images that are not stored in chunks so many voxels are in hand at a time.
_SLAB_VOXELS = 2**22

BIN_COUNT = 128


@dataclass(frozen=True, slots=True)
class Level:
    """One level of an image, by its number; 0 is the finest."""

    number: int
    source: Source


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many finite voxels of a channel lie in each bin; all bins are equally wide.

    There are `BIN_COUNT` of them from the smallest value to the largest. Of whole numbers there are at most as many,
    each of the same count of numbers, with edges between them: others would hold now more, now fewer.

    Parameters
    ----------
    channel : str
        Its name, or ``channel 0``; empty where the image has no channels.
    counts : array of int, shape (n,)
        Voxels.
    edges : array of float, shape (n + 1,)
        Where bins begin, and where the last one ends.
    """

    channel: str
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]


def fitting_level(open_level: Callable[[int], Source], finest: int = 0) -> Level:
    """Return the finest level that is quickly read, or the coarsest that there is.

    Parameters
    ----------
    open_level : callable
        Opens a level by its number; raises `InputError` where there is no such level.
    finest : int
        The level that is taken where it is small enough.
    """
    level = Level(finest, open_level(finest))
    while _voxels_of_a_channel(level) > _WANTED_VOXELS:
        try:
            level = Level(level.number + 1, open_level(level.number + 1))
        except InputError:
            break
    return level


def measure(image: str, level: Level) -> tuple[Measurement, ...]:
    """Return what each channel of a level holds; voxels are read block by block, and only finite ones count.

    Parameters
    ----------
    image : str
        What the image is called.
    level : Level
        From `fitting_level`.

    Raises
    ------
    InputError
        Not even the coarsest level is small enough.

    Examples
    --------
    >>> import numpy as np
    >>> from convolume.stores import memory, open_source
    >>> memory.put("measured", np.array([[1.0, 2.0], [np.nan, 3.0]]))
    >>> [found] = measure("input", Level(0, open_source("memory:measured")))
    >>> found.minimum, found.maximum, found.mean
    (1.0, 3.0, 2.0)
    >>> memory.drop("measured")
    """
    _check_size(level)
    shape = level.source.info.shape
    return tuple(
        Measurement(image, channel, level.number, shape, *_statistics(voxels)) for channel, voxels in _channels(level)
    )


def histograms_of(level: Level) -> tuple[Histogram, ...]:
    """Return the histogram of each channel of a level, over its finite voxels.

    Raises
    ------
    InputError
        Not even the coarsest level is small enough.
    """
    _check_size(level)
    return tuple(_histogram(channel, voxels) for channel, voxels in _channels(level))


def _check_size(level: Level) -> None:
    voxels = _voxels_of_a_channel(level)
    if voxels > _MOST_VOXELS:
        message = (
            f"{level.source.path}: is not measured: its coarsest level has {voxels:,} voxels in a channel, and at most "
            f"{_MOST_VOXELS:,} are taken; give it a pyramid"
        )
        raise InputError(message)


def _voxels_of_a_channel(level: Level) -> int:
    info = level.source.info
    return prod(n for n, axis in zip(info.shape, info.axes, strict=True) if axis.kind != "channel")


def _channels(level: Level) -> Iterator[tuple[str, da.Array]]:
    """Yield the name and voxels of each channel."""
    info = level.source.info
    voxels = lazy_source(level.source, _block(level.source))
    axis = next((position for position, axis in enumerate(info.axes) if axis.kind == "channel"), None)
    if axis is None:
        yield "", voxels
        return
    for position in range(info.shape[axis]):
        name = info.channels[position].name if info.channels else ""
        yield name or f"channel {position}", voxels[(slice(None),) * axis + (slice(position, position + 1),)]


def _block(source: Source) -> tuple[int, ...]:
    """Return the image's chunks, or slabs along its first axes."""
    info = source.info
    if info.chunks:
        return info.chunks
    block = [1] * info.ndim
    for axis in reversed(range(info.ndim)):
        block[axis] = max(1, min(info.shape[axis], _SLAB_VOXELS // prod(block)))
    return tuple(block)


def _finite(voxels: da.Array) -> tuple[da.Array, dict[str, Any]]:
    """Return voxels in double precision, and which of them count, as `dask_image.ndmeasure` wants it told."""
    finite: Any = np.isfinite(voxels)
    return voxels.astype(np.float64), {"label_image": finite.astype(np.uint8), "index": 1}


def _statistics(voxels: da.Array) -> tuple[float, float, float, float]:
    doubles, finite = _finite(voxels)
    wanted = (ndmeasure.minimum, ndmeasure.maximum, ndmeasure.mean, ndmeasure.standard_deviation)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high, mean, deviation = map(float, _computed(*(each(doubles, **finite) for each in wanted)))
    # Of no voxels the extremes are 0 there.
    return (nan,) * 4 if isnan(mean) else (low, high, mean, deviation)


def _histogram(channel: str, voxels: da.Array) -> Histogram:
    doubles, finite = _finite(voxels)
    low, high, *_ = _statistics(voxels)
    if isnan(low):
        low = high = 0.0
    bins = _bins_of_whole_numbers if voxels.dtype.kind in "bui" else _bins
    places, edges = bins(doubles, low, high)
    bin_count = len(edges) - 1
    # Bounds are made whole numbers there: voxels are counted by their place among the bins.
    (counts,) = _computed(ndmeasure.histogram(places, 0, bin_count, bin_count, **finite))
    if counts is None:  # no voxel is finite
        counts = np.zeros(bin_count, np.int64)
    return Histogram(channel, counts, edges)


def _bins_of_whole_numbers(doubles: da.Array, low: float, high: float) -> tuple[da.Array, npt.NDArray[np.float64]]:
    """Return where voxels lie among bins of as many whole numbers each, and the edges of the bins."""
    width = ceil((high - low + 1) / BIN_COUNT)
    bin_count = ceil((high - low + 1) / width)
    return (doubles - low + 0.5) / width, low - 0.5 + width * np.arange(bin_count + 1, dtype=np.float64)


def _bins(doubles: da.Array, low: float, high: float) -> tuple[da.Array, npt.NDArray[np.float64]]:
    """Return where voxels lie among bins, and the edges of the bins, a little apart where there is one value."""
    if high / 2 == low / 2:
        half = max(0.5, BIN_COUNT * float(np.spacing(abs(low))))
        low, high = low - half, high + half
    # Halves cannot overflow.
    span = high / 2 - low / 2
    return (doubles / 2 - low / 2) / span * BIN_COUNT, low + span * np.linspace(0, 2, BIN_COUNT + 1)


def _computed(*lazy: Any) -> tuple[Any, ...]:
    """Compute in this process's threads: a run's workers are gone, or busy with others' work."""
    results: tuple[Any, ...] = compute(*lazy, scheduler="threads")
    return results
