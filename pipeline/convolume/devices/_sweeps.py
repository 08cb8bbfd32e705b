"""Valid correlations by the Fourier transform, on the host: scipy.fft in three sweeps that stay in the cache.

Along z every few planes are filled, and transformed along x and y; then every few rows are transformed along z, weighed
and transformed back; then planes go back along y and x and are cut. So voxels go through memory three times, not once
an axis each way with copies between.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from convolume.devices._transform import KEPT_BYTES, Transform

if TYPE_CHECKING:
    from collections.abc import Callable

    from convolume.stencil import Stencil

__all__ = ["Kept", "Sweeps", "correlate_by_transform", "kept_kernels"]

Array = npt.NDArray[Any]
Part = tuple[slice, ...]

# What a thread works on at a time. It need not fit into a core's own cache, but threads that ask for Python's lock at
# every plane wait for each other as long again as they work.
_PART_BYTES = 2**21


def correlate_by_transform(
    read: Callable[[Part], Array], stencil: Stencil, out: Array, dtype: npt.DTypeLike, threads: int
) -> None:
    """Write ``out[i] = Σ_k weights[k] · padded[i + k]``; see `convolume.devices.Device.correlate_by_transform`.

    Parameters
    ----------
    read : callable
        Returns a part of the padded input, a box of it in its own coordinates; it is called from several threads.
    stencil : Stencil
        As many axes as `out`.
    out : numpy.ndarray
        Takes the result, float32 or float64.
    dtype : dtype
        In which is transformed, float32 or float64.
    threads : int
        Threads that work on it.
    """
    if out.size == 0:
        return
    sweeps = Sweeps(Transform(out.shape, stencil.shape), np.dtype(dtype), threads)
    with np.errstate(all="ignore"):
        if not sweeps.correlate(read, stencil, out):
            _correlate_what_is_not_finite(read, stencil, out, threads)


class Sweeps:
    """One correlation of one tile."""

    def __init__(self, transform: Transform, real: np.dtype[Any], threads: int) -> None:
        self.transform, self.real, self.threads = transform, real, threads
        self.complex = np.result_type(real, np.complex64)
        self._is_finite = True

    def correlate(self, read: Callable[[Part], Array], stencil: Stencil, out: Array) -> bool:
        """Fill and transform planes, weigh rows, transform planes back; say whether all of the result is finite."""
        transform, kernel = self.transform, self._kernel(stencil)
        if len(transform.axes) == 1:
            self._correlate_lines(read, kernel, out)
            return self._is_finite
        far, *near = transform.axes
        lengths = transform.lengths
        spectrum = np.empty(transform.spectrum_shape, self.complex)

        def fill(part: Part) -> None:
            voxels = read(part).astype(self.real, copy=False)
            spectrum[part] = scipy.fft.rfftn(voxels, [lengths[axis] for axis in near], near)

        def weigh(part: Part) -> None:
            lines = scipy.fft.fft(spectrum[part], lengths[far], far, overwrite_x=True)
            lines *= kernel[part]
            lines = scipy.fft.ifft(lines, axis=far, overwrite_x=True)
            # Where nothing is padded, scipy has most likely done all of it in place.
            if not np.may_share_memory(lines, spectrum):
                first = _on(far, slice(out.shape[far]), out.ndim)
                spectrum[part][first] = lines[first]

        def deliver(part: Part) -> None:
            lines = spectrum[part]
            for axis in near[:-1]:
                lines = scipy.fft.ifft(lines, axis=axis, overwrite_x=True)[_on(axis, slice(out.shape[axis]), out.ndim)]
            self._deliver(lines, out[part])

        self._everywhere(fill, spectrum.shape, far)
        self._everywhere(weigh, spectrum.shape, near[0])
        self._everywhere(deliver, (*spectrum.shape[:far], out.shape[far], *spectrum.shape[far + 1 :]), far)
        return self._is_finite

    def _correlate_lines(self, read: Callable[[Part], Array], kernel: Array, out: Array) -> None:
        (axis,), lengths = self.transform.axes, self.transform.lengths

        def weigh(part: Part) -> None:
            voxels = read(part).astype(self.real, copy=False)
            lines = scipy.fft.rfft(voxels, lengths[axis], axis)
            lines *= kernel
            self._deliver(lines, out[part])

        if out.ndim == 1:
            weigh((slice(None),))
            return
        _, across = max((n, other) for other, n in enumerate(out.shape) if other != axis)
        self._everywhere(weigh, self.transform.spectrum_shape, across)

    def _deliver(self, lines: Array, out: Array) -> None:
        """Transform back along the last axis, and cut."""
        last = self.transform.axes[-1]
        voxels = scipy.fft.irfft(lines, self.transform.lengths[last], last)[_on(last, slice(out.shape[last]), out.ndim)]
        if not np.isfinite(voxels).all():
            self._is_finite = False
        out[...] = voxels

    def _kernel(self, stencil: Stencil) -> Array:
        """Return the conjugate of a kernel's transform, kept from tile to tile."""
        key = stencil, tuple(self.transform.lengths[axis] for axis in self.transform.axes), self.complex.name
        return kept_kernels.get(key, lambda: self.transformed_kernel(stencil))

    def transformed_kernel(self, stencil: Stencil) -> Array:
        """Return the conjugate of a kernel's transform."""
        far, *near = self.transform.axes
        lengths, last = self.transform.lengths, self.transform.axes[-1]
        # Axis by axis, so that what is filled with zeros is not transformed before it has to be.
        planes = scipy.fft.rfft(stencil.weights / stencil.divisor, lengths[last], last, workers=self.threads)
        for axis in near[-2::-1]:
            planes = scipy.fft.fft(planes, lengths[axis], axis, workers=self.threads)
        planes = planes.conj().astype(self.complex)
        if not near:
            return planes
        kernel = np.empty((*planes.shape[:far], lengths[far], *planes.shape[far + 1 :]), self.complex)

        def transform(part: Part) -> None:
            kernel[part] = scipy.fft.ifft(planes[part], lengths[far], far, norm="forward")

        self._everywhere(transform, kernel.shape, near[0])
        return kernel

    def _everywhere(self, work: Callable[[Part], None], shape: tuple[int, ...], axis: int) -> None:
        """Do some work on every few planes across an axis, in several threads."""
        extent = shape[axis]
        plane_bytes = prod(shape) // extent * self.complex.itemsize
        step = max(1, min(_PART_BYTES // plane_bytes, -(-extent // self.threads)))

        def quietly(start: int) -> None:
            with np.errstate(all="ignore"):
                work(_on(axis, slice(start, min(start + step, extent)), len(shape)))

        with ThreadPoolExecutor(self.threads) as pool:
            # What failed in a thread fails here.
            deque(pool.map(quietly, range(0, extent, step)), maxlen=0)


class Kept:
    """The kernels' transforms of this process, those that were used last, up to some bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._arrays: OrderedDict[tuple[object, ...], Array] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...], make: Callable[[], Array]) -> Array:
        """Return what is kept under a key, made where nothing is."""
        with self._lock:
            array = self._arrays.get(key)
        if array is None:
            array = make()
        with self._lock:
            self._arrays[key] = array
            self._arrays.move_to_end(key)
            while len(self._arrays) > 1 and sum(held.nbytes for held in self._arrays.values()) > self._most_bytes:
                self._arrays.popitem(last=False)
        return array


kept_kernels = Kept(KEPT_BYTES)


def _on(axis: int, part: slice, ndim: int) -> Part:
    """Return the index of a part of one axis, and of all of the others."""
    return tuple(part if other == axis else slice(None) for other in range(ndim))


def _correlate_what_is_not_finite(read: Callable[[Part], Array], stencil: Stencil, out: Array, threads: int) -> None:
    """Correlate voxels that are too large for float32, NaN or infinite: those reach what the direct way takes them to.

    The finite voxels are transformed in float64, scaled so that sums do not overflow. Where the others are weighed is
    a correlation of their places with those of the taps.
    """
    voxels = read((slice(None),) * out.ndim).astype(np.float64)
    weights = stencil.weights

    def transformed(image: Array, taps: Array) -> Array:
        kernel = replace(stencil, weights_float64=taps.astype("<f8").tobytes(), divisor=1)
        result = np.empty(out.shape)
        sweeps = Sweeps(Transform(out.shape, stencil.shape), result.dtype, threads)
        sweeps.correlate(lambda part: image[part], kernel, result)
        return result

    def reached(places: Array, taps: Array) -> Array:
        return transformed(places, taps) > 0.5 if places.any() else np.zeros(out.shape, np.bool_)  # noqa: PLR2004

    finite = np.where(np.isfinite(voxels), voxels, 0.0)
    exponent = np.frexp(np.abs(finite).max())[1]
    out[...] = np.ldexp(transformed(np.ldexp(finite, -exponent), weights / stencil.divisor), exponent)
    up, down = voxels == np.inf, voxels == -np.inf
    rising = reached(up, weights > 0) | reached(down, weights < 0)
    falling = reached(down, weights > 0) | reached(up, weights < 0)
    out[rising], out[falling] = np.inf, -np.inf
    out[rising & falling | reached(np.isnan(voxels), weights != 0)] = np.nan
