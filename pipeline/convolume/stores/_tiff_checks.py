"""Whether a TIFF file can hold what its tags promise, so that no memory is taken for what they merely claim."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

__all__ = ["why_page_too_short", "why_part_too_short", "why_series_too_short"]

# Bytes that one byte can stand for: uncompressed bits, LZW and deflate; JPEG 2000 and LERC, to which constant images
# are some dozen bytes; of others the largest that is known is zstd's.
_MOST_EXPANSION = {1: 8, 5: 2**12, 8: 2**12, 32946: 2**12}
_MOST_EXPANSION |= dict.fromkeys((33003, 33004, 33005, 34712, 34887), 2**20)
_MOST_EXPANSION_OF_OTHERS = 2**16
_MOST_LEFT_OUT_BYTES = 2**26


def why_series_too_short(file: Any, series: Any, *, is_mapped: bool) -> str | None:
    """Return what is missing of a series that the file promises; of its pages, the first is looked at."""
    if is_mapped:
        promised_bytes = series.dataoffset + prod(series.shape) * np.dtype(series.dtype).itemsize
        present_bytes = file.filehandle.size
        return None if promised_bytes <= present_bytes else f"{present_bytes} bytes where {promised_bytes} are promised"
    page = series.pages[0]
    return None if page is None else why_page_too_short(page, page.parent.filehandle.size)


def why_page_too_short(page: Any, file_bytes: int) -> str | None:
    """Return why a page cannot hold its voxels."""
    keyframe = page.keyframe
    part_count, part_bytes = prod(keyframe.chunked), _part_bytes(keyframe)
    # Tiles at the border are stored whole, the last strip is shorter than the others.
    page_bytes = part_count * part_bytes if keyframe.is_tiled else prod(keyframe.shaped) * keyframe.dtype.itemsize
    if part_count > len(page.dataoffsets):
        return f"a page has {len(page.dataoffsets)} parts where its shape {keyframe.shape} asks for {part_count}"
    if max(page.databytecounts, default=0) > file_bytes:
        return f"a part of a page is {max(page.databytecounts)} bytes long, and the file {file_bytes}"
    stored_bytes = sum(page.databytecounts)
    # Parts that are left out read as zeros.
    left_out_bytes = min(part_bytes, _MOST_LEFT_OUT_BYTES) * sum(count == 0 for count in page.databytecounts)
    if page_bytes > stored_bytes * _expansion(keyframe) + left_out_bytes:
        return f"a page of shape {keyframe.shape} cannot lie in {stored_bytes} bytes"
    return None


def why_part_too_short(page: Any, part: int, file_bytes: int) -> str | None:
    """Return why a tile cannot hold its voxels; one that is left out reads as zeros."""
    if part >= len(page.dataoffsets):
        return f"a page has {len(page.dataoffsets)} parts, and part {part} is wanted"
    stored_bytes = int(page.databytecounts[part])
    if stored_bytes > file_bytes:
        return f"a part of a page is {stored_bytes} bytes long, and the file {file_bytes}"
    if stored_bytes and _part_bytes(page.keyframe) > stored_bytes * _expansion(page.keyframe):
        return f"a tile of shape {page.keyframe.chunks} cannot lie in {stored_bytes} bytes"
    return None


def _part_bytes(keyframe: Any) -> int:
    part_bytes: int = prod(keyframe.chunks) * keyframe.dtype.itemsize
    return part_bytes


def _expansion(keyframe: Any) -> int:
    return _MOST_EXPANSION.get(int(keyframe.compression), _MOST_EXPANSION_OF_OTHERS)
