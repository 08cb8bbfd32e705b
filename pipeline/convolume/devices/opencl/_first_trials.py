"""The process in which each family of a device's default programs is tried before any run compiles it.

It writes what it is about to try to disk first: whoever finds that and no result knows what the process died of.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.devices import Pass
from convolume.devices._method_speeds import method_speeds
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._discovery import find, traits_of
from convolume.devices.opencl._guard import (
    FAMILIES,
    FATAL_DEATHS,
    LIMIT_S,
    SAFE_BYTES,
    FirstTrials,
    Guard,
    Record,
    lock_of,
    vector_sizes,
)
from convolume.errors import DeviceError
from convolume.numerics import Precision
from convolume.records import DeviceInfo
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from convolume.devices.opencl._jobs import Traits

Array = npt.NDArray[Any]

NEVER = 1 << 62
# Rows and spans of every default variant, with some left over.
SHAPE = (19, 21, 259)
CUBE, LINE = 5, 9
NUMBERS = {
    "strip float32": (np.float32, np.float32, Precision.SINGLE),
    # Integer results of `convolume.ndimage` are summed so.
    "strip float64": (np.uint16, np.uint16, Precision.SCIPY),
    "walk float32": (np.float32, np.float32, Precision.SINGLE),
    "walk float64": (np.float64, np.float64, Precision.DOUBLE),
}


def main() -> None:
    """Try what is not known yet, family by family."""
    request = json.load(sys.stdin)
    info, path = DeviceInfo(**request["info"]), Path(request["path"])
    _yield_to_others()
    record = Record.read(path)
    if record.trying:
        record.deaths[record.trying] = record.deaths.get(record.trying, 0) + 1
        record.trying = ""
    traits = traits_of(find(info.identifier))
    try:
        for family in FAMILIES:
            if family not in record.settled:
                record.settled[family] = _widest(info, family, traits, record, path)
                record.write(path)
    except Exception:
        # It is not the compiler that went wrong: who began this finds that nothing came of it.
        record.trying = ""
        record.write(path)
        raise
    lock_of(path).unlink(missing_ok=True)
    # What the next run will ask for: it is kept if nobody is in the way, and its programs are compiled in any case.
    method_speeds(OpenCLDevice(info, guard=FirstTrials))


def _yield_to_others() -> None:
    """Let runs go first, and leave no memory dump behind."""
    if hasattr(os, "nice"):
        os.nice(10)
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 (not on Windows)

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _widest(info: DeviceInfo, family: str, traits: Traits, record: Record, path: Path) -> int:
    """Return the bytes of the widest vectors with which a family works; 0 where there are none."""
    if family.endswith("float64") and not info.has_float64:
        return traits.vector_bytes
    for size in vector_sizes(traits):
        trial = f"{family} {size}"
        if record.deaths.get(trial, 0) >= FATAL_DEATHS:
            record.refused[trial] = f"killed the process that tried it, or took more than {LIMIT_S:g} s"
            continue
        record.trying = trial
        record.write(path)
        lock_of(path).touch()
        # Ends the process, whatever the compiler is at.
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        reason = _reason_against(info, family, replace(traits, vector_bytes=size))
        faulthandler.cancel_dump_traceback_later()
        record.trying = ""
        if not reason:
            return size
        record.refused[trial] = reason
    return 0


def _reason_against(info: DeviceInfo, family: str, traits: Traits) -> str:
    """Run a program that stands for a family beside the generic one; return what is wrong, empty where nothing is."""
    template, sums = family.split()
    narrow = replace(traits, vector_bytes=SAFE_BYTES)
    generic = OpenCLDevice(info, NEVER, guard=partial(_as_told, narrow))
    tried = OpenCLDevice(info, NEVER if template == "generic" else 0, guard=partial(_as_told, traits))
    kind = f"{'walk' if template == 'walk' else 'strip'} {sums}"
    try:
        results = [_result(device, kind).tobytes() for device in (generic, tried)]
    except DeviceError as error:
        return " ".join(str(error).split())
    return "" if results[0] == results[1] else "computes other bits than the generic program"


def _as_told(told: Traits, info: DeviceInfo, traits: Traits) -> Guard:
    del traits
    return Guard(info, told)


def _result(device: OpenCLDevice, kind: str) -> Array:
    """Return what a device makes of an image, with its faces filled."""
    source, target, precision = NUMBERS[kind]
    generator = np.random.default_rng(0)
    voxels = generator.uniform(0, 1000, SHAPE).astype(source)
    if kind.startswith("strip"):
        stencils = [Stencil.correlate(generator.uniform(-1, 1, (CUBE,) * 3))]
    else:
        stencils = [Stencil.correlate(generator.uniform(0, 1, LINE)).on_axes((axis,), 3) for axis in range(3)]
    passes = [_pass(stencil) for stencil in stencils]
    out = np.empty(SHAPE, target)
    if not device.correlate_passes(voxels, passes, out, precision):
        for step in passes:
            device.correlate(np.ascontiguousarray(voxels[np.ix_(*step.places)]), step.stencil, out, precision)
            voxels = out.copy()
    return out


def _pass(stencil: Stencil) -> Pass:
    """Return a pass in which the voxels at the faces go on beyond them."""
    places = zip(SHAPE, stencil.shape, strict=True)
    return Pass(stencil, tuple(np.clip(np.arange(n + k - 1) - k // 2, 0, n - 1) for n, k in places), 0.0)


if __name__ == "__main__":
    main()
