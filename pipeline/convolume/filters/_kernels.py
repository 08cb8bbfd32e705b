"""The `kernel` parameter: weights that are written out, a file, or the shape of a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator

from convolume.errors import InputError, did_you_mean
from convolume.filters._shapes import Ball, Box, GaussianBell
from convolume.stencil import Stencil

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.filters import FilterContext

__all__ = ["GivenWeights", "Kernel", "KernelFile", "kernel_weights"]

_SHAPES: dict[str, type[Ball | Box | GaussianBell]] = {"ball": Ball, "box": Box, "gaussian": GaussianBell}
# Above this many weights a repr tells the shape only.
_SHORT = 27
# Weights that cancel leave a rest of rounding: a sum this small, beside the weights, is zero.
_CANCELS = 1e-12


@dataclass(frozen=True, slots=True, repr=False)
class GivenWeights:
    """Weights that are written out, kept in a stencil so that they are immutable and compare by value."""

    stencil: Stencil

    @classmethod
    def read(cls, written: Any) -> GivenWeights:
        """Read nested lists or an array, and refuse what is ragged, empty, complex or not finite."""
        try:
            array = np.asarray(written)
        except ValueError:
            message = "the kernel's rows differ in length: every row of an axis needs as many weights"
            raise InputError(message) from None
        if array.dtype.kind not in "biufc":
            # Whole numbers that no dtype holds make an array of objects, and are numbers all the same.
            foreign = [entry for entry in array.ravel().tolist() if not isinstance(entry, (int, float))]
            if foreign:
                message = f"the kernel is not made of numbers: {foreign[0]!r} is one of its weights"
                raise InputError(message)
        return cls(Stencil.correlate(array))

    def written(self) -> Any:
        """Return nested lists, of whole numbers where all are whole."""
        weights = self.stencil.weights
        whole = np.all(weights == np.rint(weights)) and np.abs(weights).max() < 2**53
        return (weights.astype(np.int64) if whole else weights).tolist()

    def __repr__(self) -> str:
        """Return the weights where they are few, else their shape."""
        if self.stencil.size <= _SHORT:
            return repr(self.written())
        return f"<{' x '.join(str(extent) for extent in self.stencil.shape)} weights>"


@dataclass(frozen=True, slots=True)
class KernelFile:
    """A file of weights; it is read when the image is known."""

    path: str

    def weights(self, context: FilterContext) -> npt.NDArray[np.float64]:
        """Return the file's weights.

        Raises
        ------
        InputError
            Files cannot be read here, or the file's array is no kernel.
        """
        if context.read_array is None:
            message = f"the kernel file {self.path} cannot be read here: give the weights themselves"
            raise InputError(message)
        try:
            return GivenWeights.read(context.read_array(self.path)).stencil.weights
        except InputError as error:
            message = f"kernel file {self.path}: {error}"
            raise InputError(message) from None

    def written(self) -> str:
        """Return the path."""
        return self.path


AnyKernel = GivenWeights | KernelFile | Ball | Box | GaussianBell


def kernel_weights(kernel: AnyKernel, context: FilterContext, *, normalize: bool) -> npt.NDArray[np.float64]:
    """Return the weights of a kernel for this image, over its last filtered axes.

    Raises
    ------
    InputError
        The kernel has more axes than are filtered, or is to be normalised and adds up to 0.
    """
    weights = kernel.stencil.weights if isinstance(kernel, GivenWeights) else kernel.weights(context)
    if weights.ndim > len(context.axes):
        message = (
            f"the kernel has {weights.ndim} axes (shape {weights.shape}) and the filter works on "
            f"{context.axes_text()}: give a kernel with {len(context.axes)} or fewer"
        )
        raise InputError(message)
    if not normalize:
        return weights
    total = float(weights.sum())
    if abs(total) <= _CANCELS * np.abs(weights).sum():
        message = "the kernel's weights add up to 0, so it cannot be normalised: leave `normalize` out"
        raise InputError(message)
    return np.divide(weights, total)


def _read_kernel(written: Any) -> AnyKernel:
    if isinstance(written, AnyKernel):
        return written
    if isinstance(written, str):
        return KernelFile(written)
    if not isinstance(written, Mapping):
        return GivenWeights.read(written)
    if len(written) != 1 or not isinstance(name := next(iter(written)), str):
        message = f"the shape of a kernel has one entry ({', '.join(_SHAPES)}), this one has {list(written)}"
        raise InputError(message)
    if name not in _SHAPES:
        message = f"there is no kernel shape {name!r}{did_you_mean(name, _SHAPES)} (there are: {', '.join(_SHAPES)})"
        raise InputError(message)
    return _SHAPES[name].read(written[name])


def _write_kernel(kernel: AnyKernel) -> Any:
    return kernel.written()


# `Any` to pydantic, which would look into the dataclasses; `_read_kernel` lets nothing else through.
Kernel = Annotated[Any, PlainValidator(_read_kernel), PlainSerializer(_write_kernel)]
