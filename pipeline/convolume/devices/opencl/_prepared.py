"""Calls made ready: what depends on passes and layouts is made once, and found again for arrays that lie alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from convolume.arrays import CACHE_LINE_BYTES
from convolume.devices.opencl._memory import memory_span
from convolume.devices.opencl._state import Launch

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from convolume.devices import Pass
    from convolume.devices.opencl._arrangement import Arguments
    from convolume.devices.opencl._jobs import Job
    from convolume.numerics import Precision

__all__ = ["PreparedCalls"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Part:
    """Where an array lies in the memory of another."""

    start_bytes: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, part: Array, whole: Array) -> Self | None:
        """Return where `part` lies; None where that is elsewhere."""
        if part.dtype != whole.dtype or not np.may_share_memory(part, whole):
            return None
        return cls(_address(part) - _address(whole), part.shape, part.strides)

    def within(self, whole: Array) -> Array:
        """Return the array that lies there in another memory."""
        return np.ndarray(self.shape, whole.dtype, memory_span(whole), self.start_bytes, self.strides)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A launch without its arrays."""

    job: Job
    source: _Part
    target: _Part
    arguments: Arguments

    @classmethod
    def of(cls, launch: Launch, voxels: Array, out: Array) -> Self | None:
        """Return a launch without its arrays; None where they are not parts of `voxels` and `out`."""
        source, target = _Part.of(launch.source, voxels), _Part.of(launch.target, out)
        if source is None or target is None:
            return None
        return cls(launch.job, source, target, launch.arrange(launch.source, launch.target))

    def on(self, voxels: Array, out: Array) -> Launch:
        """Return the launch for arrays that lie as those that it was made from."""
        return Launch(self.job, self.source.within(voxels), self.target.within(out), lambda *_: self.arguments)


class PreparedCalls:
    """The calls of one device, for as long as their first passes live."""

    def __init__(self) -> None:
        self._of_pass: WeakKeyDictionary[Pass, dict[Hashable, list[_Prepared]]] = WeakKeyDictionary()

    def launches(self, passes: Sequence[Pass], voxels: Array, out: Array, precision: Precision) -> list[Launch]:
        """Return the launches of a call that is like one before; [] where there was none."""
        calls = self._of_pass.get(passes[0])
        found = calls.get(_key(passes, voxels, out, precision)) if calls else None
        return [prepared.on(voxels, out) for prepared in found or ()]

    def keep(
        self, passes: Sequence[Pass], voxels: Array, out: Array, precision: Precision, launches: list[Launch]
    ) -> list[Launch]:
        """Keep what was made for a call, where all of it reads from its voxels and writes to its output; return it."""
        made = [_Prepared.of(launch, voxels, out) for launch in launches]
        kept = [prepared for prepared in made if prepared]
        if not kept or len(kept) < len(made):
            return launches
        self._of_pass.setdefault(passes[0], {})[_key(passes, voxels, out, precision)] = kept
        return [prepared.on(voxels, out) for prepared in kept]


def _key(passes: Sequence[Pass], voxels: Array, out: Array, precision: Precision) -> Hashable:
    return precision, *passes[1:], *_layout(voxels), *_layout(out)


def _layout(array: Array) -> tuple[Hashable, ...]:
    # Where spans along rows begin depends on where in a line of the cache the rows do.
    return array.dtype, array.shape, array.strides, _address(array) % CACHE_LINE_BYTES


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
