"""What a program is made for, as frozen data, and the OpenCL source rendered from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from convolume.addition_chain import additions
from convolume.arrays import CACHE_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPENCL_TYPES", "GenericJob", "Job", "Numbers", "Traits", "box_sum", "one_voxel", "render"]

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
    """NumPy names of the dtypes that are read, summed in and written.

    Parameters
    ----------
    source, sum, target : str
        The dtypes.
    exact : bool
        Multiplications and additions stay apart.
    rounded : bool
        Whole numbers are written as `convolume.numerics.cast_result` saturates; else sums are cut off.
    """

    source: str
    sum: str
    target: str
    exact: bool
    rounded: bool = False

    @property
    def between(self) -> str:
        """The dtype in which one pass hands voxels to the next: that of the target, but what is rounded is so once."""
        return self.sum if self.rounded else self.target


@dataclass(frozen=True, slots=True)
class Job:
    """What all programs are made for."""

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
    def between_type(self) -> str:
        """OpenCL's name of the dtype between two passes."""
        return OPENCL_TYPES[self.numbers.between]

    @property
    def target_is_integer(self) -> bool:
        """Say whether sums become whole numbers."""
        return np.dtype(self.numbers.target).kind in "iu"

    @property
    def is_rounded(self) -> bool:
        """Say whether they become the nearest that there is; else they are cut off."""
        return self.numbers.rounded

    @property
    def target_limits(self) -> tuple[int, int]:
        """The smallest and the largest whole number that can be written."""
        limits = np.iinfo(self.numbers.target)
        return int(limits.min), int(limits.max)

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
    def is_streamed(self) -> bool:
        """Say whether results are stored past the cache.

        Part of a line of the cache that is stored past it is worse than none.
        """
        fills_lines = self.span * np.dtype(self.numbers.target).itemsize % CACHE_LINE_BYTES == 0
        return self.loose_pointers and fills_lines

    @property
    def line_bytes(self) -> int:
        """Bytes of a line of the cache."""
        return CACHE_LINE_BYTES

    @property
    def line_vectors(self) -> int:
        """Vectors of results in a line of the cache."""
        return CACHE_LINE_BYTES // (self.vector_width * np.dtype(self.numbers.target).itemsize)

    @property
    def build_options(self) -> str:
        """Options of the compiler."""
        return "" if self.exact else "-cl-mad-enable"


@dataclass(frozen=True, slots=True)
class GenericJob(Job):
    """A program for any stencil and any extents.

    Parameters
    ----------
    by_lines : bool
        Adds pairs of weights and the division of the sum.
    as_box : bool
        Sums boxes only, in their order.
    """

    template: ClassVar[str] = "generic.cl"
    by_lines: bool
    as_box: bool


def one_voxel(numbers: Numbers) -> tuple[Numbers, bool, bool, int, int]:
    """Return the first members of jobs whose work items compute voxel by voxel, without vectors: those of GPUs."""
    return numbers, False, False, 1, 1


@cache
def _templates() -> Environment:
    loader = PackageLoader("convolume.devices", "opencl")
    templates = Environment(
        loader=loader,
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals.update(additions=additions, box_sum=box_sum)
    return templates


def box_sum(size: int, made: Mapping[int, str], begin: int = 0) -> str:
    """Return the sum of a box as programs write it.

    Parameters
    ----------
    size : int
        Its voxels.
    made : mapping of int to str
        How sums of some lengths are written that are there already, 1 among them; ``%d`` stands for their first voxel.
    begin : int
        The first voxel.

    Examples
    --------
    >>> box_sum(3, {1: "voxel%d"}), box_sum(10, {1: "voxel%d", 5: "fives[%d]"})
    ('((voxel0 + voxel1) + voxel2)', '(fives[0] + fives[5])')
    """
    if size in made:
        return made[size] % begin
    first, second = additions(size)[-1]
    return f"({box_sum(first, made, begin)} + {box_sum(second, made, begin + first)})"


@cache
def render(job: Job) -> str:
    """Return the OpenCL source of the program for a job."""
    return _templates().get_template(job.template).render(job=job)
