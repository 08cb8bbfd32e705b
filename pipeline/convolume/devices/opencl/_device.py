"""An OpenCL device: chooses a program for each correlation and runs it."""

from __future__ import annotations

import os
import threading
from functools import partial
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.devices import Device, HeldVoxels, Pass
from convolume.devices._transform import Transform
from convolume.devices.opencl import _memory
from convolume.devices.opencl._anywhere import anywhere_job
from convolume.devices.opencl._arrangement import generic_arguments, generic_job
from convolume.devices.opencl._box import box_walks
from convolume.devices.opencl._guard import Guard, Template
from convolume.devices.opencl._jobs import Numbers, Traits, render
from convolume.devices.opencl._means import mean_numbers
from convolume.devices.opencl._prepared import PreparedCalls
from convolume.devices.opencl._programs import has_compiled
from convolume.devices.opencl._resident import Resident, Terms
from convolume.devices.opencl._state import Launch, State
from convolume.devices.opencl._strip import StripJob, strip_arguments, strip_job
from convolume.devices.opencl._tile import tile_of
from convolume.devices.opencl._views import along_rows
from convolume.devices.opencl._walk import walks_of
from convolume.errors import DeviceError, DeviceMemoryError
from convolume.layouts import row_axis
from convolume.numerics import Precision, working_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from convolume.devices import Voxels
    from convolume.devices.opencl._variants import Variants
    from convolume.records import DeviceInfo
    from convolume.stencil import Stencil

__all__ = ["OpenCLDevice"]

Array = npt.NDArray[Any]

# A program of its own costs half a second and more of compiling, by the multiply-adds that stand in it. It gets one
# when so many voxels, in one call or several, have gone through each of them: a 7x7x7 kernel with 256^3 voxels.
SPECIALISE_FROM = 5_000_000
# A method is chosen as if a program that these calls would earn were there: kernels are seldom used once.
CALLS_COUNTED_ON = 8
# Images from about this size are walked at once, smaller ones when some of them were filtered.
WALKED_VOXELS = 2**23
# Extents from which programs do not change with the image: no fewer rows, and vectors to fill them.
MANY_ROWS, WIDE = 8, 256
# What sums are rounded to where they are summed.
ROUNDED = frozenset({"int8", "int16", "uint8", "uint16"})
# A walk saves passes through memory: each takes as long as about so many multiply-adds a voxel.
SUMS_SAVED_A_PASS = 20


class OpenCLDevice(Device):
    """One OpenCL device, driven by this process.

    Parameters
    ----------
    info : DeviceInfo
        One of `convolume.devices.opencl.available`, of this or another process.
    specialise_from : int
        Multiply-adds done, for each one that is unrolled, from which a stencil gets a program of its own.
    variants : Variants, optional
        The shapes of programs; those that were found the fastest, unless told otherwise.
    guard : type of Guard, optional
        What says which programs may be compiled, made of the device's description and traits; all, unless told
        otherwise.

    Raises
    ------
    DeviceError
        This process has no such device.
    """

    def __init__(
        self,
        info: DeviceInfo,
        specialise_from: int = SPECIALISE_FROM,
        variants: Variants | None = None,
        guard: Callable[[DeviceInfo, Traits], Guard] = Guard,
    ) -> None:
        self.info = info
        self._specialise_from, self._variants, self._guarded_by = specialise_from, variants, guard
        self._state: State | None = None
        self._open = threading.Lock()
        self._prepared = PreparedCalls()

    def correlate(self, padded: Array, stencil: Stencil, out: Array, precision: Precision) -> None:
        """Write the valid correlation of `padded` to `out`; see `convolume.devices.Device.correlate`."""
        self._check(padded, stencil, out)
        if out.size == 0:
            return
        if stencil.tap_count == 0:
            out[...] = 0
            return
        numbers = self._numbers(padded.dtype, out.dtype, precision)
        axis = row_axis(out.shape) if self._opened().traits.on_cpu else out.ndim - 1
        out = np.moveaxis(out, axis, -1)
        source, target = _memory.readable(np.moveaxis(padded, axis, -1)), _memory.writable(out, numbers.sum)
        for part in along_rows(source, stencil, target, axis):
            self._correlate_parts(*part, numbers)
        _memory.deliver(target, out, by_lines=stencil.by_lines)

    def rounds(self, dtype: np.dtype[Any]) -> bool:
        """Say whether programs round to a dtype; see `convolume.devices.Device.rounds`."""
        return self.info.kind == "cpu" and dtype.isnative and dtype.name in ROUNDED

    def hold(self, voxels: Array, dtype: np.dtype[Any]) -> Voxels:
        """Upload voxels to a GPU for a chain in floating point; see `convolume.devices.Device.hold`."""
        state = self._opened()
        if state.traits.on_cpu or dtype.kind != "f" or not self._can_hold(state, voxels, dtype):
            return voxels
        return state.residence.hold(voxels)

    def correlate_passes(self, voxels: Voxels, passes: Sequence[Pass], out: Voxels, precision: Precision) -> bool:
        """Do passes by programs that look places up; see `convolume.devices.Device.correlate_passes`."""
        if isinstance(voxels, Resident) and isinstance(out, Resident):
            self._weigh(voxels, passes, out, precision)
            return True
        if isinstance(voxels, HeldVoxels) or isinstance(out, HeldVoxels):
            message = f"{self.info.name}: voxels and result are held by different devices"
            raise DeviceError(message)
        state = self._opened()
        if not state.traits.on_cpu:
            return self._weigh_uploaded(voxels, passes, out, precision)
        launches = self._prepared.launches(passes, voxels, out, precision)
        state.run(launches)
        return bool(launches) or self._correlate_there(voxels, passes, out, precision)

    def correlate_by_transform(
        self, read: Callable[[tuple[slice, ...]], Array], stencil: Stencil, out: Array, precision: Precision
    ) -> None:
        """Transform on a GPU where pyvkfft is installed, else on the host, which also knows where NaN belongs."""
        real = np.dtype(np.float32 if precision is Precision.SINGLE else np.float64)
        is_there = self._transforms(Transform(out.shape, stencil.shape), real)
        if not (is_there and self._opened().fourier.correlate(read, stencil, out, real)):
            super().correlate_by_transform(read, stencil, out, precision)

    def _transforms(self, transform: Transform, real: np.dtype[Any]) -> bool:
        state = self._opened()
        if state.traits.on_cpu or not prod(transform.shape) or find_spec("pyvkfft") is None:
            return False
        spectrum_bytes = prod(transform.lengths) * 2 * real.itemsize
        # Real transforms begin along the last axis.
        is_fitting = transform.axes[-1] == len(transform.shape) - 1 and spectrum_bytes <= state.max_allocation_bytes
        return is_fitting and (real == np.float32 or self.info.has_float64)

    def _weigh(self, voxels: Resident, passes: Sequence[Pass], out: Resident, precision: Precision) -> None:
        state = self._opened()
        terms = Terms(
            lambda source: self._numbers(source, out.dtype, precision),
            lambda job, sums: state.pays(job, sums, self._specialise_from * job.unrolled_sums),
        )
        voxels.home.weigh(voxels, passes, out, terms)

    def _weigh_uploaded(self, voxels: Array, passes: Sequence[Pass], out: Array, precision: Precision) -> bool:
        """Do passes between arrays of the host; whole numbers between two passes must be those of the target."""
        state = self._opened()
        target = np.dtype(self._numbers(voxels.dtype, out.dtype, precision).target)
        if not self._can_hold(state, voxels, target) or (len(passes) > 1 and target != out.dtype):
            return False
        held = state.residence.hold(voxels)
        result = held.room(out.shape, target)
        self._weigh(held, passes, result, precision)
        by_lines = any(step.stencil.by_lines for step in passes)
        _memory.deliver(result.fetch(out if target == out.dtype else None), out, by_lines=by_lines)
        return True

    @staticmethod
    def _can_hold(state: State, voxels: Array, dtype: np.dtype[Any]) -> bool:
        largest_bytes = voxels.size * max(voxels.itemsize, dtype.itemsize)
        return 0 < largest_bytes <= state.max_allocation_bytes and voxels.dtype.kind != "c"

    def _correlate_there(self, voxels: Array, passes: Sequence[Pass], out: Array, precision: Precision) -> bool:
        """Do a pass in strips, those along one axis each in one walk, where they fit."""
        if out.size == 0 or "c" in {voxels.dtype.kind, out.dtype.kind} or row_axis(out.shape) < out.ndim - 1:
            return False
        numbers = self._numbers(voxels.dtype, out.dtype, precision)
        state = self._opened()
        source, target = _memory.readable(voxels), _memory.writable(out, numbers.sum)
        if max(state.memory.needed_bytes(array) for array in (source, target)) > state.max_allocation_bytes:
            return False
        # What passes between two steps is read by the next as if it were an image.
        is_alike = numbers.target == out.dtype.name and working_dtype(numbers.between, precision).name == numbers.sum
        launches: list[Launch] = []
        if is_alike:
            launches = self._walks(state, passes, source, target, numbers)
        if not launches and len(passes) == 1:
            launches = self._strips(state, passes[0], source, target, numbers)
        if is_alike and not launches:
            launches = self._boxes(state, passes, source, target, numbers)
        if isinstance(state.memory, _memory.HostPointers):
            launches = self._prepared.keep(passes, voxels, out, precision, launches)
        state.run(launches)
        _memory.deliver(target, out)
        return bool(launches)

    def _strips(self, state: State, step: Pass, source: Array, target: Array, numbers: Numbers) -> list[Launch]:
        traits = state.guard.allowed("strip", numbers)
        if traits is None:
            return []
        variant = state.variants.best(step.stencil, numbers, traits)
        job = strip_job(step.stencil, target.shape, numbers, (traits, state.local_bytes), variant)
        sums = step.stencil.tap_count * target.size
        if job is None or not state.pays(job, sums, self._specialise_from * job.unrolled_sums):
            return []
        limits = self.info.compute_units, state.local_bytes
        arrange = partial(strip_arguments, step=step, job=job, limits=limits)
        return [Launch(job, source, target, arrange)]

    def _walks(
        self, state: State, passes: Sequence[Pass], source: Array, target: Array, numbers: Numbers
    ) -> list[Launch]:
        traits = state.guard.allowed("walk", numbers)
        if traits is None:
            return []
        walks = walks_of(source, passes, target, numbers, (traits, state.local_bytes))
        taps = sum(step.stencil.tap_count for step in passes)
        sums = target.size * (taps + (len(passes) - 1) * SUMS_SAVED_A_PASS)
        if not walks or not state.pays(walks[0].job, sums, self._specialise_from * walks[0].job.unrolled_sums):
            return []
        units = self.info.compute_units
        return [Launch(walk.job, walk.voxels, walk.out, partial(walk.arguments, compute_units=units)) for walk in walks]

    def _boxes(
        self, state: State, passes: Sequence[Pass], source: Array, target: Array, numbers: Numbers
    ) -> list[Launch]:
        traits = state.guard.allowed("box", mean_numbers(passes, numbers) or numbers)
        if traits is None:
            return []
        walks = box_walks(source, passes, target, numbers, (traits, state.local_bytes), state.room)
        saved = target.size * len(passes) * SUMS_SAVED_A_PASS
        to_compile = sum(job.unrolled_sums for job in {walk.job for walk in walks})
        if not walks or not state.pays(walks[0].job, saved, self._specialise_from * to_compile):
            return []
        units = self.info.compute_units
        return [Launch(walk.job, walk.voxels, walk.out, partial(walk.arguments, compute_units=units)) for walk in walks]

    @property
    def has_compiled(self) -> bool:
        """Whether a program was compiled in this process."""
        return has_compiled()

    def prepared(self) -> OpenCLDevice:
        """Return this device, with a program for every stencil at once."""
        return OpenCLDevice(self.info, 0, self._variants, self._guarded_by)

    @property
    def is_tried(self) -> bool:
        """Say whether it is known which programs its compiler survives."""
        return self.guard.is_settled

    @property
    def guard(self) -> Guard:
        """What says which programs may be compiled in this process."""
        return self._opened().guard

    def prepares(self, stencils: Sequence[Stencil], voxels: int) -> bool:
        """Say whether so many voxels of output are reason enough for a program that is made for these passes."""
        numbers = Numbers("float32", "float32", "float32", exact=False)
        state = self._opened()
        family = _family_of(stencils)
        traits = state.guard.expected(family, numbers)
        if traits is None or family != "strip":
            return traits is not None and CALLS_COUNTED_ON * voxels >= WALKED_VOXELS
        (stencil,) = stencils
        job = _special_job(stencil, (*[MANY_ROWS] * (stencil.ndim - 1), WIDE), numbers, traits, state)
        sums = CALLS_COUNTED_ON * stencil.tap_count * voxels
        return job is not None and sums >= self._specialise_from * job.unrolled_sums

    def source_for(
        self,
        stencil: Stencil,
        shape: tuple[int, ...],
        dtypes: tuple[npt.DTypeLike, npt.DTypeLike],
        precision: Precision,
    ) -> str:
        """Return the source of the program for a stencil; the specialised one where there is one."""
        numbers = self._numbers(np.dtype(dtypes[0]), np.dtype(dtypes[1]), precision)
        state = self._opened()
        if not state.traits.on_cpu:
            source = np.empty(stencil.halo.outer(shape), dtypes[0])
            step = _as_it_lies(stencil, source)
            tile = tile_of(source, [step], np.empty(shape, dtypes[1]), numbers, state.limits)
            return render(tile.job if tile else anywhere_job(step, numbers))
        traits = state.guard.expected("strip", numbers)
        special = _special_job(stencil, shape, numbers, traits, state) if traits else None
        return render(special or generic_job(stencil, numbers, state.guard.generic(numbers)))

    def _check(self, padded: Array, stencil: Stencil, out: Array) -> None:
        expected = stencil.halo.inner(padded.shape) if stencil.ndim == padded.ndim else None
        if out.shape != expected or "c" in {padded.dtype.kind, out.dtype.kind}:
            message = (
                f"{self.info.name}: a stencil of {stencil.shape} on {padded.dtype} voxels of {padded.shape} "
                f"does not give {out.dtype} voxels of {out.shape}, but real ones of {expected}"
            )
            raise DeviceError(message)

    def _numbers(self, source: np.dtype[Any], target: np.dtype[Any], precision: Precision) -> Numbers:
        sums = working_dtype(source, precision).name
        read = _memory.readable_dtype(source).name
        written = _memory.writable_dtype(target, sums).name
        if not self.info.has_float64 and "float64" in {sums, read, written}:
            message = (
                f"{self.info.name} has no float64, which {source} voxels with precision {precision.value!r} need: "
                "take another device (`device: numpy` always works), or float32 voxels with precision 'single'"
            )
            raise DeviceError(message)
        is_exact = precision is Precision.SCIPY
        return Numbers(read, sums, written, is_exact, rounded=not is_exact and np.dtype(written).kind in "iu")

    def _correlate_parts(self, source: Array, stencil: Stencil, target: Array, numbers: Numbers) -> None:
        state = self._opened()
        needed = max(state.memory.needed_bytes(array) for array in (source, target))
        if needed <= state.max_allocation_bytes:
            strips = self._strips(state, _as_it_lies(stencil, source), source, target, numbers)
            state.run(strips or [self._generic(state, stencil, source, target, numbers)])
            return
        axis = int(np.argmax([extent > 1 for extent in target.shape]))
        if target.shape[axis] == 1:
            message = (
                f"{self.info.name} gives at most {state.max_allocation_bytes} bytes at once, and the smallest part "
                f"of {source.shape} {source.dtype} voxels takes {needed}: take another device or smaller blocks"
            )
            raise DeviceMemoryError(message)
        # Too large for one allocation: two halves, which overlap in the source by the stencil.
        half, reach = target.shape[axis] // 2, stencil.shape[axis] - 1
        before = (slice(None),) * axis
        for first, stop in ((0, half), (half, target.shape[axis])):
            part = source[(*before, slice(first, stop + reach))]
            self._correlate_parts(part, stencil, target[(*before, slice(first, stop))], numbers)

    def _generic(self, state: State, stencil: Stencil, source: Array, target: Array, numbers: Numbers) -> Launch:
        job = generic_job(stencil, numbers, state.guard.generic(numbers))
        return Launch(job, source, target, partial(generic_arguments, stencil=stencil, job=job))

    def _opened(self) -> State:
        # A context does not survive a fork: a child asks anew, and is refused where it would hang.
        with self._open:
            if self._state is None or self._state.process != os.getpid():
                self._state = State(self.info, self._variants, self._guarded_by)
            return self._state


def _family_of(stencils: Sequence[Stencil]) -> Template:
    """Return the family of the program that is made for passes."""
    if all(stencil.adds_as_box(exact=False) for stencil in stencils):
        return "box"
    return "walk" if len(stencils) > 1 else "strip"


def _special_job(
    stencil: Stencil, shape: tuple[int, ...], numbers: Numbers, traits: Traits, state: State
) -> StripJob | None:
    """Return the job of the program that is made for a stencil and outputs of this shape, where there is one."""
    variant = state.variants.best(stencil, numbers, traits)
    return strip_job(stencil, shape, numbers, (traits, state.local_bytes), variant)


def _as_it_lies(stencil: Stencil, padded: Array) -> Pass:
    """Return the pass over voxels that have their halo already."""
    return Pass(stencil, tuple(map(np.arange, padded.shape)), 0.0)
