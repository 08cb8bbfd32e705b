"""The probe of the storage measures what there is, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import zarr

from convolume.stores import SinkOptions, create_sink, memory, open_source, probe_storage

if TYPE_CHECKING:
    from pathlib import Path


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    """A few chunks are read and written; the folder is as it was, and the chunks that are kept are as many."""
    image = zarr.create_array(tmp_path / "in.zarr", shape=(20, 30, 40), chunks=(8, 8, 8), dtype="uint16")
    image[...] = np.broadcast_to(np.arange(40, dtype=np.uint16), (20, 30, 40))
    source = open_source(str(tmp_path / "in.zarr"))
    source.cache_bytes = 12345
    sink = create_sink(str(tmp_path / "new" / "out.ome.zarr"), source.info.with_(dtype="float32"), SinkOptions())
    speeds = probe_storage(source, [sink])
    assert min(speeds.read_ns, speeds.write_ns) > 0
    assert speeds.notes == ()
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]
    assert source.cache_bytes == 12345
    assert probe_storage(source, [sink]) is speeds


def test_what_is_not_stored_is_not_probed() -> None:
    """And this is said."""
    memory.put("unprobed", np.ones((4, 4), np.float32))
    source = open_source("memory:unprobed")
    sink = create_sink("memory:probed", source.info, SinkOptions())
    assert probe_storage(source, [sink]).notes == ("the input was not probed: it is not stored in chunks",)
    memory.drop("unprobed")
