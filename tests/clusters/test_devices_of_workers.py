"""One process a device: each worker is handed its own by name."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import os, time
from convolume.clusters import Task
from convolume.devices._selection import open_device, retire_device
from convolume.sites import sited

def opened(info, number):
    time.sleep(0.05)
    return os.getpid(), open_device(info).info.identifier

def after_losing_it(info):
    handed = open_device(info).info.identifier
    retire_device(info)
    return handed, open_device(info).info.identifier if not handed.endswith("/0") else "is the first"

if __name__ == "__main__":
    config = {"workers": 2, "threads_per_worker": 1, "device": "pthread", "dashboard": False}
    with sited(config, []) as site, site.cluster() as cluster:
        info = site.device.info
        tasks = (Task("opened", (n,), opened, (info, n)) for n in range(20))
        told = set(cluster.map_unordered(tasks))
        print(len(told), len({process for process, _ in told}), *sorted({name[-2:] for _, name in told}))
        lost = set(cluster.map_unordered(Task("lost", (n,), after_losing_it, (info,)) for n in range(1)))
        print(*(handed[-2:] + " " + after[-2:] for handed, after in lost))
"""


def test_two_workers_two_devices() -> None:
    """Two devices of the same name; where a worker's own is lost, the other one serves it too."""
    environment = {**os.environ, "POCL_DEVICES": "pthread pthread"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 (a fixed text)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "2 2 /0 /1"
    assert second in {"/1 /0", "/0 st"}
