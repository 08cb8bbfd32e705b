"""What `convolve` and `correlate` share: a kernel, its origin, and whether it is normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator

from convolume.filters import Filter, FilterContext
from convolume.filters._fields import read_integers, write_integers
from convolume.filters._kernels import Kernel, kernel_weights
from convolume.filters._passes import over_last_axes
from convolume.filters._reference import scipy_result
from convolume.operations import Method  # noqa: TC001 - pydantic reads it when the class is made

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from convolume.operations import Operation
    from convolume.stencil import Stencil

__all__ = ["KernelFilter"]


class KernelFilter(Filter):
    """A filter that weighs with a kernel."""

    kernel: Kernel
    """Weights as nested lists or an array, the path of a file, or a shape: `ball`, `box` or `gaussian`."""
    origin: Annotated[int | tuple[int, ...], PlainValidator(read_integers), PlainSerializer(write_integers)] = 0
    """Shift of the kernel in voxels, one for all axes of the kernel or one an axis."""
    normalize: Annotated[bool, Field(strict=True)] = False
    """Divide the weights by their sum."""
    method: Method | None = None
    """How the kernel is weighed: `auto`, `direct`, `separable` or `fft`; the workflow's where none is named."""

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return even and odd sizes, origins at their limits, kernels wider than images and every shape."""
        return (
            {"kernel": [1, 2, 3, 4], "origin": 1},
            {"kernel": [3, -1, 2], "origin": -1},
            {"kernel": [[1, 2, 0], [0, -5, 7]], "origin": [-1, 1]},
            {"kernel": [[[1, 0], [2, 3]], [[4, -5], [6, 7]]], "origin": -1},
            {"kernel": [0.5, 0.25, 1.5, 2.5, -3, 1, 1, 1, 1, 1, 2], "origin": 5, "normalize": True},
            {"kernel": {"ball": 2}, "normalize": True},
            {"kernel": {"ball": "2 um"}},
            {"kernel": {"box": 2}, "origin": 0},
            {"kernel": {"box": [1, 4, 3]}, "origin": [0, -2, 1]},
            {"kernel": {"gaussian": {"sigma": 0.7, "truncate": 3}}},
        )

    def _operation(self, context: FilterContext, make: Callable[..., Stencil]) -> Operation:
        weights = kernel_weights(self.kernel, context, normalize=self.normalize)
        return over_last_axes(
            make(weights, self.origin), context, self.boundary(context), self.method or context.method
        )

    def _reference(self, function: str, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        weights = kernel_weights(self.kernel, context, normalize=self.normalize)
        missing = len(context.axes) - weights.ndim
        origin = self.origin if isinstance(self.origin, tuple) else (self.origin,) * weights.ndim
        return scipy_result(
            function,
            image,
            context,
            self.boundary(context),
            weights=weights[(None,) * missing],
            origin=(0,) * missing + origin,
        )
