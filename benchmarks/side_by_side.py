"""What all benchmarks share: options, the device and its floor, medians of calls, and tables in Markdown."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from hardware_floor import Floor, measure_floor
from program_clock import ProgramClock

import convolume
from convolume.devices._selection import open_device

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Bench", "Timing", "aligned_empty", "share", "timed"]

# Programs are compiled for a filter when it has been called a few times.
WARM_UP_CALLS = 3
# Peers that are slow are not called again and again.
PEER_SECONDS = 2.0
LINE_BYTES = 64
NAME_WIDTH, FIGURE_WIDTH, MOST_DECIMALS = 18, 6, 4


@dataclass(frozen=True)
class Timing:
    """Medians of whole calls, and of what their programs took on the device by OpenCL's clock, in seconds."""

    seconds: float
    program_seconds: float


class Bench:
    """Options from the command line, the device that they name, and the tables that were printed.

    Parameters
    ----------
    description : str
        The script's own, for ``--help``.
    extent : int
        Voxels along each axis where the command line does not say.
    plot : str, optional
        What ``--plot`` is for, where a script has it.
    """

    def __init__(self, description: str | None, extent: int = 256, plot: str = argparse.SUPPRESS) -> None:
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--device", help="a part of the device's name, as for convolume.select_device")
        parser.add_argument("--extent", type=int, default=extent, help=f"voxels along each axis ({extent})")
        parser.add_argument("--repeats", type=int, default=7, help="calls of which the median is taken (7)")
        parser.add_argument("--only", default="", metavar="NAME", help="only rows whose name holds this")
        parser.add_argument("--json", type=Path, metavar="FILE", help="where all figures are written, too")
        parser.add_argument("--plot", type=Path, metavar="FILE", help=plot)
        self._options = parser.parse_args()
        self.extent: int = self._options.extent
        self.repeats: int = self._options.repeats
        self.plot: Path | None = self._options.plot
        self._clock = ProgramClock()
        if self._options.device:
            convolume.select_device(self._options.device)
        self.info = convolume.choose_device().info
        if self.info.backend != "opencl":
            parser.error(f"{self.info.name} is no OpenCL device")
        # On a new machine programs are tried first, and speeds of methods are measured when that is done.
        open_device(self.info).wait_for_trials()
        self._figures: dict[str, Any] = {
            "device": self.info.name,
            "platform": self.info.platform,
            "driver": self.info.driver,
            "extent": self.extent,
            "repeats": self.repeats,
            "busy": _load(),
        }
        print(f"{self.info.name} ({self.info.platform} {self.info.driver}), {self.info.compute_units} compute units")
        print(f"{_load():.0%} of the processors were busy in the last minute")

    def measure_floor(self, *numbers: str) -> Floor:
        """Return the device's floor, with the peak in OpenCL's ``float``, ``double``, or both."""
        floor = measure_floor(self.info, *numbers)
        print(f"floor: {floor}")
        self._figures["floor"] = asdict(floor)
        return floor

    def is_wanted(self, name: str) -> bool:
        """Say whether the command line asks for a row."""
        return self._options.only.lower() in name.lower()

    def volume(self, dtype: npt.DTypeLike = np.float32, extent: int | None = None) -> npt.NDArray[Any]:
        """Return a cube of noise: from 0 to 1, or over the range of whole numbers."""
        return noise((extent or self.extent,) * 3, dtype)

    def time(self, *calls: Callable[[], Any]) -> list[Timing]:
        """Return the medians of calls of ours, taken in turn after calls that warm up: they share what else happens."""
        for call in calls * WARM_UP_CALLS:
            call()
        rounds = [[self._timing(call) for call in calls] for _ in range(self.repeats)]
        return [_median(timings) for timings in zip(*rounds, strict=True)]

    def _timing(self, call: Callable[[], Any]) -> Timing:
        self._clock.restart()
        return Timing(timed(call)[0], self._clock.seconds())

    def time_peer(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Return the median of a peer's call, and its result; a slow one is called once."""
        seconds, result = timed(call)
        measured = [seconds]
        while len(measured) < self.repeats and sum(measured) + seconds < PEER_SECONDS:
            measured.append(timed(call)[0])
        return median(measured), result

    def table(self, *headings: str) -> Table:
        """Begin a table, whose figures go to the file of ``--json`` under its first heading."""
        table = Table(headings)
        self._figures[headings[0]] = table.rows
        return table

    def close(self) -> None:
        """Write the figures to where they are wanted."""
        if self._options.json:
            self._options.json.write_text(json.dumps(self._figures, indent=1) + "\n", encoding="utf-8")


class Table:
    """A table that is printed row by row; numbers with three digits that count."""

    def __init__(self, headings: Sequence[str]) -> None:
        self._headings = headings
        self._widths = [NAME_WIDTH, *(max(FIGURE_WIDTH, len(heading)) for heading in headings[1:])]
        self.rows: list[dict[str, str | float | None]] = []
        print()
        self._print(headings)
        self._print(["-" * width for width in self._widths])

    def add(self, name: str, *figures: str | float | None) -> None:
        """Print a row; None is a figure that there is not."""
        self.rows.append(dict(zip(self._headings, (name, *figures), strict=True)))
        self._print([name, *map(_text, figures)])

    def _print(self, cells: Sequence[str]) -> None:
        first, *others = zip(cells, self._widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        print(f"| {' | '.join(padded)} |", flush=True)


def _median(timings: Sequence[Timing]) -> Timing:
    return Timing(median(each.seconds for each in timings), median(each.program_seconds for each in timings))


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took in seconds, and its result."""
    began = perf_counter()
    result = call()
    return perf_counter() - began, result


def noise(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return noise: floats from 0 to 1, whole numbers over the range that 16 bits and the dtype have in common."""
    generator, number = np.random.default_rng(0), np.dtype(dtype)
    if number.kind == "f":
        return generator.random(shape, np.float32).astype(number, copy=False)
    least, most = (max(np.iinfo(number).min, -(2**15)), min(np.iinfo(number).max, 2**16 - 1))
    return generator.integers(least, most, shape, number, endpoint=True)


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return a new array that begins with a line of the cache, touched already."""
    number = np.dtype(dtype)
    memory = np.zeros(math.prod(shape) * number.itemsize + LINE_BYTES, np.uint8)
    memory.fill(1)
    start = -memory.ctypes.data % LINE_BYTES
    return memory[start : start + memory.size - LINE_BYTES].view(number).reshape(shape)


def share(part: float, whole: float) -> str:
    """Return a part of a whole in percent."""
    return f"{part / whole:.0%}" if whole else "-"


def _text(figure: str | float | None) -> str:
    if figure is None:
        return "-"
    if isinstance(figure, str):
        return figure
    digits = 2 - math.floor(math.log10(abs(figure))) if figure else 0
    return f"{figure:.{max(0, digits)}f}" if digits <= MOST_DECIMALS else f"{figure:.0e}"


def _load() -> float:
    """Return how busy the machine was in the last minute, as a part of its processors."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)
