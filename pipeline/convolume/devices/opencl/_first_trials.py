"""The process in which each family of a device's default programs is tried before any run compiles it.

It writes what it is about to try to disk first: whoever finds that and no result knows what the process died of. It
ends with the process that began it, whose end closes its standard input: then it takes that note back.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
from contextlib import contextmanager, suppress
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
    Guard,
    Known,
    Record,
    give_up,
    lock_of,
    vector_sizes,
)
from convolume.errors import DeviceError
from convolume.numerics import Precision
from convolume.records import DeviceInfo
from convolume.stencil import Stencil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.devices.opencl._jobs import Traits

Array = npt.NDArray[Any]

NEVER = 1 << 62
# Rows and spans of every default variant, with some left over.
SHAPE = (19, 21, 259)
CUBE, LINE = 5, 9
# A box that `walk.cl` writes out, and a longer one; each is made of sums of every length.
SHORT_BOX, LONG_BOX = 7, 15
FLOATS = {
    "float32": (np.float32, np.float32, Precision.SINGLE),
    "float64": (np.float64, np.float64, Precision.DOUBLE),
}
# Integer results of `convolume.ndimage` are summed so.
NUMBERS = {"strip float64": (np.uint16, np.uint16, Precision.SCIPY)}


def main() -> None:
    """Try what is not known yet, family by family."""
    request = json.loads(sys.stdin.readline())
    info, path = DeviceInfo(**request["info"]), Path(request["path"])
    _yield_to_others()
    notes = _Notes(path)
    threading.Thread(target=notes.leave_when_left, daemon=True).start()
    traits = traits_of(find(info.identifier))
    try:
        for family in FAMILIES:
            if family not in notes.record.settled:
                notes.settle(family, _widest(info, family, traits, notes))
        # What the next run asks for; it is kept if nobody was in the way, and its programs are compiled in any case.
        with _time_limit():
            method_speeds(OpenCLDevice(info, guard=partial(Known, record=notes.record)))
        notes.finish()
    except Exception:
        # It is not the compiler that went wrong: who began this finds that nothing came of it.
        notes.take_back()
        raise
    lock_of(path).unlink(missing_ok=True)


class _Notes:
    """The record of the trials, on disk before and after each of them."""

    def __init__(self, path: Path) -> None:
        self.path, self.record = path, Record.read(path)
        self._writing = threading.Lock()
        died_in = self.record.trying
        if died_in:
            self.record.deaths[died_in] = self.record.deaths.get(died_in, 0) + 1
            self.record.trying = ""

    def begin(self, trial: str) -> None:
        """Write what is tried next."""
        with self._writing:
            self.record.trying = trial
            self.record.write(self.path)
            lock_of(self.path).touch()

    def settle(self, family: str, vector_bytes: int) -> None:
        """Write what was found of a family."""
        with self._writing:
            self.record.settled[family] = vector_bytes
            self.record.write(self.path)

    def finish(self) -> None:
        """Write that nothing is left to do."""
        with self._writing:
            self.record.is_finished = True
            self.record.write(self.path)

    def take_back(self) -> None:
        """Write that nothing is being tried."""
        with self._writing:
            self.record.trying = ""
            self.record.write(self.path)

    def leave_when_left(self) -> None:
        """End this process when the one that began it has ended, whatever is being tried."""
        # Not through the buffer, which nobody could close while this waits.
        while os.read(sys.stdin.fileno(), 1):
            pass
        with self._writing:
            give_up(self.path)
            os._exit(0)


def _yield_to_others() -> None:
    """Let runs go first, and leave no memory dump behind."""
    if hasattr(os, "nice"):
        os.nice(10)
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 (not on Windows)

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def _time_limit() -> Iterator[None]:
    """End the process where this takes too long, whatever the compiler is at."""
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _widest(info: DeviceInfo, family: str, traits: Traits, notes: _Notes) -> int:
    """Return the bytes of the widest vectors with which a family works; 0 where there are none."""
    if family.endswith("float64") and not info.has_float64:
        return traits.vector_bytes
    record = notes.record
    for size in vector_sizes(traits):
        trial = f"{family} {size}"
        if record.deaths.get(trial, 0) >= FATAL_DEATHS:
            record.refused[trial] = f"killed the process that tried it, or took more than {LIMIT_S:g} s"
            continue
        notes.begin(trial)
        with _time_limit():
            reason = reason_against(info, family, replace(traits, vector_bytes=size))
        record.trying = ""
        if not reason:
            return size
        record.refused[trial] = reason
    return 0


def reason_against(info: DeviceInfo, family: str, traits: Traits) -> str:
    """Run programs that stand for a family beside the generic one; return what is wrong, empty where nothing is."""
    template, sums = family.split()
    narrow = replace(traits, vector_bytes=SAFE_BYTES)
    generic = OpenCLDevice(info, NEVER, guard=partial(_as_told, narrow))
    tried = OpenCLDevice(info, NEVER if template == "generic" else 0, guard=partial(_as_told, traits))
    numbers = NUMBERS.get(family, FLOATS[sums])
    for stencils in _cases(template):
        try:
            results = [_result(device, stencils, *numbers).tobytes() for device in (generic, tried)]
        except DeviceError as error:
            return " ".join(str(error).split())
        if results[0] != results[1]:
            return "computes other bits than the generic program"
    return ""


def _as_told(told: Traits, info: DeviceInfo, traits: Traits) -> Guard:
    del traits
    return Guard(info, told)


def _cases(template: str) -> list[list[Stencil]]:
    """Return what is weighed to try a family: one pass, or one along each axis; walks go along one axis, too."""
    generator = np.random.default_rng(0)
    cube = [Stencil.correlate(generator.uniform(-1, 1, (CUBE,) * 3))]
    lines = [Stencil.correlate(generator.uniform(0, 1, LINE)).on_axes((axis,), 3) for axis in range(3)]
    short, long = (
        [Stencil.correlate(np.full(size, 1 / size)).on_axes((axis,), 3) for axis in range(3)]
        for size in (SHORT_BOX, LONG_BOX)
    )
    walks = [lines, short, lines[:1], lines[2:]]
    return {"generic": [cube, long], "strip": [cube], "walk": walks, "box": [long]}[template]


def _result(
    device: OpenCLDevice,
    stencils: list[Stencil],
    source: npt.DTypeLike,
    target: npt.DTypeLike,
    precision: Precision,
) -> Array:
    """Return what a device makes of an image, with its faces filled."""
    voxels = np.random.default_rng(0).uniform(0, 1000, SHAPE).astype(source)
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
