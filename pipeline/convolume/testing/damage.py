"""Files with bytes changed or cut off: what opening and reading them may do, as functions for tests.

``python -m convolume.testing.damage FILE SEED COUNT`` tries one in a process of its own, which a library may crash.
"""

from __future__ import annotations

import gzip
import sys
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convolume.errors import ConvolumeError
from convolume.regions import Region
from convolume.stores import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_damaged", "damaged", "looked_at"]

# Numbers that headers may not be believed, in as many bytes as they are cut to.
EXTREMES = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
HEADER_BYTES = 1024
READ_VOXELS = 8
# Far more than the small files of tests need, and far less than their headers may be made to claim.
MOST_BYTES = 32 * 2**20


def check_damaged(path: str, seed: int, count: int) -> Counter[str]:
    """Hold a format to its promise: whatever was changed, an error of ours or an image comes out, and little memory.

    Parameters
    ----------
    path : str
        A whole file, which is overwritten.
    seed, count : int
        Which and how many changes are tried.

    Returns
    -------
    Counter
        How many were refused, and how many gave an image.
    """
    outcomes: Counter[str] = Counter()
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        for data in damaged(path, seed, count):
            Path(path).write_bytes(data)
            tracemalloc.reset_peak()
            before_bytes, _ = tracemalloc.get_traced_memory()
            outcomes[looked_at(path)] += 1
            taken_bytes = tracemalloc.get_traced_memory()[1] - before_bytes
            if taken_bytes > MOST_BYTES:
                message = f"{path}: {taken_bytes / 1e6:,.0f} MB were taken for a file of {len(data):,} bytes"
                raise AssertionError(message)
    finally:
        if started:
            tracemalloc.stop()
    return outcomes


def damaged(path: str, seed: int, count: int) -> Iterator[bytes]:
    """Yield the bytes of a file with some changed, mostly in the first part, or without their end."""
    whole = Path(path).read_bytes()
    random = np.random.default_rng(seed)
    for _ in range(count):
        # A changed stream of deflate mostly fails its checksum: the header lies within.
        if path.endswith(".gz") and random.random() < 0.9:  # noqa: PLR2004  # a tenth is changed as it is
            yield gzip.compress(_changed(gzip.decompress(whole), random), 1)
        else:
            yield _changed(whole, random)


def looked_at(path: str) -> str:
    """Open a file and read both of its ends; return ``"image"`` or ``"refused"``."""
    try:
        source = open_source(path)
        shape = source.info.shape
        for start in ((0,) * len(shape), tuple(max(0, n - READ_VOXELS) for n in shape)):
            part = Region(start, tuple(min(n, a + READ_VOXELS) for n, a in zip(shape, start, strict=True)))
            voxels = source.read(part)
            if (voxels.shape, voxels.dtype.name) != (part.shape, source.info.dtype):
                message = f"{path}: {voxels.dtype} {voxels.shape} was read where {source.info.dtype} {part.shape} is"
                raise AssertionError(message)
    except ConvolumeError:
        return "refused"
    return "image"


def _changed(whole: bytes, random: np.random.Generator) -> bytes:
    if random.random() < 0.1:  # noqa: PLR2004  # a tenth is cut short
        return whole[: random.integers(len(whole))]
    data = bytearray(whole)
    reach = len(data) if random.random() < 0.3 else min(len(data), HEADER_BYTES)  # noqa: PLR2004  # anywhere
    for _ in range(random.integers(1, 5)):
        place = int(random.integers(reach))
        if random.random() < 0.5:  # noqa: PLR2004  # a half are single bytes
            data[place] = random.integers(256)
            continue
        width = int(random.choice((1, 2, 4, 8)))
        place -= place % width
        number = EXTREMES[random.integers(len(EXTREMES))] % 2 ** (8 * width)
        data[place : place + width] = number.to_bytes(width, "big" if random.random() < 0.3 else "little")  # noqa: PLR2004  # a third
    return bytes(data[: len(whole)])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(dict(check_damaged(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201  # what it is run for
