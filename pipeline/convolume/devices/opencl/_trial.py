"""A variant is tried in a process of its own first: a compiler that fails, hangs or dies takes no run with it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._discovery import find, traits_of
from convolume.devices.opencl._variants import CASES, Case, Variant, Variants
from convolume.errors import DeviceError
from convolume.records import DeviceInfo
from convolume.stencil import Stencil

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["correlation_of", "refusal"]

LIMIT_S = 60.0
# What the process says when it is up: what goes wrong from here on is the variant's doing.
READY = "ready"
COMMAND = (sys.executable, "-m", "convolume.devices.opencl._trial")
NEVER = 1 << 62


def refusal(info: DeviceInfo, case: Case, variant: Variant) -> str:
    """Return why a variant is not to be used, after trying it; empty where nothing speaks against it.

    Raises
    ------
    DeviceError
        The process could not even begin.
    """
    request = json.dumps({"info": asdict(info), "case": case.label, "variant": asdict(variant)})
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter and module)
            COMMAND, input=request, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {LIMIT_S:g} s"
    lines = done.stdout.splitlines()
    if lines[:1] != [READY]:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        message = f"{info.name}: variants are tried in a process of their own, which did not start: {reason}"
        raise DeviceError(message)
    if done.returncode < 0:
        return f"killed the compiler ({signal.Signals(-done.returncode).name})"
    if done.returncode:
        return lines[-1] if len(lines) > 1 else f"ended with exit code {done.returncode}"
    return ""


def correlation_of(case: Case, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.generic], Stencil]:
    """Return voxels and a stencil of a case whose valid correlation has this shape."""
    generator = np.random.default_rng(0)
    stencil = Stencil.correlate(generator.uniform(-1, 1, case.extents))
    padded = generator.uniform(0, 1000, stencil.halo.outer(shape)).astype(case.numbers.source)
    return padded, stencil


def main() -> None:
    """Compile a variant, and compare what it computes with the generic program."""
    request = json.load(sys.stdin)
    info = DeviceInfo(**request["info"])
    case = next(case for case in CASES if case.label == request["case"])
    variant = Variant(**request["variant"])
    traits = traits_of(find(info.identifier))
    say(READY)
    # The last rows and the last span are shifted back.
    shape = (2 * variant.rows + 1, 2 * variant.rows + 1, (3 * variant.vectors - 1) * variant.vector_width)
    padded, stencil = correlation_of(case, shape)
    devices = (OpenCLDevice(info, NEVER), OpenCLDevice(info, 0, Variants(traits, {case.label: variant})))
    outs = []
    for device in devices:
        outs.append(np.empty(shape, case.numbers.target))
        try:
            device.correlate(padded, stencil, outs[-1], case.precision)
        except DeviceError as error:
            say(" ".join(str(error).split()))
            sys.exit(1)
    if outs[0].tobytes() != outs[1].tobytes():
        say("computes other bits than the generic program")
        sys.exit(1)


def say(line: str) -> None:
    """Write a line at once: this process may not live to the next."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
