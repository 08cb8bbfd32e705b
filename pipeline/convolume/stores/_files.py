"""What formats of single files share: optional libraries, a file's identity, and staging of compressed ones."""

from __future__ import annotations

import atexit
import gzip
import os
import tempfile
import zlib
from hashlib import blake2b
from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from convolume.errors import InputError
from convolume.stores._faults import fault
from convolume.stores._paths import check_disk_space

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

__all__ = ["check_chunk", "check_there", "file_identity", "load_extra", "staged"]

PIECE_BYTES = 2**22


def load_extra(path: str, module: str, extra: str) -> ModuleType:
    """Import what only some users need.

    Raises
    ------
    InputError
        It is not installed; the message names the extra that brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        message = f"{path}: needs {module.partition('.')[0]}, which is not installed: pip install 'convolume[{extra}]'"
        raise InputError(message) from error


def check_chunk(path: str, chunk: tuple[int, ...], voxel_bytes: int) -> None:
    """Refuse a chunk that this machine cannot decode, before anything tries.

    Raises
    ------
    InputError
        Says how large the chunk is, and the memory.
    """
    chunk_bytes, memory_bytes = prod(chunk) * voxel_bytes, _memory_bytes()
    if chunk_bytes > memory_bytes:
        message = (
            f"{path}: one chunk {chunk} decodes to {chunk_bytes / 1e9:,.3g} GB, more than the "
            f"{memory_bytes / 1e9:,.3g} GB of memory of this machine; store the image in smaller chunks"
        )
        raise InputError(message)


def _memory_bytes() -> int:
    if not hasattr(os, "sysconf"):
        return 2**63
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_there(path: str, what: str, files: Iterable[str]) -> None:
    """Refuse an image of which files are missing, whose voxels its library would make up.

    Parameters
    ----------
    path : str
        The file that refers to them.
    what : str
        What refers to them, for the message.
    files : iterable of str
        Their paths.

    Raises
    ------
    InputError
        Says how many are missing, and what to write where that is as it should be.
    """
    missing = [file for file in files if not Path(file).exists()]
    if missing:
        message = (
            f"{path}: {len(missing):,} of the files that {what} refers to are not there (the first: {missing[0]}). "
            "Where their voxels are to be fill value, write `missing: fill` under `input`"
        )
        raise InputError(message)


def file_identity(path: str) -> str:
    """Return the size and time of a file, as a text that changes when it is replaced.

    Raises
    ------
    RunError
        The file is not there any more.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        what = f"{path}: cannot be read"
        raise fault(what, error, "it was there when it was opened") from error
    return f"file of {status.st_size} bytes, changed at {status.st_mtime_ns} ns"


def staged(path: str, unpacked_bytes: int) -> Path:
    """Return an uncompressed copy of a .gz file, which all processes of this machine share.

    The copy lies in a private folder of the system's temporary directory, under a name made from the file's path, size
    and time. It appears there whole or not at all, and the process that made it removes it when it ends.

    Parameters
    ----------
    path : str
        The compressed file.
    unpacked_bytes : int
        What its header promises: more is not unpacked, less is an error.

    Raises
    ------
    InputError
        The file is damaged or cut short, or there is no space for its copy.
    """
    key = f"{Path(path).resolve()}\0{file_identity(path)}"
    copy = _folder() / f"{blake2b(key.encode(), digest_size=16).hexdigest()}.raw"
    if copy.is_file() and copy.stat().st_size == unpacked_bytes:
        return copy
    check_disk_space(str(copy), unpacked_bytes)
    handle, temporary = tempfile.mkstemp(prefix=copy.name, suffix=".part", dir=copy.parent)
    try:
        with os.fdopen(handle, "wb") as target:
            _unpack(path, target.fileno(), unpacked_bytes)
        Path(temporary).replace(copy)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    atexit.register(_remove, copy, os.getpid())
    return copy


def _unpack(path: str, target: int, unpacked_bytes: int) -> None:
    left = unpacked_bytes
    try:
        with gzip.open(path, "rb") as source:
            while left and (piece := source.read(min(left, PIECE_BYTES))):
                view = memoryview(piece)
                while view:
                    view = view[os.write(target, view) :]
                left -= len(piece)
            if not left:
                source.read(1)  # the checksum is compared when the end is met
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        message = f"{path}: cannot be unpacked, it is damaged or cut short ({error}); copy it again"
        raise InputError(message) from error
    if left:
        message = (
            f"{path}: holds {unpacked_bytes - left} bytes where its header promises {unpacked_bytes}; copy it again"
        )
        raise InputError(message)


def _folder() -> Path:
    """Return this user's folder for staged files, made so that nobody else can write into it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"convolume-staged-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if hasattr(os, "getuid") and (folder.is_symlink() or status.st_uid != user or status.st_mode & 0o077):
        message = f"{folder}: belongs to someone else or is open to others; remove it, or set TMPDIR"
        raise InputError(message)
    return folder


def _remove(copy: Path, process: int) -> None:
    # A forked process inherits this call, but not the copy.
    if os.getpid() == process:
        copy.unlink(missing_ok=True)
