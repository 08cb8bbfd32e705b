"""Programs are made for the vectors that the compiler makes, and arrays reach them without copies."""

from __future__ import annotations

from unittest.mock import Mock

import pyopencl as cl
import pytest

from convolume.devices.opencl import _discovery, available
from convolume.devices.opencl._discovery import find, traits_of
from convolume.devices.opencl._memory import HostPointers, SystemPointers, Uploads
from convolume.devices.opencl._state import _memory_of
from convolume.devices.opencl._vectors import compiled_vector_bytes


def test_a_compiler_for_an_older_processor_decides() -> None:
    """The width is no more than what programs are compiled to, whatever the device says of the processor."""
    device = find(available()[0].identifier)
    compiled = compiled_vector_bytes(device)
    assert compiled in {16, 32, 64}
    assert traits_of(device).vector_bytes <= compiled


@pytest.mark.parametrize(("compiled", "expected"), [(32, 32), (64, 64), (128, 64), (0, 64)])
def test_the_narrower_counts(compiled: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the device says holds where the compiler has wider vectors, or tells nothing."""
    device = Mock(type=cl.device_type.CPU, native_vector_width_float=16)
    device.platform.name = "Portable Computing Language"
    monkeypatch.setattr(_discovery, "compiled_vector_bytes", lambda _: compiled)
    assert traits_of(device).vector_bytes == expected


@pytest.mark.parametrize(
    ("platform", "system", "expected"),
    [
        ("Portable Computing Language", False, HostPointers),
        ("Intel(R) OpenCL", True, SystemPointers),
        ("Another", False, Uploads),
    ],
)
def test_arrays_reach_a_processor_without_copies(platform: str, system: bool, expected: type) -> None:  # noqa: FBT001 (drawn by pytest)
    """As buffers on PoCL, by their addresses where a runtime takes those, and copied elsewhere."""
    capabilities = cl.device_svm_capabilities.FINE_GRAIN_SYSTEM if system else 0
    device = Mock(type=cl.device_type.CPU, svm_capabilities=capabilities)
    device.platform.name = platform
    assert type(_memory_of(device)) is expected


def test_a_compiler_that_refuses_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program, no answer."""
    monkeypatch.setattr(cl, "Context", Mock(side_effect=cl.LogicError("none")))
    assert compiled_vector_bytes.__wrapped__(Mock()) == 0
