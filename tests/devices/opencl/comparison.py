"""Devices to compare: one that fills copies and goes pass by pass, and one that takes special programs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from convolume.devices import Device
from convolume.devices.opencl._device import OpenCLDevice
from convolume.execution.evaluate import Patch, Work, evaluate
from convolume.execution.in_memory import filter_array
from convolume.numerics import Precision
from convolume.operations import reach_of
from convolume.testing.devices import layouts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.devices import Pass
    from convolume.operations import Operation

Array = npt.NDArray[Any]

# What `Layout.empty` fills memory with.
MARK = 77


class Stepwise(OpenCLDevice):
    """The device as it is without programs that fill faces themselves, and without voxels that stay on it."""

    hold = Device.hold
    correlate_passes = Device.correlate_passes


class Serving(OpenCLDevice):
    """The device that takes such a program as soon as it can, and tells how often it did."""

    served = 0

    def correlate_passes(self, voxels: Array, passes: Sequence[Pass], out: Array, precision: Precision) -> bool:
        """Count what is served."""
        done = super().correlate_passes(voxels, passes, out, precision)
        self.served += done
        return done


def drawn_image(data: st.DataObject, most: int, widths: Sequence[int]) -> Array:
    """Draw an image of two to four axes with rows of some width; one voxel may be no number."""
    ndim = data.draw(st.sampled_from([2, 3, 3, 3, 4]))
    small = st.integers(1, most if ndim < 4 else most // 2 - 1)
    shape = (*(data.draw(small) for _ in range(ndim - 1)), data.draw(st.sampled_from(widths)))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    image = (generator.normal(size=shape) * 50 + 100).astype(np.float32)
    if data.draw(st.booleans()):
        image[tuple(data.draw(st.integers(0, n - 1)) for n in shape)] = data.draw(st.sampled_from([np.nan, np.inf]))
    return image


def check_bits(data: st.DataObject, operation: Operation, image: Array, stepwise: Device, serving: Device) -> None:
    """Compare two devices on voxels that lie anyhow; nothing beside the output is written."""
    image = data.draw(layouts(image.ndim)).holding(image)
    expected = filter_array(image, operation, stepwise, Precision.SINGLE, np.float32)
    memory, out = data.draw(layouts(image.ndim)).empty(image.shape, np.float32)
    filter_array(image, operation, serving, Precision.SINGLE, np.float32, out)
    np.testing.assert_array_equal(out.copy().view(np.uint32), expected.view(np.uint32))
    out[...] = np.array([MARK] * 4, dtype=np.uint8).view(np.float32)
    assert (memory == MARK).all()


def check_block(data: st.DataObject, operation: Operation, image: Array, stepwise: Device, serving: Device) -> None:
    """Compare a box of the image, read with what it needs, with the whole."""
    wanted = tuple(
        ((start, data.draw(st.integers(start + 1, n))),)
        for n in image.shape
        for start in [data.draw(st.integers(0, n - 1))]
    )
    needed = reach_of(operation, wanted, image.shape)
    places = [np.concatenate([np.arange(*run) for run in axis]) for axis in needed]
    work = Work(serving, Precision.SINGLE, np.dtype(np.float32), image.shape)
    whole = filter_array(image, operation, stepwise, Precision.SINGLE, np.float32)
    actual = evaluate(work, operation, Patch(image[np.ix_(*places)], needed), wanted)
    assert isinstance(actual, np.ndarray)
    expected = whole[tuple(slice(*run) for (run,) in wanted)]
    np.testing.assert_array_equal(actual.view(np.uint32), expected.copy().view(np.uint32))
