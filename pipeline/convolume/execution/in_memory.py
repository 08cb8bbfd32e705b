"""Driving NumPy arrays in this process: one patch that is the whole image, nothing copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.execution.evaluate import Patch, Work, evaluate, fetched

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.boundary import Runs
    from convolume.devices import Device
    from convolume.numerics import Precision
    from convolume.operations import Operation

__all__ = ["filter_array", "whole_runs"]


def filter_array(
    array: npt.NDArray[Any],
    operation: Operation,
    device: Device,
    precision: Precision,
    dtype: npt.DTypeLike,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Return the result of an operation on a whole array.

    Parameters
    ----------
    array : numpy.ndarray
        The image, any real dtype, not empty.
    operation : Operation
        As many axes as the array.
    device : Device
        What computes it.
    precision : Precision
        How sums are kept.
    dtype : dtype
        Dtype of the result and of what passes between two steps.
    out : numpy.ndarray, optional
        Takes the result; it shares no memory with `array`.
    """
    work = Work(device, precision, np.dtype(dtype), array.shape)
    runs = whole_runs(array.shape)
    patch = work.held(Patch(array, runs))
    result = fetched(evaluate(work, operation, patch, runs, out if patch.voxels is array else None), out)
    return result if out is not None else result.astype(work.dtype, copy=False)


def whole_runs(shape: tuple[int, ...]) -> tuple[Runs, ...]:
    """Return the runs that name every voxel of an image."""
    return tuple(((0, extent),) for extent in shape)
