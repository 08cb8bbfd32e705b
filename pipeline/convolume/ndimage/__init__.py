"""scipy.ndimage's linear filters under their own names, on the device: change one import and keep the numbers.

NumPy arrays give NumPy arrays, dask arrays give dask arrays. Signatures, defaults and dtypes are scipy's. Integer
results are scipy's to the digit; float32 is summed in float32, everything else in float64.

Where this differs from scipy.ndimage: weights that are 0 never contribute, so one NaN stays within the weights that are
not; the mean of floating-point voxels is no running sum, so what rounds in one voxel is not carried along its line; an
`output` that shares memory with the input gets the result as if it did not; weights are finite.
"""

from __future__ import annotations

from convolume.ndimage._differences import (
    gaussian_gradient_magnitude,
    gaussian_laplace,
    laplace,
    prewitt,
    sobel,
)
from convolume.ndimage._kernels import convolve, convolve1d, correlate, correlate1d
from convolume.ndimage._smoothing import gaussian_filter, gaussian_filter1d, uniform_filter, uniform_filter1d

__all__ = [
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "laplace",
    "prewitt",
    "sobel",
    "uniform_filter",
    "uniform_filter1d",
]
