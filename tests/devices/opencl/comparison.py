"""Devices to compare: one that fills copies and goes pass by pass, and one that takes special programs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.devices import Device
from convolume.devices.opencl._device import OpenCLDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.boundary import Runs
    from convolume.devices import Pass
    from convolume.numerics import Precision

Array = npt.NDArray[Any]


class Stepwise(OpenCLDevice):
    """The device as it is without programs that fill faces themselves."""

    correlate_passes = Device.correlate_passes


class Serving(OpenCLDevice):
    """The device that takes such a program as soon as it can, and tells how often it did."""

    served = 0

    def correlate_passes(self, voxels: Array, passes: Sequence[Pass], out: Array, precision: Precision) -> bool:
        """Count what is served."""
        done = super().correlate_passes(voxels, passes, out, precision)
        self.served += done
        return done


def taken(image: Array, runs: tuple[Runs, ...]) -> Array:
    """Return what a patch with these runs holds."""
    places = [np.concatenate([np.arange(*run) for run in axis]) for axis in runs]
    return image[np.ix_(*places)]
