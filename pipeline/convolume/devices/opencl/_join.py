"""Arithmetic between arrays on a GPU: what `join.cl` is made for and told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from convolume.devices.opencl._arrangement import pitches
from convolume.devices.opencl._jobs import OPENCL_TYPES, Job, Numbers, one_voxel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from convolume.devices.opencl._arrangement import Laid
    from convolume.operations import Arithmetic

__all__ = ["JoinJob", "join_axes", "join_job"]


@dataclass(frozen=True, slots=True)
class JoinJob(Job):
    """A program for one arithmetic; `others` are NumPy's names of the dtypes of the second part and all behind it."""

    template: ClassVar[str] = "join.cl"
    arithmetic: Arithmetic
    others: tuple[str, ...]

    @property
    def source_types(self) -> list[str]:
        """OpenCL's names of the dtypes of all parts."""
        return [OPENCL_TYPES[name] for name in (self.numbers.source, *self.others)]


def join_job(arithmetic: Arithmetic, sources: Sequence[str], target: str) -> JoinJob:
    """Return the job for parts and a target of these dtypes; products and sums stay apart, as they do in NumPy."""
    first, *others = sources
    return JoinJob(*one_voxel(Numbers(first, target, target, exact=True)), arithmetic, tuple(others))


def join_axes(target: Laid, parts: Sequence[Laid]) -> npt.NDArray[np.int64]:
    """Return, for each axis from the innermost, its extent, and its pitch in the target and in every part."""
    columns = [np.array(target.shape), *(pitches(each) for each in (target, *parts))]
    return np.stack(columns, axis=1)[::-1].astype(np.int64)
