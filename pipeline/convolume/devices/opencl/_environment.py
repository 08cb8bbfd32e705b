"""What drivers find in their environment: in worker processes, and while PoCL starts its threads."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.records import DeviceInfo

__all__ = ["threads_on_processors", "worker_environment"]

POCL_PLATFORM = "Portable Computing Language"
# The first limits threads up to PoCL 3, the second from PoCL 4 on.
THREAD_COUNTS, AFFINITY = ("POCL_MAX_PTHREAD_COUNT", "POCL_CPU_MAX_CU_COUNT"), "POCL_AFFINITY"


@contextmanager
def threads_on_processors() -> Iterator[None]:
    """Let the threads that PoCL starts here keep to a processor each.

    Else the operating system lets several run on one while another is idle, and a short program takes twice as long.
    Not where the user has set PoCL's own variables, nor where the process may use only some of the processors: PoCL
    would bind threads to the first ones. The environment is left as it was.
    """
    is_free = AFFINITY not in os.environ and not any(name in os.environ for name in THREAD_COUNTS)
    if not is_free or not _may_use_all_processors():
        yield
        return
    os.environ[AFFINITY] = "1"
    try:
        yield
    finally:
        os.environ.pop(AFFINITY, None)


def _may_use_all_processors() -> bool:
    return hasattr(os, "sched_getaffinity") and os.sched_getaffinity(0) == set(range(os.cpu_count() or 0))


def worker_environment(info: DeviceInfo, threads: int) -> dict[str, str]:
    """Return the variables that give each worker of a CPU device its share of threads.

    A GPU needs none: a worker finds its card by ``info.identifier``.

    Examples
    --------
    >>> from convolume.records import DeviceInfo
    >>> pocl = DeviceInfo("a processor", "opencl", "…", "cpu", platform="Portable Computing Language")
    >>> worker_environment(pocl, 2)["POCL_MAX_PTHREAD_COUNT"]
    '2'
    """
    if info.kind != "cpu":
        return {}
    count = str(max(1, threads))
    if info.platform == POCL_PLATFORM:
        # Bound threads would put all workers on the same processors.
        return {**dict.fromkeys(THREAD_COUNTS, count), AFFINITY: "0"}
    if "Intel" in info.platform:
        return {"DPCPP_CPU_NUM_CUS": count}
    return {}
