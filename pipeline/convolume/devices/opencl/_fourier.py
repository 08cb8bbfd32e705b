"""Correlations by the Fourier transform on a GPU, where pyvkfft (a wrapper of VkFFT) is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyopencl.array

from convolume.devices._sweeps import Kept
from convolume.devices._transform import Transform

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyopencl as cl

    from convolume.stencil import Stencil

__all__ = ["Fourier"]

Array = npt.NDArray[Any]
# Kernels' transforms that stay on the device.
_KEPT_BYTES = 2**28


class Fourier:
    """Transforms of one thread, on its queue."""

    def __init__(self, queue: cl.CommandQueue) -> None:
        self._queue = queue
        self._apps: dict[tuple[object, ...], Any] = {}
        self._kernels = Kept(_KEPT_BYTES)

    def correlate(
        self, read: Callable[[tuple[slice, ...]], Array], stencil: Stencil, out: Array, real: np.dtype[Any]
    ) -> bool:
        """Write the valid correlation of what `read` returns; say whether all of it is finite.

        Parameters and errors are those of `convolume.devices.Device.correlate_by_transform`; `real` is the dtype
        in which is transformed, float32 or float64.
        """
        transform = Transform(out.shape, stencil.shape)
        key = stencil, transform.lengths, real.name
        # Along axes that are not transformed every line is weighed alike.
        extents = [stencil.shape[axis] if axis in transform.axes else n for axis, n in enumerate(transform.lengths)]
        weights = np.broadcast_to(stencil.weights / stencil.divisor, extents)
        kernel = self._kernels.get(key, lambda: self._spectrum(weights, transform, real).conj())
        spectrum = self._spectrum(read((slice(None),) * out.ndim), transform, real)
        spectrum *= kernel
        voxels = pyopencl.array.empty(self._queue, transform.lengths, real)
        self._app(transform, real).ifft(spectrum, voxels)
        result = voxels.get()[tuple(map(slice, out.shape))]
        out[...] = result
        return bool(np.isfinite(result).all())

    def _spectrum(self, voxels: Array, transform: Transform, real: np.dtype[Any]) -> Any:
        """Return the transform of voxels with zeros behind them, on the device."""
        padded = np.zeros(transform.lengths, real)
        padded[tuple(map(slice, voxels.shape))] = voxels
        image = pyopencl.array.to_device(self._queue, padded)
        shape = (*transform.lengths[:-1], transform.lengths[-1] // 2 + 1)
        spectrum = pyopencl.array.empty(self._queue, shape, np.result_type(real, np.complex64))
        self._app(transform, real).fft(image, spectrum)
        return spectrum

    def _app(self, transform: Transform, real: np.dtype[Any]) -> Any:
        """Return the programs for transforms of some lengths; to make them takes about a second."""
        # Only where it is installed; it loads OpenCL's loader.
        from pyvkfft.opencl import VkFFTApp  # noqa: PLC0415

        key = transform.lengths, transform.axes, real.name
        if key not in self._apps:
            self._apps[key] = VkFFTApp(
                transform.lengths, real.type, self._queue, axes=transform.axes, inplace=False, r2c=True
            )
        return self._apps[key]
