"""The one place where what file systems and libraries raise becomes an error whose class says what to do."""

from __future__ import annotations

import errno
import os
import re
import struct
import zlib

from convolume.errors import PassingError, RunError, StorageError

__all__ = ["UNREADABLE", "errno_of", "fault"]

# What libraries raise where the bytes of a file make no sense to them.
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
# Names that not every system has are left out there.
_PASSING = {
    getattr(errno, name)
    for name in (
        *("EIO", "EAGAIN", "EINTR", "EBUSY", "ESTALE", "ETIMEDOUT", "EMFILE", "ENFILE", "ENOLCK", "EREMOTEIO", "EPIPE"),
        *("ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ENOTCONN", "ESHUTDOWN"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
    )
    if hasattr(errno, name)
}
_LASTING = {
    getattr(errno, name): why
    for name, why in {
        "ENOSPC": "the disk is full: make room",
        "EDQUOT": "the quota is used up: make room, or ask for more",
        "EFBIG": "the file system or a limit of this process (ulimit -f) allows no such large file",
        "EROFS": "the file system is read-only, as a disk with errors is made: look at the system's log",
        "EACCES": "there is no permission",
        "EPERM": "there is no permission",
        "ENODEV": "the disk is gone",
        "ENXIO": "the disk is gone",
    }.items()
    if hasattr(errno, name)
}
# tensorstore's: "RESOURCE_EXHAUSTED: … No space left on device [os_error_code='28']".
_OS_ERROR_CODE = re.compile(r"os_error_code='(\d+)'")
_PASSING_STATUS = re.compile(r"\A(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED)\b")


def errno_of(error: BaseException) -> int | None:
    """Return the system's number of an error, also where a library wrote it into its words.

    Examples
    --------
    >>> errno_of(ValueError("RESOURCE_EXHAUSTED: Failed to write [os_error_code='28']")) == errno.ENOSPC
    True
    """
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number
    found = _OS_ERROR_CODE.search(str(error))
    return int(found[1]) if found else None


def fault(what: str, error: BaseException, otherwise: str) -> RunError:
    """Return an error of ours for one of a file system or a library.

    Parameters
    ----------
    what : str
        What was not done, with the path: ``/data/out.ome.zarr/0: voxels [0:64] cannot be written``.
    error : exception
        Of Python, tensorstore or zarr-python.
    otherwise : str
        The likely cause where the error has no number that tells it.

    Returns
    -------
    RunError
        A `PassingError` where it is worth trying again; a `StorageError` where the file system refuses whatever it is
        asked; else a plain one, for what is wrong at this place alone.

    Examples
    --------
    >>> fault("x: cannot be written", OSError(errno.ENOSPC, "No space left on device"), "is it a folder?")
    StorageError('x: cannot be written; the disk is full: make room ([Errno 28] No space left on device)')
    """
    number = errno_of(error)
    if number in _LASTING:
        return StorageError(f"{what}; {_LASTING[number]} ({error})")
    if number in _PASSING or _PASSING_STATUS.match(str(error)):
        why = os.strerror(number) if number else "the storage does not answer"
        return PassingError(f"{what}; {why} ({error})")
    return RunError(f"{what}; {otherwise} ({error})")
