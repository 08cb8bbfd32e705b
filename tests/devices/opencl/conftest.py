"""Fixtures of the devices that programs are compared on."""

import pytest
from tests.devices.opencl.comparison import Serving, Stepwise

from convolume.devices.opencl import available


@pytest.fixture(scope="session")
def stepwise() -> Stepwise:
    """Return the device to compare with; its generic program needs no compiling for each case."""
    return Stepwise(available()[0], specialise_from=1 << 62)


@pytest.fixture(scope="module")
def serving() -> Serving:
    """Return the device under test."""
    return Serving(available()[0], specialise_from=0)
