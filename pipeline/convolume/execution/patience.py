"""Calls to stores that fail by what may pass are made again, after growing pauses; what fails for good says where."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from convolume.clusters._pauses import pause
from convolume.errors import ConvolumeError, DeviceError, HostMemoryError, PassingError, RunError
from convolume.stores._faults import fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["IN_VAIN_S", "PAUSES_S", "errors_at", "patiently", "storage_errors_at"]

T = TypeVar("T")

_logger = logging.getLogger("convolume")

# Between tries of one call: about 19 s in all, as long as a file server takes to start again.
PAUSES_S = (0.1, 0.5, 2.0, 6.0, 10.0)
# So long nobody waits for a path again that was waited for in vain: a run ends within a minute.
IN_VAIN_S = 60.0

_in_vain: dict[str, float] = {}


def patiently(path: str, what: str, call: Callable[[], T]) -> T:
    """Return what a call to a store returns; where it fails by what may pass, it is made again, after growing pauses.

    Parameters
    ----------
    path : str
        The image, which stands in the message.
    what : str
        What could not be done where it fails: ``cannot be read``.
    call : callable
        Reads or writes; making it again does no harm.

    Raises
    ------
    PassingError
        It still failed after the last pause, or another call on this path did so within the last minute.
    StorageError
        The file system refuses whatever it is asked: no second try is made.

    Examples
    --------
    >>> patiently("memory:ones", "cannot be read", lambda: 1)
    1
    """
    pauses = iter(() if time.monotonic() - _in_vain.get(path, -IN_VAIN_S) < IN_VAIN_S else PAUSES_S)
    while True:
        try:
            result = call()
        except (PassingError, OSError) as error:
            ours = error if isinstance(error, PassingError) else fault(f"{path}: {what}", error, "see the cause")
            if not isinstance(ours, PassingError):
                raise ours from error
            seconds = next(pauses, None)
            if seconds is None or not pause(seconds):
                _in_vain[path] = time.monotonic()
                raise ours from error
        else:
            _in_vain.pop(path, None)
            return result


@contextmanager
def storage_errors_at(path: str, what: str) -> Iterator[None]:
    """Turn the system's errors into ours, for what is not tried again; they name the file that they know of."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename or path}: {what}"
        raise fault(where, error, "see the cause") from error


@contextmanager
def errors_at(where: str) -> Iterator[None]:
    """Turn whatever fails inside into an error that begins with the place, of a class that can leave a worker.

    The cause itself stays here, in the log: not every library's exceptions can.
    """
    try:
        yield
    except MemoryError as error:
        message = f"{where}: out of memory ({error}): give smaller blocks (`block:`)"
        raise HostMemoryError(message) from None
    except ConvolumeError as error:
        kind = type(error) if isinstance(error, (RunError, DeviceError)) else RunError
        message = f"{where}: {error}"
        raise kind(message) from None
    except Exception as error:
        _logger.debug("%s failed", where, exc_info=True)
        message = f"{where}: {type(error).__name__}: {error}"
        raise RunError(message) from None
