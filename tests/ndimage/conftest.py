"""The filters of `convolume.ndimage` run on OpenCL and on NumPy."""

from collections.abc import Iterator

import pytest

import convolume


@pytest.fixture(params=["opencl", "numpy"], autouse=True, scope="module")
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run everything on both."""
    if not any(info.backend == request.param for info in convolume.list_devices()):
        pytest.skip(f"there is no {request.param} device here")
    with convolume.select_device(request.param):
        yield request.param
