"""What passes the door as it is, and what is copied there."""

from __future__ import annotations

import numpy as np
import pyopencl as cl
import pytest

from convolume.devices.opencl import available

if not available():
    pytest.skip("this machine has no OpenCL", allow_module_level=True)

from convolume.devices.opencl._memory import SystemPointers, memory_span, readable, span_bytes, writable

VOLUME = np.zeros((6, 7, 40), dtype=np.float32)


@pytest.mark.parametrize(
    "view",
    [
        VOLUME,
        VOLUME[1:-1, 2:5, 3:33],
        VOLUME[::2, ::3],
        VOLUME.transpose(1, 0, 2),
        VOLUME[3:4, :, 5:6],
        np.broadcast_to(VOLUME[0], (4, 7, 40)),
        VOLUME.view(np.int16)[..., 3:21],
    ],
    ids=["whole", "inner", "every second row", "axes turned", "one column", "repeated", "integers"],
)
def test_rows_of_voxels_are_used_where_they_are(view: np.ndarray) -> None:
    """Nothing is copied of a view whose last axis is contiguous."""
    taken = readable(view)
    span = memory_span(taken)
    assert taken is view or np.shares_memory(taken, view)
    assert span.__array_interface__["data"][0] == view.__array_interface__["data"][0]
    assert span.nbytes == span_bytes(view) <= VOLUME.nbytes


@pytest.mark.parametrize(
    "view",
    [VOLUME[..., ::2], VOLUME[::-1], VOLUME.T, VOLUME.astype(">f4"), VOLUME.astype(np.float16)],
    ids=["every second voxel", "mirrored", "columns", "other byte order", "half"],
)
def test_what_no_program_reads_is_copied(view: np.ndarray) -> None:
    """The copy has its values, in rows."""
    copied = readable(view)
    assert not np.shares_memory(copied, view)
    assert copied.flags.c_contiguous
    np.testing.assert_array_equal(copied, view)


def test_booleans_are_read_as_bytes() -> None:
    """They are bytes, so that nothing is copied."""
    mask = np.ones((3, 4), dtype=bool)
    assert np.shares_memory(readable(mask), mask)


@pytest.mark.parametrize(("dtype", "written"), [("float32", "float32"), ("uint64", "float64"), ("bool", "float64")])
def test_targets_are_written_where_they_are_if_a_program_can(dtype: str, written: str) -> None:
    """Where C's cast is special, the host casts."""
    out = np.empty((3, 40), dtype=dtype)
    target = writable(out[:, 2:30], np.float64)
    assert target.dtype == written
    assert np.shares_memory(target, out) == (dtype == written)


@pytest.mark.parametrize("is_writeable", [True, False])
def test_addresses_are_taken_of_read_only_arrays_too(is_writeable: bool) -> None:  # noqa: FBT001 (a case)
    """Where a device shares the host's memory; pyopencl's own way refuses them."""
    volume = np.arange(24.0)[4:]
    volume.flags.writeable = is_writeable
    taken, held = SystemPointers().source(None, volume)
    assert taken is volume
    assert isinstance(held, cl.SVM)
    seen = np.asarray(held.mem)
    assert seen.ctypes.data == volume.ctypes.data
    assert seen.tobytes() == volume.tobytes()
