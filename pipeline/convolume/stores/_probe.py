"""A short probe of the storage: a few chunks read, as many written beside the output and removed again."""

from __future__ import annotations

from math import prod
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from convolume.errors import ConvolumeError
from convolume.records import StorageSpeeds
from convolume.regions import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.stores._interfaces import Sink, Source

__all__ = ["probe_storage"]

# Decoded bytes that are read: some 20 ms. A chunk may be larger, up to a limit.
_PROBED_BYTES, _LARGEST_CHUNK_BYTES = 2**25, 2**27
_MEASURED_TWICE = 2


def probe_storage(source: Source, sinks: Sequence[Sink]) -> StorageSpeeds:
    """Return what reading and writing takes, measured in a fraction of a second; a process asks each pair once.

    Parameters
    ----------
    source : Source
        A few of its chunks are read, where it is stored in chunks.
    sinks : sequence of Sink
        As many voxels are written beside the first one, and removed.
    """
    try:
        key = (source.identity(), source.path, source.io_threads, sinks[0].path, sinks[0].levels[0].dtype)
    except (ConvolumeError, OSError) as error:
        return _unprobed(error)
    return _Remembered.of(key, source, sinks[0])


def _unprobed(error: Exception) -> StorageSpeeds:
    return StorageSpeeds(notes=(f"the storage could not be probed: {error}",))


class _Remembered:
    """What was probed, under what it depends on."""

    speeds: dict[tuple[object, ...], StorageSpeeds] = {}  # noqa: RUF012 - the process's own

    @classmethod
    def of(cls, key: tuple[object, ...], source: Source, sink: Sink) -> StorageSpeeds:
        if key not in cls.speeds:
            cls.speeds[key] = _probed(source, sink)
        return cls.speeds[key]


def _probed(source: Source, sink: Sink) -> StorageSpeeds:
    region, why_not = _region(source)
    if region is None:
        return StorageSpeeds(notes=(f"the input was not probed: {why_not}",))
    kept, source.cache_bytes = source.cache_bytes, 0
    try:
        # The first one opens the image.
        source.read(_one_voxel(region))
        began = perf_counter()
        voxels = source.read(region)
        read_ns = 1e9 * (perf_counter() - began) / voxels.nbytes
        written = sink.probe(voxels)
    except (ConvolumeError, OSError) as error:
        return _unprobed(error)
    finally:
        source.cache_bytes = kept
    if written is None:
        return StorageSpeeds(read_ns, notes=("the output was not probed: nothing can be written beside it",))
    return StorageSpeeds(read_ns, 1e9 * written[0] / written[1])


def _region(source: Source) -> tuple[Region | None, str]:
    """Return whole chunks in the middle of the image, and why there are none."""
    chunks = source.decoded_chunks
    if chunks is None:
        return None, "it is not stored in chunks"
    shape, itemsize = source.info.shape, np.dtype(source.info.dtype).itemsize
    one = prod(extent for extent, _ in chunks) * itemsize
    if one > _LARGEST_CHUNK_BYTES:
        return None, "its chunks are too large for that"
    starts, stops = [], []
    for n, (extent, origin) in zip(shape, chunks, strict=True):
        middle = (n // 2 + origin) // extent * extent - origin
        count = _MEASURED_TWICE if one * _MEASURED_TWICE <= _PROBED_BYTES and middle + extent < n else 1
        one *= count
        starts.append(max(0, middle))
        stops.append(min(n, middle + count * extent))
    return Region(tuple(starts), tuple(stops)), ""


def _one_voxel(region: Region) -> Region:
    return Region(region.start, tuple(a + 1 for a in region.start))
