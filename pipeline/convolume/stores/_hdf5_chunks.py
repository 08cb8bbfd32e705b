"""Chunks of HDF5 datasets, decoded or handed to HDF5's library once their sizes are known to be possible.

The library (2.0) takes it for granted that a chunk decodes to its full size, and reads beyond its memory where it does
not: damaged chunks crash it. So deflate, by far the most frequent, is undone here, outside of the library's lock too.
What other compressions decode to is theirs to check.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["filters_of", "read_part"]

# HDF5's numbers of filters.
DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3
CHECKSUM_BYTES = 4


def filters_of(node: Any) -> Iterator[tuple[int, str]]:
    """Yield what a dataset's chunks go through, by HDF5's number and the writer's name."""
    properties = node.id.get_create_plist()
    for position in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(position)
        yield code, name.decode(errors="replace").partition(";")[0]


def read_part(node: Any, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
    """Return a part of a dataset.

    Raises
    ------
    ValueError
        The size of a chunk is none that it could have; else what h5py raises.
    """
    if node.chunks is None:
        return np.asarray(node[slices])
    codes = [code for code, _ in filters_of(node)]
    spans = [range(cut.start // n * n, cut.stop, n) for cut, n in zip(slices, node.chunks, strict=True)]
    places = list(product(*spans))
    for place in places:
        _check_size(node, place, codes)
    whole = _decoded(node, places[0], codes) if len(places) == 1 else None
    if whole is None:
        return np.asarray(node[slices])
    part = whole[tuple(slice(cut.start - a, cut.stop - a) for cut, a in zip(slices, places[0], strict=True))]
    # At the image's border: a view would keep the whole chunk in memory.
    return part if part.size == whole.size else part.copy()


def _check_size(node: Any, place: tuple[int, ...], codes: list[int]) -> None:
    info = node.id.get_chunk_info_by_coord(place)
    if info.byte_offset is None:
        return  # never written: fill value
    done = _done(codes, info.filter_mask)
    checksum_bytes = CHECKSUM_BYTES * done.count(CHECKSUM)
    is_fixed = set(done) <= {SHUFFLE, CHECKSUM}
    possible = checksum_bytes < info.size <= node.file.id.get_filesize()
    if not possible or (is_fixed and info.size != _chunk_bytes(node) + checksum_bytes):
        message = f"the chunk at {place} is {info.size} bytes long, and cannot be"
        raise ValueError(message)


def _decoded(node: Any, place: tuple[int, ...], codes: list[int]) -> npt.NDArray[Any] | None:
    """Return a whole chunk; None where it is the library's to decode."""
    types = import_module("h5py").h5t
    if DEFLATE not in codes or not set(codes) <= {DEFLATE, SHUFFLE}:
        return None
    if node.id.get_chunk_info_by_coord(place).byte_offset is None:
        return None
    if types.py_create(node.dtype, logical=True) != node.id.get_type():
        return None  # a layout of bits that is not NumPy's
    mask, stored = node.id.read_direct_chunk(place)
    for code in reversed(_done(codes, mask)):
        stored = _inflated(stored, _chunk_bytes(node)) if code == DEFLATE else _unshuffled(stored, node.dtype.itemsize)
    return np.frombuffer(stored, node.dtype).reshape(node.chunks)


def _done(codes: list[int], mask: int) -> list[int]:
    """Return the filters that a chunk went through: a bit of its mask says that one was left out."""
    return [code for position, code in enumerate(codes) if not mask >> position & 1]


def _chunk_bytes(node: Any) -> int:
    size_bytes: int = prod(node.chunks) * node.dtype.itemsize
    return size_bytes


def _inflated(stored: bytes, chunk_bytes: int) -> bytes:
    stream = zlib.decompressobj()
    voxels = stream.decompress(stored, chunk_bytes + 1)
    if len(voxels) != chunk_bytes or not stream.eof:
        message = f"a chunk decodes to {'less' if len(voxels) <= chunk_bytes else 'more'} than its {chunk_bytes} bytes"
        raise ValueError(message)
    return voxels


def _unshuffled(stored: bytes, itemsize: int) -> bytes:
    """Return voxels of which first all first bytes are stored, then all second ones, and so on."""
    return np.frombuffer(stored, np.uint8).reshape(itemsize, -1).T.tobytes()
