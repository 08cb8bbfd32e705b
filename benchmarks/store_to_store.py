"""From store to store: a plain copy, Convolume, and dask's own road, on the same workers in the same run.

512³ uint16 in chunks of 128³ (blosc-zstd). The copy reads and writes the blocks that the filter has, with tensorstore,
in as many threads. Dask's road is ``from_zarr``, ``dask_image.ndfilters.convolve``, ``to_zarr``; it is called once.
Times are those of the blocks: neither the start of the workers nor the first calls, which compile, count.

python benchmarks/store_to_store.py [--extent N] [--repeats N] [--only NAME]
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from side_by_side import Bench, timed

import convolume
from convolume.clusters import ClusterSettings
from convolume.clusters.local import open_cluster
from convolume.image import ImageInfo, default_axes
from convolume.regions import BlockGrid, Region
from convolume.stores import SinkOptions, create_sink, open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

CHUNK = 128
EXTENTS = (3, 7)
# Programs are compiled for a filter when it has been called a few times.
WARM_UPS = 3


def main() -> None:
    """Print a row a filter, for one worker and for two."""
    bench = Bench(__doc__, extent=512)
    with tempfile.TemporaryDirectory() as folder:
        source = write_image(bench, Path(folder))
        figures = ("copy s", "ours s", "of copy", "dask s", "x dask", "peak MiB", "promised")
        table = bench.table("store to store", *figures)
        for workers in (1, 2):
            with open_cluster(ClusterSettings(workers=workers, dashboard=False)) as cluster:
                for extent in EXTENTS:
                    name = f"{extent}x{extent}x{extent}, {workers} worker{'s' if workers > 1 else ''}"
                    if bench.is_wanted(name):
                        table.add(name, *row(bench, cluster.client, source, extent, with_dask=workers == 1))
    bench.close()


def write_image(bench: Bench, folder: Path) -> str:
    """Write a volume that compresses as images of a microscope do: smooth, with noise in the last bits."""
    shape = (bench.extent,) * 3
    path = str(folder / "input.ome.zarr")
    sink = create_sink(path, ImageInfo(shape, "uint16", default_axes(3)), SinkOptions((CHUNK,) * 3, pyramid=False))
    sink.create()
    slopes = np.meshgrid(*(np.sin(np.arange(n) / 40) for n in shape), indexing="ij", sparse=True)
    image = 1000 + 500 * sum(slopes) + np.random.default_rng(0).normal(0, 30, shape).astype(np.float32)
    sink.write(0, Region.whole(shape), image.astype(np.uint16))
    sink.finish({}, ((0.0, 1.0, 0.0, 1.0),))
    return path


def row(bench: Bench, client: Client, source: str, extent: int, *, with_dask: bool) -> tuple[float | str | None, ...]:
    """Return the figures of one filter; copy and filter are called in turn."""
    records: list[Any] = []

    def ours() -> float:
        records.append(convolume.run(workflow(source, extent)))
        return float(records[-1].seconds_blocks)

    copied = copy_call(client, source, convolume.plan(workflow(source, extent)).block_shape_voxels)
    rounds = [(copied(), ours()) for _ in range(WARM_UPS + bench.repeats)][WARM_UPS:]
    copy_s, ours_s = (median(column) for column in zip(*rounds, strict=True))
    dask_s = timed(lambda: by_dask(source, extent))[0] if with_dask else None
    peak = max(records[-1].worker_peak_bytes.values()) / 2**20
    promised = records[-1].forecast.peak_host_bytes / 2**20
    return copy_s, ours_s, ours_s / copy_s, dask_s, dask_s / ours_s if dask_s else None, peak, promised


def workflow(source: str, extent: int) -> dict[str, Any]:
    """Return what Convolume is asked: the mean over a cube that is no outer product, so that it is weighed densely."""
    kernel = dense_kernel(extent)
    steps = [{"convolve": {"kernel": kernel.tolist(), "method": "direct"}}]
    output = {"path": sibling(source, "ours"), "steps": steps, "dtype": "uint16", "pyramid": False}
    return {"input": {"path": source}, "outputs": {"mean": {**output, "if_exists": "overwrite", "chunks": [CHUNK] * 3}}}


def dense_kernel(extent: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return weights that add up to one."""
    kernel = np.random.default_rng(0).uniform(0.5, 1.5, (extent,) * 3)
    return kernel / kernel.sum()


def copy_call(client: Client, source: str, block: tuple[int, ...]) -> Callable[[], float]:
    """Return a call that copies the image block by block on the workers, and says how long that took."""
    image = open_source(source)
    info = image.info.with_(chunks=None, shards=None)
    options = SinkOptions((CHUNK,) * 3, pyramid=False, if_exists="overwrite")
    sink = create_sink(sibling(source, "copy"), info, options)
    regions = [region for _, region in BlockGrid(info.shape, block)]
    image.cache_bytes = 0

    def copied() -> float:
        sink.create()
        futures = partial(client.map, copy_block, *zip(*((image, sink, region) for region in regions), strict=True))
        return timed(lambda: client.gather(futures(pure=False)))[0]

    return copied


def copy_block(source: Any, sink: Any, region: Region) -> int:
    """Read and write a block."""
    return int(sink.write(0, region, source.read(region)))


def by_dask(source: str, extent: int) -> None:
    """Do the same by dask-image."""
    import dask.array as da
    from dask_image.ndfilters import convolve

    image = da.from_zarr(f"{source}/0").astype(np.float32)
    result = convolve(image, dense_kernel(extent).astype(np.float32))
    result.round().astype(np.uint16).to_zarr(sibling(source, "dask"), overwrite=True)


def sibling(source: str, name: str) -> str:
    """Return a path beside the input."""
    return str(Path(source).with_name(f"{name}.ome.zarr"))


if __name__ == "__main__":
    main()
