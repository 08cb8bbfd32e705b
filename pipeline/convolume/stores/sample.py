"""Real images that come with installed packages: ``sample:mni152-t1``."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from typing import TYPE_CHECKING

from convolume.errors import InputError, did_you_mean
from convolume.stores.nifti import open_file

if TYPE_CHECKING:
    from convolume.stores._interfaces import Source, SourceOptions

__all__ = ["open_source", "recognises"]

PRECEDENCE = 1
# name: (distribution that brings the file, the file, the extra of ours that installs it)
SAMPLES = {"mni152-t1": ("nilearn", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz", "demo")}


def recognises(path: str) -> bool:
    """Say whether this is the name of a sample."""
    return path.startswith("sample:")


def open_source(path: str, options: SourceOptions) -> Source:
    """Open a sample, found in the installed package's list of files; the package is not imported.

    Raises
    ------
    InputError
        There is no such sample, or the package that brings it is not installed.
    """
    name = path.removeprefix("sample:")
    if name not in SAMPLES:
        message = f"{path}: there is no such sample{did_you_mean(name, SAMPLES)} (there are: {', '.join(SAMPLES)})"
        raise InputError(message)
    return open_file(path, _find(path, *SAMPLES[name]), options)


def _find(path: str, distribution: str, file_name: str, extra: str) -> str:
    try:
        listed = files(distribution) or []
    except PackageNotFoundError:
        listed = []
    for entry in listed:
        if entry.name == file_name:
            return str(entry.locate())
    message = f"{path}: this image comes with {distribution}, where it is not found: pip install 'convolume[{extra}]'"
    raise InputError(message)
