"""Other processes: without OpenCL, with two devices, with fewer threads, after a fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convolume.devices.opencl import available, worker_environment
from convolume.records import DeviceInfo

needs_pocl = pytest.mark.skipif(
    not any(info.platform == "Portable Computing Language" for info in available()), reason="this machine has no PoCL"
)

CHOOSE = """
import json
from convolume.devices._selection import choose_device, list_devices
choice = choose_device()
print(json.dumps({"taken": choice.info.backend, "reason": choice.reason, "speed": choice.info.speed_gflops,
                  "there": [info.identifier for info in list_devices()]}))
"""

CORRELATE = """
import sys, numpy as np
from convolume.devices.opencl import available, open_device
from convolume.numerics import Precision
from convolume.stencil import Stencil
infos = {info.identifier: info for info in available()}
out = np.empty(2, np.float32)
device = open_device(infos[sys.argv[1]])
device.correlate(np.array([1, 2, 3], np.float32), Stencil.correlate([1.0, 10.0]), out, Precision.SINGLE)
print(out.tolist(), device.info.compute_units)
"""

FORK = """
import os, warnings, numpy as np
warnings.simplefilter("ignore")  # Python's own, of forks beside threads
from convolume.devices.opencl import available, open_device
from convolume.errors import DeviceError
from convolume.numerics import Precision
from convolume.stencil import Stencil
device = open_device(available()[0])
child = os.fork()
if not child:
    try:
        device.correlate(np.ones(3), Stencil.correlate([1.0]), np.empty(3), Precision.DOUBLE)
    except DeviceError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


THREADS = """
import json, os, sys
import pyopencl
processors = set(json.loads(sys.argv[1]))
os.sched_setaffinity(0, processors)
before = set(os.listdir("/proc/self/task"))
from convolume.devices.opencl import available
available()
started = set(os.listdir("/proc/self/task")) - before
print(json.dumps([sorted(os.sched_getaffinity(int(thread))) for thread in sorted(started, key=int)]))
print(os.environ.get("POCL_AFFINITY"))
"""


def _python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (our own interpreter and code)
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


def test_without_opencl_numpy_serves(tmp_path: Path) -> None:
    """A list of drivers that does not exist leaves no platform, which is no error."""
    done = _python(CHOOSE, OCL_ICD_VENDORS=str(tmp_path / "missing"))
    assert json.loads(done.stdout) == {
        "taken": "numpy",
        "reason": "there is no OpenCL device (by default)",
        "speed": 0.0,
        "there": ["numpy"],
    }
    assert done.stderr.count("no OpenCL device was found") == 1


def test_without_pyopencl_numpy_serves(tmp_path: Path) -> None:
    """A pyopencl that cannot be imported counts as none."""
    (tmp_path / "pyopencl.py").write_text("raise ImportError('libOpenCL.so.1: cannot open shared object file')")
    done = _python(CHOOSE, PYTHONPATH=str(tmp_path))
    assert json.loads(done.stdout)["there"] == ["numpy"]


@needs_pocl
def test_an_empty_folder_of_drivers_leaves_what_pip_brought(tmp_path: Path) -> None:
    """A fresh machine: the PoCL wheel alone. One device is not measured."""
    found = json.loads(_python(CHOOSE, OCL_ICD_VENDORS=str(tmp_path), XDG_CACHE_HOME=str(tmp_path)).stdout)
    assert found["taken"] == "opencl"
    assert found["reason"] == "the only OpenCL device (by default)"
    assert found["speed"] == 0.0


@needs_pocl
def test_two_devices_of_one_name_are_told_apart_and_measured(tmp_path: Path) -> None:
    """The same identifiers in every process, and each of them computes."""
    two = {"POCL_DEVICES": "pthread pthread", "OCL_ICD_VENDORS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    found = json.loads(_python(CHOOSE, **two).stdout)
    first, second, _ = found["there"]
    assert (first[-2:], second[-2:]) == ("/0", "/1")
    assert found["reason"] == "the fastest OpenCL device (by default)"
    assert found["speed"] > 0
    for identifier in (first, second):
        assert _python(CORRELATE, identifier, **two).stdout.startswith("[21.0, 32.0]")
    # Measured once: the next process reads it from the cache.
    assert json.loads(_python(CHOOSE, **two).stdout)["speed"] == pytest.approx(found["speed"], abs=1e-3)


@needs_pocl
def test_two_devices_of_one_process_keep_the_promises(tmp_path: Path) -> None:
    """The conformance suite runs on both, one beside the other."""
    two = {"POCL_DEVICES": "pthread pthread", "OCL_ICD_VENDORS": str(tmp_path)}
    suite = str(Path(__file__).parents[1] / "test_conformance.py")
    code = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    done = _python(code, suite, "-k", "not numpy", "-v", "-p", "no:cacheprovider", **two)
    passed = [line for line in done.stdout.splitlines() if "PASSED" in line]
    assert len(passed) == 2 * sum("/1" in line for line in passed) > 0
    assert f"{len(passed)} passed" in done.stdout


@needs_pocl
def test_a_fork_is_refused_where_it_would_hang() -> None:
    """A driver's threads stay behind in the parent."""
    assert "it was forked from one" in _python(FORK).stdout


@needs_pocl
def test_workers_of_a_processor_share_its_threads() -> None:
    """The variables are those that the runtime heeds."""
    info = next(info for info in available() if info.platform == "Portable Computing Language")
    done = _python(CORRELATE, info.identifier, **worker_environment(info, 1))
    assert done.stdout.split()[-1] == "1"


ALL_PROCESSORS = list(range(os.cpu_count() or 1))


@needs_pocl
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or os.sched_getaffinity(0) != set(ALL_PROCESSORS),
    reason="this system binds no threads to processors, or this process may not use all of them",
)
@pytest.mark.parametrize(
    ("allowed", "variables", "bound"),
    [
        (ALL_PROCESSORS, {}, [[processor] for processor in ALL_PROCESSORS]),
        (ALL_PROCESSORS, {"POCL_AFFINITY": "0"}, [ALL_PROCESSORS] * len(ALL_PROCESSORS)),
        (ALL_PROCESSORS, {"POCL_MAX_PTHREAD_COUNT": "1"}, [ALL_PROCESSORS]),
        (ALL_PROCESSORS[-1:], {}, [ALL_PROCESSORS[-1:]] * len(ALL_PROCESSORS)),
    ],
    ids=["alone", "as the user has it", "few threads", "few processors"],
)
def test_threads_keep_to_a_processor_each_where_all_are_ours(
    tmp_path: Path, allowed: list[int], variables: dict[str, str], bound: list[list[int]]
) -> None:
    """And the environment, which later processes inherit, is as it was."""
    threads, left = _python(THREADS, json.dumps(allowed), OCL_ICD_VENDORS=str(tmp_path), **variables).stdout.split(
        "\n"
    )[:2]
    assert json.loads(threads) == bound
    assert left == str(variables.get("POCL_AFFINITY"))


def test_gpus_need_no_variables() -> None:
    """A worker finds its card by the identifier."""
    assert worker_environment(DeviceInfo("a card", "opencl", "a/0", "gpu"), 4) == {}


def test_importing_the_member_does_not_import_pyopencl() -> None:
    """It is loaded when a device is asked for."""
    done = _python("import convolume.devices.opencl, sys; print('pyopencl' in sys.modules)")
    assert done.stdout.strip() == "False"
