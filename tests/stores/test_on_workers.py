"""Every format that other processes can open, read by the workers of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from distributed import Client, LocalCluster

import convolume
from convolume.regions import Region
from convolume.stores import open_source
from convolume.testing.stores import EXAMPLES, random_array, write_example

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def _workers() -> Iterator[None]:
    """Start two worker processes that runs without a configuration take."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster,
        Client(cluster),
    ):
        yield


@pytest.mark.usefixtures("_workers")
@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"lazy", "memory"}))
def test_workers_read_it(name: str, tmp_path: Path) -> None:
    """A copy, block by block, holds the same voxels."""
    array = random_array((9, 14, 12), "uint16")
    (tmp_path / "in").mkdir()
    path = write_example(name, tmp_path / "in", array)
    output = {"path": str(tmp_path / "copy.ome.zarr"), "chunks": [3, 7, 12]}
    record = convolume.run({"input": {"path": path}, "outputs": {"copy": output}, "block": [3, 7, 12]})
    assert record.block_count == 6
    assert len(record.worker_peak_bytes) >= 1
    copied = open_source(output["path"])
    np.testing.assert_array_equal(copied.read(Region.whole(copied.info.shape)), array)
