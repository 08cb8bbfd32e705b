"""What a program is made for, as frozen data, and the OpenCL source rendered from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.operations import Arithmetic

__all__ = ["AnywhereJob", "Column", "GenericJob", "Job", "JoinJob", "Numbers", "Run", "StripJob", "Traits", "one_voxel"]

OPENCL_TYPES = {
    "bool": "uchar",
    "int8": "char",
    "int16": "short",
    "int32": "int",
    "int64": "long",
    "uint8": "uchar",
    "uint16": "ushort",
    "uint32": "uint",
    "uint64": "ulong",
    "float32": "float",
    "float64": "double",
}


@dataclass(frozen=True, slots=True)
class Traits:
    """What decides the form of a program on a device.

    Parameters
    ----------
    on_cpu : bool
        Work items are threads that walk along rows; else each is one voxel.
    vector_bytes : int
        Width of the processor's vectors.
    loose_pointers : bool
        The compiler takes vectors at any element through a pointer.
    """

    on_cpu: bool
    vector_bytes: int
    loose_pointers: bool


@dataclass(frozen=True, slots=True)
class Numbers:
    """NumPy names of the dtypes that are read, summed in and written; `exact` forbids contraction."""

    source: str
    sum: str
    target: str
    exact: bool


@dataclass(frozen=True, slots=True)
class Column:
    """One vector that is loaded from a line, and the ``(row, y)`` of rows and weights that use it."""

    x: int
    uses: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring planes of a stencil, ``first … stop``, whose weights differ from zero at the same ``(y, x)``."""

    first: int
    stop: int
    pattern: tuple[tuple[int, int], ...]

    def lines(self, rows: int) -> list[list[Column]]:
        """Return what is loaded from every line that one of so many neighbouring rows needs.

        A row meets its weights in ascending y and x: the order of summation.
        """
        height = max(y for y, _ in self.pattern) + 1
        return [list(self._columns(line, rows)) for line in range(height + rows - 1)]

    def _columns(self, line: int, rows: int) -> Iterator[Column]:
        needed = set(self.pattern)
        for x in sorted({x for _, x in self.pattern}):
            uses = tuple((row, line - row) for row in range(rows) if (line - row, x) in needed)
            if uses:
                yield Column(x, uses)


@dataclass(frozen=True, slots=True)
class Job:
    """What both programs are made for."""

    template: ClassVar[str]
    numbers: Numbers
    on_cpu: bool
    loose_pointers: bool
    vector_width: int
    vectors: int

    @property
    def source_type(self) -> str:
        """OpenCL's name of the dtype that is read."""
        return OPENCL_TYPES[self.numbers.source]

    @property
    def sum_type(self) -> str:
        """OpenCL's name of the dtype of the sum."""
        return OPENCL_TYPES[self.numbers.sum]

    @property
    def target_type(self) -> str:
        """OpenCL's name of the dtype that is written."""
        return OPENCL_TYPES[self.numbers.target]

    @property
    def target_is_integer(self) -> bool:
        """Say whether sums are cut off to whole numbers."""
        return np.dtype(self.numbers.target).kind in "iu"

    @property
    def exact(self) -> bool:
        """Say whether multiplications and additions stay apart."""
        return self.numbers.exact

    @property
    def needs_float64(self) -> bool:
        """Say whether the program handles doubles."""
        return "float64" in {self.numbers.source, self.numbers.sum, self.numbers.target}

    @property
    def span(self) -> int:
        """Voxels along x that are computed at a time."""
        return self.vector_width * self.vectors

    @property
    def build_options(self) -> str:
        """Options of the compiler."""
        return "" if self.exact else "-cl-mad-enable"


@dataclass(frozen=True, slots=True)
class GenericJob(Job):
    """A program for any stencil and any extents; `by_lines` adds pairs of weights and the division of the sum."""

    template: ClassVar[str] = "generic.cl"
    by_lines: bool


@dataclass(frozen=True, slots=True)
class StripJob(Job):
    """A program for stencils with the same pattern of zeros; the weights are arguments."""

    template: ClassVar[str] = "strip.cl"
    rows: int
    weights_a_line: int
    weights_a_plane: int
    outer_dimension: int
    runs: tuple[Run, ...]

    @property
    def unrolled_sums(self) -> int:
        """Multiply-adds that stand in the source; compiling takes a millisecond or two for each."""
        return self.rows * self.vectors * sum(len(run.pattern) for run in self.runs)


def one_voxel(numbers: Numbers) -> tuple[Numbers, bool, bool, int, int]:
    """Return the first members of jobs whose work items compute voxel by voxel, without vectors: those of GPUs."""
    return numbers, False, False, 1, 1


@dataclass(frozen=True, slots=True)
class AnywhereJob(Job):
    """A program of GPUs for any stencil of so many axes, faces and all."""

    template: ClassVar[str] = "anywhere.cl"
    ndim: int
    by_lines: bool


@dataclass(frozen=True, slots=True)
class JoinJob:
    """A program of GPUs for arithmetic between arrays; dtypes by NumPy's names."""

    template: ClassVar[str] = "join.cl"
    build_options: ClassVar[str] = ""
    arithmetic: Arithmetic
    sources: tuple[str, ...]
    target: str

    @property
    def source_types(self) -> list[str]:
        """OpenCL's names of the dtypes that are read."""
        return [OPENCL_TYPES[name] for name in self.sources]

    @property
    def target_type(self) -> str:
        """OpenCL's name of the dtype that is computed in and written."""
        return OPENCL_TYPES[self.target]

    @property
    def needs_float64(self) -> bool:
        """Say whether the program handles doubles."""
        return "float64" in {self.target, *self.sources}


@cache
def _templates() -> Environment:
    loader = PackageLoader("convolume.devices", "opencl")
    return Environment(
        loader=loader,
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def render(job: Job | JoinJob) -> str:
    """Return the OpenCL source of the program for a job."""
    return _templates().get_template(job.template).render(job=job)
