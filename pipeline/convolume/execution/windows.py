"""Driving blocks from store to store: a task reads its own halo and writes its own shards."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from convolume.clusters import Task
from convolume.execution.failures import finish_all
from convolume.execution.recovery import recovered_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convolume.clusters import Cluster
    from convolume.execution.task import StoreJob
    from convolume.records import BlockRecord
    from convolume.regions import BlockGrid, Region

__all__ = ["drive_windows"]


def drive_windows(
    cluster: Cluster, job: StoreJob, grid: BlockGrid, name: str, is_done: Callable[[Region], bool]
) -> Iterator[BlockRecord]:
    """Yield the record of every block as it is finished; those that cannot be are told at the end.

    Parameters
    ----------
    cluster : Cluster
        Where tasks run.
    job : StoreJob
        What is done on every block.
    grid : BlockGrid
        The blocks, aligned to the shards of every output: each shard has one writer.
    name : str
        What the dashboard calls the tasks.
    is_done : callable
        Says of a block's region whether an earlier attempt at the same run has done it; then it is left out.
    """

    def tasks_of(first: int, last: int) -> Iterator[Task]:
        blocks = grid.between(first, last)
        return (Task(name, index, recovered_block, (job, index, at)) for index, at in blocks if not is_done(at))

    # Neighbours go to one worker, which has the chunks that they share.
    ends = [len(grid) * number // cluster.worker_count for number in range(cluster.worker_count + 1)]
    return finish_all(cluster, [tasks_of(first, last) for first, last in pairwise(ends)])
