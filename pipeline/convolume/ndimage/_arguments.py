"""What may be said to scipy's filters, checked: boundary modes, axes, one entry an axis, outputs and dtypes."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convolume.boundary import BoundaryMode
from convolume.errors import InputError, did_you_mean
from convolume.layouts import copy_voxels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolume.ndimage._types import Output

__all__ = ["Call", "checked_axes", "checked_axis", "checked_mode", "checked_modes", "is_dask", "one_an_axis"]

Array = npt.NDArray[Any]

_DTYPES = frozenset(
    [
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *("bool", "float32", "float64", "complex64", "complex128"),
    ]
)


@dataclass(frozen=True)
class Call:
    """What every filter is called with: an image, where its result goes and in which dtype, and the constant.

    `image` is a NumPy or a dask array; `out` takes the result, where there is one.
    """

    image: Any
    out: Array | None
    dtype: np.dtype[Any]
    cval: complex

    @classmethod
    def checked(
        cls, image: Any, output: Output, cval: complex, weights: Array | None = None, *, promotes: bool = True
    ) -> Call:
        """Return the call; without `promotes` an output that is named as real refuses complex results.

        Raises
        ------
        InputError
            The output does not fit the image, or scipy knows no such numbers.
        """
        image = image if is_dask(image) else np.asarray(image)
        is_complex = "c" in {image.dtype.kind, "" if weights is None else weights.dtype.kind}
        out, dtype = _checked_output(output, image, promotes=promotes and is_complex)
        _check_numbers(image.dtype, dtype, cval, is_complex=is_complex)
        return cls(image, out, dtype, cval)

    def deliver(self, result: Any) -> Any:
        """Return the result, in the array that was given for it if there is one."""
        if self.out is None or result is self.out:
            return result
        copy_voxels(self.out, result)
        return self.out


def is_dask(image: Any) -> bool:
    """Say whether an image is a dask array."""
    return type(image).__module__.startswith("dask.array")


def checked_mode(mode: str) -> BoundaryMode:
    """Return the boundary mode of this name."""
    try:
        return BoundaryMode(mode)
    except ValueError:
        known = [str(name) for name in BoundaryMode]
        message = f"there is no boundary mode {mode!r}{did_you_mean(str(mode), known)} (there are: {', '.join(known)})"
        raise InputError(message) from None


def checked_modes(mode: str | Sequence[str], count: int) -> list[BoundaryMode]:
    """Return one boundary mode for each of so many axes."""
    return [checked_mode(each) for each in one_an_axis(mode, count, "mode")]


def checked_axes(axes: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Return the axes that are named, counted from the first; all where nothing is named."""
    if axes is None:
        return tuple(range(ndim))
    named = tuple(operator.index(axis) for axis in (axes if np.iterable(axes) else (axes,)))
    if any(not -ndim <= axis < ndim for axis in named) or len({axis % ndim for axis in named}) < len(named):
        message = f"axes {list(named)}: each is one of the image's {ndim} axes, and none comes twice"
        raise InputError(message)
    return tuple(axis % ndim for axis in named)


def checked_axis(axis: int, ndim: int) -> int:
    """Return one axis, counted from the first."""
    if not -ndim <= operator.index(axis) < ndim:
        message = f"axis {axis} is none of the image's {ndim} axes"
        raise InputError(message)
    return operator.index(axis) % ndim


def one_an_axis(value: Any, count: int, parameter: str) -> list[Any]:
    """Return one entry for each of so many axes: those of a sequence, or one for all."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * count
    entries = list(value)
    if len(entries) != count:
        message = f"{parameter} has {len(entries)} entries for {count} axes: give one for all, or one an axis"
        raise InputError(message)
    return entries


def _checked_output(output: Output, image: Any, *, promotes: bool) -> tuple[Array | None, np.dtype[Any]]:
    """Return the array that takes the result, if there is one, and the result's dtype."""
    if output is None or isinstance(output, (type, np.dtype)):
        # As scipy: the image's dtype in this machine's byte order, and complex where the result is.
        dtype = (image.dtype if output is None else np.dtype(output)).newbyteorder("=")
        return None, np.promote_types(dtype, np.complex64) if promotes else dtype
    if isinstance(output, str):
        dtype = np.dtype(output).newbyteorder("=")
        if dtype.kind not in "iufc":
            message = f"output {output!r} is no numeric dtype"
            raise InputError(message)
        return None, dtype
    out = np.asarray(output)
    _check_output_array(out, image)
    return out, out.dtype.newbyteorder("=")


def _check_output_array(out: Array, image: Any) -> None:
    if is_dask(image):
        message = "a dask array is filtered lazily: `output` may name a dtype, not an array"
        raise InputError(message)
    if out.shape != image.shape:
        message = f"output has shape {out.shape}, and the image has {image.shape}"
        raise InputError(message)
    if not out.flags.writeable:
        message = "output is read-only: give an array that can take the result"
        raise InputError(message)


def _check_numbers(source: np.dtype[Any], target: np.dtype[Any], cval: complex, *, is_complex: bool) -> None:
    """Refuse what scipy refuses: numbers that it does not know, and complex values without a place."""
    for dtype in (source, target):
        if dtype.name not in _DTYPES:
            message = f"dtype {dtype} is not filtered, here as in scipy.ndimage: use float32, float64 or integers"
            raise InputError(message)
    if is_complex and target.kind != "c":
        message = f"a complex result does not fit into an output of {target}"
        raise InputError(message)
    if target.kind == "c" and not is_complex:
        message = f"a real result needs no output of {target}: name a real dtype, as for scipy.ndimage"
        raise InputError(message)
    if np.iscomplexobj(cval) and source.kind != "c":
        message = "a complex cval stands for complex images only"
        raise InputError(message)
