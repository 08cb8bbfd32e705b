"""The devices that operations are evaluated on."""

import pytest

import convolume
from convolume.devices import Device
from convolume.devices._selection import open_device


@pytest.fixture(params=["opencl", "numpy"], scope="module")
def device(request: pytest.FixtureRequest) -> Device:
    """Run on both."""
    if not any(info.backend == request.param for info in convolume.list_devices()):
        pytest.skip(f"there is no {request.param} device here")
    return open_device(convolume.choose_device(request.param).info)
