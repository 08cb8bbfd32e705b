"""Fixtures of the devices that programs are compared on; a GPU that is not here is played by the processor that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.devices.opencl.comparison import Serving, Stepwise

from convolume.devices.opencl import _state, available
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._jobs import Traits

if TYPE_CHECKING:
    from collections.abc import Callable

GPU = Traits(on_cpu=False, vector_bytes=16, loose_pointers=False)


@pytest.fixture(scope="session")
def play_gpu() -> Callable[[int], OpenCLDevice]:
    """Return what makes a played GPU; programs of stencils' own begin at so many multiply-adds for each unrolled."""

    def played(specialise_from: int) -> OpenCLDevice:
        if not available():
            pytest.skip("this machine has no OpenCL")
        device = OpenCLDevice(available()[0], specialise_from)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_state, "traits_of", lambda _: GPU)
            patch.setattr(_state, "shares_memory", lambda _: False)
            # The first call opens it.
            device.hold(np.zeros(1, np.float32), np.dtype(np.float32))
        return device

    return played


@pytest.fixture(scope="session")
def plain_gpu(play_gpu: Callable[[int], OpenCLDevice]) -> OpenCLDevice:
    """Return a played GPU that looks every voxel up, with one program for all stencils."""
    return play_gpu(1 << 62)


@pytest.fixture(scope="session")
def tiling_gpu(play_gpu: Callable[[int], OpenCLDevice]) -> OpenCLDevice:
    """Return a played GPU that makes tiles as soon as it can."""
    return play_gpu(0)


@pytest.fixture(scope="session")
def stepwise() -> Stepwise:
    """Return the device to compare with; its generic program needs no compiling for each case."""
    return Stepwise(available()[0], specialise_from=1 << 62)


@pytest.fixture(scope="module")
def serving() -> Serving:
    """Return the device under test."""
    return Serving(available()[0], specialise_from=0)
