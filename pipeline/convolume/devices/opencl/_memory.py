"""The door between NumPy arrays and OpenCL: what is shared, what is copied, what is converted."""

from __future__ import annotations

import ctypes
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyopencl as cl

from convolume.arrays import new_array
from convolume.devices.opencl._jobs import OPENCL_TYPES
from convolume.layouts import copy_voxels
from convolume.numerics import truncate_like_scipy

__all__ = ["HostPointers", "Memory", "SystemPointers", "Uploads", "deliver", "memory_span", "readable", "writable"]

Array = npt.NDArray[Any]

# Written on the host: the program has no type for them, or C's cast to them is special.
HOST_CAST_TARGETS = {"bool", "float16", "longdouble", "uint64"}


def readable_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which voxels of `dtype` are handed to a program."""
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype.name in OPENCL_TYPES:
        return dtype.newbyteorder("=")
    return np.dtype(np.float32 if dtype == np.float16 else np.float64)


def writable_dtype(dtype: np.dtype[Any], sum_dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype in which a program writes voxels that are to become `dtype`."""
    if dtype.name in HOST_CAST_TARGETS or dtype.name not in OPENCL_TYPES:
        return np.dtype(sum_dtype)
    return dtype.newbyteorder("=")


def readable(array: Array) -> Array:
    """Return `array` itself, or a copy where a program cannot read it as it lies."""
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    dtype = readable_dtype(array.dtype)
    if array.dtype == dtype and _lies_in_rows(array):
        return array
    copy = new_array(array.shape, dtype)
    copy_voxels(copy, array)
    return copy


def writable(out: Array, sum_dtype: npt.DTypeLike) -> Array:
    """Return `out` itself, or a new array where a program cannot write it as it lies."""
    dtype = writable_dtype(out.dtype, sum_dtype)
    return out if out.dtype == dtype and _lies_in_rows(out) else new_array(out.shape, dtype)


def deliver(result: Array, out: Array, *, by_lines: bool = False) -> None:
    """Move a result that was written elsewhere to where it belongs; `by_lines` is that of `truncate_like_scipy`."""
    if result is out:
        return
    if out.dtype.name in HOST_CAST_TARGETS and out.dtype.kind in "bu":
        out[...] = truncate_like_scipy(result.astype(np.float64, copy=False), out.dtype, by_lines=by_lines)
    else:
        copy_voxels(out, result)


def memory_span(array: Array) -> Array:
    """Return the memory from the first voxel of `array` to its last as a flat view, gaps included."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    length = span_bytes(array) // array.itemsize
    return np.lib.stride_tricks.as_strided(array, (length,), (array.itemsize,))


def span_bytes(array: Array) -> int:
    """Return the bytes from the first voxel of `array` to its last, gaps included."""
    steps = zip(array.shape, array.strides, strict=True)
    reach: int = sum((extent - 1) * stride for extent, stride in steps if extent > 1)
    return reach + array.itemsize


def _lies_in_rows(array: Array) -> bool:
    item = array.itemsize
    if not array.flags.aligned or (array.shape[-1] > 1 and array.strides[-1] != item):
        return False
    steps = [stride for stride, extent in zip(array.strides, array.shape, strict=True) if extent > 1]
    return all(stride >= 0 and stride % item == 0 for stride in steps)


# What programs are called with.
Held: TypeAlias = "cl.Buffer | cl.SVM[Array]"


class Memory(Protocol):
    """How arrays reach a device and come back."""

    def source(self, queue: cl.CommandQueue, array: Array) -> tuple[Array, Held]:
        """Return the array as it is laid out on the device, and the device's hold of it."""

    def target(self, queue: cl.CommandQueue, array: Array) -> tuple[Array, Held]:
        """Return the array that the device's result will come back to, and the device's hold of it."""

    def collect(self, queue: cl.CommandQueue, array: Array, held: Held) -> None:
        """Bring the result back to the host, where it is not there when the program ends."""

    def needed_bytes(self, array: Array) -> int:
        """Return the bytes that an array takes in one allocation."""


class HostPointers:
    """Arrays are used where they are: for devices that share the host's memory and make no copies of their own."""

    def source(self, queue: cl.CommandQueue, array: Array) -> tuple[Array, Held]:
        """Return the array and its memory as a buffer."""
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.USE_HOST_PTR
        return array, cl.Buffer(queue.context, flags, hostbuf=memory_span(array))

    def target(self, queue: cl.CommandQueue, array: Array) -> tuple[Array, Held]:
        """Return the array and its memory as a buffer."""
        flags = cl.mem_flags.WRITE_ONLY | cl.mem_flags.USE_HOST_PTR
        return array, cl.Buffer(queue.context, flags, hostbuf=memory_span(array))

    def collect(self, queue: cl.CommandQueue, array: Array, held: Held) -> None:
        """Leave the result where the program writes it."""
        del queue, array, held

    def needed_bytes(self, array: Array) -> int:
        """Return the bytes that the array spans, gaps included."""
        return span_bytes(array)


class SystemPointers(HostPointers):
    """Arrays are used where they are, by their address alone: for processors that share all of the host's memory.

    A buffer over an array of 67 MB costs Intel's runtime 40 ms and more, an address nothing.
    """

    def source(self, queue: cl.CommandQueue, array: Array) -> tuple[Array, Held]:
        """Return the array and its address."""
        del queue
        span = memory_span(array)
        if not span.flags.writeable:
            # pyopencl takes the address of nothing that is read-only; programs only read what they are given to read.
            span = np.ctypeslib.as_array((ctypes.c_ubyte * span.nbytes).from_address(span.ctypes.data))
        return array, cl.SVM(span)

    target = source


class Uploads:
    """Arrays are copied to the device's own memory, without gaps, and back."""

    def source(self, queue: cl.CommandQueue, array: Array) -> tuple[Array, cl.Buffer]:
        """Return the array without gaps, and its copy on the device."""
        dense = np.ascontiguousarray(array)
        held = cl.Buffer(queue.context, cl.mem_flags.READ_ONLY, dense.nbytes)
        cl.enqueue_copy(queue, held, dense, is_blocking=False)
        return dense, held

    def target(self, queue: cl.CommandQueue, array: Array) -> tuple[Array, cl.Buffer]:
        """Return an array without gaps, and room for it on the device."""
        dense = array if array.flags.c_contiguous else np.empty(array.shape, array.dtype)
        return dense, cl.Buffer(queue.context, cl.mem_flags.WRITE_ONLY, dense.nbytes)

    def collect(self, queue: cl.CommandQueue, array: Array, held: Held) -> None:
        """Copy the result to the host."""
        cl.enqueue_copy(queue, array, held, is_blocking=True)

    def needed_bytes(self, array: Array) -> int:
        """Return the bytes of the voxels."""
        return array.nbytes
