"""Shapes of work groups on a GPU: how long each one that fits takes, and how good the chosen one is.

    python benchmarks/gpu_shapes.py [--device NAME] [--extent 256] [--repeats 7] [--only NAME] [--json FILE]

A shape is columns x lines of work items, and rows of outputs of each. For every filter the fastest are printed, then
the one that the estimate of `convolume.devices.opencl._tile_job` takes; milliseconds by OpenCL's own clock. About 60
programs are compiled for each filter, which takes some minutes; no network is needed.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING
from unittest.mock import patch

from on_gpu import CASES, as_on_a_gpu, filtered
from side_by_side import Bench, aligned_empty

from convolume.devices.opencl import _device, _tile, _tile_job
from convolume.devices.opencl._tile_job import COLUMNS, ROWS, WORK_ITEMS, TileJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from on_gpu import Case

    from convolume.devices import Device

SHOWN = 5
# Columns, lines and rows.
Shape = tuple[int, int, int]


def main() -> None:
    """Time every shape of every filter."""
    with as_on_a_gpu():
        bench = Bench(__doc__)
        device = _device.OpenCLDevice(bench.info, specialise_from=0)
        table = bench.table("filter", "columns", "lines", "rows", "program", "fastest / it")
        for case in CASES:
            if bench.is_wanted(case.name):
                seconds, chosen = _timed(bench, device, case)
                ranked = sorted(seconds, key=seconds.__getitem__)
                for shape in islice(ranked, SHOWN):
                    table.add(case.name, *map(str, shape), 1e3 * seconds[shape], seconds[ranked[0]] / seconds[shape])
                table.add("  chosen", *map(str, chosen), 1e3 * seconds[chosen], seconds[ranked[0]] / seconds[chosen])
        bench.close()


def _timed(bench: Bench, device: Device, case: Case) -> tuple[dict[Shape, float], Shape]:
    """Return how long the programs of a call take in each shape, and the shape that is taken by itself."""
    call = partial(filtered, device, case.operation, bench.volume(), aligned_empty((bench.extent,) * 3))
    chosen, *_ = _shapes_used(call)
    seconds = {}
    for columns, items, rows in ((c, w, r) for c in COLUMNS for w in WORK_ITEMS for r in ROWS if c <= w):
        wanted = (columns, items // columns, rows)
        with patch.object(TileJob, "cost_a_plane", lambda job, *_, wanted=wanted: _shape(job) != wanted):
            if wanted in set(_shapes_used(call)):
                seconds[wanted] = bench.time(call)[0].program_seconds
    _tile_job.cheapest_job.cache_clear()
    return seconds, chosen


def _shapes_used(call: Callable[[], object]) -> Iterator[Shape]:
    """Call, and yield the shapes of the programs that were run."""
    used: list[TileJob] = []
    _tile_job.cheapest_job.cache_clear()
    tile = _tile.Tile
    with patch.object(_tile, "Tile", lambda job, *told: used.append(job) or tile(job, *told)):
        call()
    return map(_shape, used)


def _shape(job: TileJob) -> Shape:
    return job.columns, job.lines, job.rows


if __name__ == "__main__":
    main()
