"""HDF5 files, open only while something is read: which images lie in one, and voxels by hyperslab."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume.errors import InputError, RunError, did_you_mean
from convolume.stores._axes import DTYPES, KINDS
from convolume.stores._decoded import Chunked
from convolume.stores._faults import UNREADABLE, fault
from convolume.stores._files import check_chunk, file_identity, load_extra
from convolume.stores._hdf5_chunks import filters_of, read_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from convolume.regions import Region
    from convolume.stores._interfaces import Layout

__all__ = ["LIBRARY_BYTES", "Hdf5File", "attribute", "opened", "read_chunked"]

# h5py, with HDF5's own library.
LIBRARY_BYTES = 12 * 2**20
HDF4_MAGIC = b"\x0e\x03\x13\x01"
LEAST_AXES = 2
MOST_LISTED = 8


@contextmanager
def opened(path: str) -> Iterator[Hdf5File]:
    """Open a file for as long as something is read: it is closed to nobody who writes, and no fork inherits it.

    Raises
    ------
    InputError
        h5py is not installed, or the file is damaged.
    """
    h5py = load_extra(path, "h5py", "hdf5")
    try:
        file = h5py.File(path, "r")
    except UNREADABLE as error:
        raise InputError(_why_not_opened(path, error)) from error
    try:
        yield Hdf5File(path, file)
    finally:
        with suppress(*UNREADABLE):
            file.close()


def read_chunked(
    path: str, name: str, layout: Layout | None, region: Region, dtype: str, cache_bytes: int
) -> npt.NDArray[Any]:
    """Return a part of a dataset.

    Parameters
    ----------
    path, name : str
        The file, and the dataset in it.
    layout : (shape, chunk), optional
        Its extents and those of a chunk; None where it lies in one piece.
    region : Region
        Along the dataset's axes.
    dtype : str
        NumPy's name of the dtype.
    cache_bytes : int
        Decoded chunks that this process keeps.

    Raises
    ------
    RunError
        The dataset is damaged or is not there any more.
    """
    files: list[Hdf5File] = []
    identity = file_identity(path)
    with ExitStack() as stack:

        def decode(part: Region) -> npt.NDArray[Any]:
            # Opened once, and only where there is something to be decoded.
            if not files:
                files.append(stack.enter_context(opened(path)))
            return files[0].read(name, part.slices, dtype)

        if layout is None:
            return decode(region)
        return Chunked((path, identity, name), layout, dtype, decode).read(region, cache_bytes)


def attribute(node: Any, name: str) -> Any:
    """Return an attribute's value; None where there is none, or none that can be read."""
    try:
        return node.attrs.get(name)
    except UNREADABLE:
        return None


class Hdf5File:
    """An open HDF5 file, of one thread alone."""

    def __init__(self, path: str, file: Any) -> None:
        self.path = path
        self._file = file
        self._h5py = import_module("h5py")

    def dataset(self, name: str) -> Any:
        """Return a dataset that can be filtered.

        Raises
        ------
        InputError
            There is none of this name, it holds no numbers, or its chunks cannot be decoded here.
        """
        try:
            node = self._file[name]
            is_dataset = isinstance(node, self._h5py.Dataset)
            shape, dtype = (node.shape, node.dtype) if is_dataset else (None, None)
        except UNREADABLE as error:
            listed = self.images()
            named = f"there is no dataset {name!r} that can be read{did_you_mean(name, listed)}"
            message = f"{self.path}: {named} ({_found(listed)})"
            raise InputError(message) from error
        if not is_dataset:
            message = f"{self.path}: {name!r} is no dataset; {_found(self.images())}"
            raise InputError(message)
        if shape is None or dtype is None:
            message = f"{self.path}: the dataset {name!r} is empty; {_found(self.images())}"
            raise InputError(message)
        self._check_storage(name, node)
        return node

    def group(self, name: str) -> Any:
        """Return a group; None where there is none."""
        with suppress(*UNREADABLE):
            node = self._file[name]
            return node if isinstance(node, self._h5py.Group) else None
        return None

    def only_image(self) -> str:
        """Return the name of the only numeric dataset of 2 to 5 axes.

        Raises
        ------
        InputError
            There is none, or there are several, which the message lists.
        """
        names = self.images()
        if not names:
            message = f"{self.path}: holds no dataset of numbers along {LEAST_AXES} to {len(KINDS)} axes"
            raise InputError(message)
        if len(names) > 1:
            message = (
                f"{self.path}: holds several images; name the one that is meant, such as `dataset: {names[0]}`; "
                f"{_found(names)}"
            )
            raise InputError(message)
        return names[0]

    def images(self) -> list[str]:
        """Return the names of numeric datasets of 2 to 5 axes, of not many more than an error lists."""
        found: list[str] = []

        def look(name: str, node: Any) -> bool | None:
            with suppress(*UNREADABLE):
                if isinstance(node, self._h5py.Dataset) and _is_image(node):
                    found.append(f"/{name}")
            return True if len(found) > MOST_LISTED else None

        with suppress(*UNREADABLE):
            self._file.visititems(look)
        return found

    def read(self, name: str, slices: tuple[slice, ...], dtype: str) -> npt.NDArray[Any]:
        """Return a part of a dataset.

        Raises
        ------
        RunError
            The dataset is damaged or is not there any more.
        """
        try:
            voxels = read_part(self._file[name], slices)
        except UNREADABLE as error:
            what = f"{self.path}: voxels of {name!r} cannot be read"
            raise fault(what, error, "the file, or one that it refers to, is damaged or not there any more") from error
        wanted = tuple(cut.stop - cut.start for cut in slices)
        if voxels.shape != wanted or voxels.dtype.name != dtype:
            message = f"{self.path}: {name!r} is another dataset than when it was opened; run again"
            raise RunError(message)
        # In the machine's byte order, and without what h5py notes of enumerations.
        return voxels.astype(dtype, order="C", copy=False)

    def files(self, name: str) -> tuple[str, ...]:
        """Return the files that a dataset lies in: this one, and those that it refers to."""
        try:
            node = self._file[name]
            external = [file for file, _, _ in node.external or ()]
            virtual = [source.file_name for source in node.virtual_sources()] if node.is_virtual else []
        except UNREADABLE as error:
            what = f"{self.path}: {name!r} cannot be read"
            raise fault(what, error, "the file is damaged, or not there any more") from error
        beside = [self._beside(file) for file in virtual if file != "." and "%" not in file]
        return tuple(dict.fromkeys([self.path, *external, *beside]))

    def _beside(self, file: str) -> str:
        # HDF5 looks beside the file that refers, then in the folder of the process.
        beside = Path(self.path).parent / file
        return str(beside) if beside.exists() else file

    def _check_storage(self, name: str, node: Any) -> None:
        try:
            filters = list(filters_of(node))
            chunks, itemsize = node.chunks, node.dtype.itemsize
        except UNREADABLE as error:
            message = f"{self.path}: the dataset {name!r} is damaged ({_words(error)})"
            raise InputError(message) from error
        for code, words in filters:
            if not self._decodes(code):
                message = (
                    f"{self.path}: chunks of {name!r} are compressed by {words!r} (HDF5 filter {code}), which h5py "
                    "does not bring: pip install hdf5plugin, or name the plugin's folder in HDF5_PLUGIN_PATH"
                )
                raise InputError(message)
        if chunks is not None:
            check_chunk(self.path, chunks, itemsize)

    def _decodes(self, code: int) -> bool:
        if not self._h5py.h5z.filter_avail(code):
            with suppress(ImportError):
                import_module("hdf5plugin")  # registers what it brings
        return bool(self._h5py.h5z.filter_avail(code))


def _is_image(node: Any) -> bool:
    shape = node.shape or ()
    return LEAST_AXES <= len(shape) <= len(KINDS) and min(shape) > 0 and node.dtype.name in DTYPES


def _found(names: list[str]) -> str:
    if not names:
        return "there are no images in the file"
    return f"there are: {', '.join(names[:MOST_LISTED])}{' and more' if len(names) > MOST_LISTED else ''}"


def _why_not_opened(path: str, error: BaseException) -> str:
    with suppress(OSError), Path(path).open("rb") as file:
        if file.read(len(HDF4_MAGIC)) == HDF4_MAGIC:
            return f"{path}: is an HDF4 file, which h5py cannot read; convert it, with h4toh5 for example"
    return f"{path}: is no HDF5 file that can be read ({_words(error)})"


def _words(error: BaseException) -> str:
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
