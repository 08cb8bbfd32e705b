"""Where the wheel that brings OpenCL is installed, no test of OpenCL may be left out."""

from __future__ import annotations

import platform
import sys

import pytest

from convolume.devices.opencl import available


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="PoCL's wheel is made for x86-64 Linux"
)
def test_pocl_is_here() -> None:
    """The other tests skip OpenCL where there is none: here there is."""
    assert any(info.platform == "Portable Computing Language" for info in available())
