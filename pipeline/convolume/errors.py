"""The errors that Convolume raises: what went wrong, where, and what to do next."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ConvolumeError", "DeviceError", "InputError", "RunError", "did_you_mean"]


class ConvolumeError(Exception):
    """Base of every error that Convolume raises on purpose.

    All of them carry one message and nothing else, so that they cross process borders unharmed.
    """

    exit_code = 3


class InputError(ConvolumeError, ValueError):
    """What the user asked for cannot be done; nothing was written."""

    exit_code = 2


class DeviceError(ConvolumeError, RuntimeError):
    """A device could not compile, allocate or launch."""


class RunError(ConvolumeError, RuntimeError):
    """A run that had begun could not be finished."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word nearest to `word`, else an empty string.

    Examples
    --------
    >>> did_you_mean("gausian", ["gaussian", "sobel"])
    "; did you mean 'gaussian'?"
    """
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
