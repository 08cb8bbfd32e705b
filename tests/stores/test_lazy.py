"""Dask arrays by name."""

import dask.array as da
import numpy as np
import pytest

from convolume import stores
from convolume.errors import InputError
from convolume.regions import Region
from convolume.stores import SourceOptions, lazy


def test_a_region_is_computed_when_it_is_read() -> None:
    """Only then, and only what it takes."""
    computed = []

    def note(block: np.ndarray, block_info: dict[int, dict[str, object]]) -> np.ndarray:
        computed.append(block_info[0]["chunk-location"])
        return block

    image = np.arange(24).reshape(4, 6)
    lazy.put("noted", da.from_array(image, chunks=2).map_blocks(note, dtype=image.dtype, meta=np.empty((0, 0), int)))
    source = stores.open_source("lazy:noted", SourceOptions(spacing=(0.5,), unit="micrometer"))
    assert (source.info.shape, source.info.dtype, computed) == ((4, 6), "int64", [])
    np.testing.assert_array_equal(source.read(Region((0, 2), (2, 4))), image[:2, 2:4])
    assert computed == [(0, 1)]
    assert [axis.spacing for axis in source.info.axes] == [0.5, 0.5]
    lazy.drop("noted")


def test_what_cannot_be_filtered_is_refused_when_it_is_put() -> None:
    """With what to do."""
    flat = da.arange(5, chunks=2)
    with pytest.raises(InputError, match=r"lazy:unknown: the array's shape \(nan,\) is not known: call `compute_chunk"):
        lazy.put("unknown", flat[flat > 2])
    with pytest.raises(InputError, match="lazy:words: voxels of dtype <U1 cannot be filtered"):
        lazy.put("words", da.from_array(np.array(["a"]), chunks=1))
    with pytest.raises(InputError, match="lazy:unknown: there is no such lazy array"):
        stores.open_source("lazy:unknown", SourceOptions())


def test_there_is_one_level() -> None:
    """And dropping twice is no error; the identity is the graph's."""
    array = da.zeros((2, 2), chunks=1)
    lazy.put("one", array)
    with pytest.raises(InputError, match="level 1 is not there; this image has one level, 0"):
        stores.open_source("lazy:one", SourceOptions(level=1))
    assert stores.open_source("lazy:one", SourceOptions()).signature() == array.name
    lazy.drop("one")
    lazy.drop("one")
