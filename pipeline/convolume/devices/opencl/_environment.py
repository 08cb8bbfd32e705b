"""What the worker processes of a device need in their environment before they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convolume.records import DeviceInfo

__all__ = ["worker_environment"]

POCL_PLATFORM = "Portable Computing Language"


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
        # The first name up to PoCL 3, the second from PoCL 4 on. Pinning would put all workers on the same cores.
        return {"POCL_MAX_PTHREAD_COUNT": count, "POCL_CPU_MAX_CU_COUNT": count, "POCL_AFFINITY": "0"}
    if "Intel" in info.platform:
        return {"DPCPP_CPU_NUM_CUS": count}
    return {}
