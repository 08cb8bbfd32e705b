"""Driving blocks from store to store: a task reads its own halo and writes its own shards."""

from __future__ import annotations

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
    tasks = (Task(name, index, recovered_block, (job, index, region)) for index, region in grid if not is_done(region))
    return finish_all(cluster, tasks)
