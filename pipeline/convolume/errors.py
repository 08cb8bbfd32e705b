"""The errors that Convolume raises: what went wrong, where, and what to do next."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ConvolumeError",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "HostMemoryError",
    "InputError",
    "PassingError",
    "PlanTooLargeError",
    "RunError",
    "StorageError",
    "WorkerDiedError",
    "did_you_mean",
]


class ConvolumeError(Exception):
    """Base of every error that Convolume raises on purpose.

    All of them carry one message and nothing else, so that they cross process borders unharmed.

    Examples
    --------
    >>> import convolume
    >>> try:
    ...     convolume.Volume.open("no/such/image.ome.zarr")
    ... except convolume.ConvolumeError as error:
    ...     print(error, error.exit_code)
    no/such/image.ome.zarr: there is no such file or folder 2
    """

    exit_code = 3


class InputError(ConvolumeError, ValueError):
    """What the user asked for cannot be done; nothing was written.

    Examples
    --------
    >>> issubclass(InputError, ValueError), InputError.exit_code
    (True, 2)
    """

    exit_code = 2


class PlanTooLargeError(InputError):
    """A worker has not enough memory for a plan's blocks."""


class DeviceError(ConvolumeError, RuntimeError):
    """A device could not compile, allocate or launch.

    Examples
    --------
    >>> issubclass(DeviceError, RuntimeError), DeviceError.exit_code
    (True, 3)
    """


class DeviceMemoryError(DeviceError):
    """A device has not enough memory for what was asked of it at once; a part of it may fit."""


class DeviceLostError(DeviceError):
    """A device does not answer any more; others may."""


class RunError(ConvolumeError, RuntimeError):
    """A run that had begun could not be finished; started again, it goes on.

    Examples
    --------
    >>> issubclass(RunError, RuntimeError), RunError.exit_code
    (True, 3)
    """


class PassingError(RunError):
    """Something failed that may pass by itself, as networks do: the same is worth trying again."""


class StorageError(RunError):
    """A file system refuses whatever is asked of it: it is full, read-only, or gone."""


class HostMemoryError(RunError):
    """The host has not enough memory at this moment; it may have for one block at a time."""


class WorkerDiedError(RunError):
    """A worker process died while it did something, most often for want of memory."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word nearest to `word`, else an empty string.

    Examples
    --------
    >>> did_you_mean("gausian", ["gaussian", "sobel"])
    "; did you mean 'gaussian'?"
    """
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
