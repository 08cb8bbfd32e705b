"""What a source and a sink are: the two nouns that every format serves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from convolume.regions import Region
from convolume.stores._identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from convolume.image import ImageInfo

__all__ = [
    "DEFAULT_CACHE_BYTES",
    "Advance",
    "Format",
    "IfExists",
    "Layout",
    "Sink",
    "SinkOptions",
    "Source",
    "SourceOptions",
    "Windows",
    "Written",
    "nothing",
]

DEFAULT_CACHE_BYTES = 256 * 2**20

IfExists = Literal["error", "overwrite", "resume"]
"""What happens where an output exists: ``resume`` goes on with what a run left unfinished."""


Format = Literal["ome-zarr", "ome-zarr-0.4", "zarr"]
"""What files of Zarr hold: an OME-Zarr image of version 0.5 (Zarr v3) or 0.4 (Zarr v2), or one array (Zarr v3)."""


Windows = tuple[tuple[float, float, float, float], ...]
"""Display windows, (min, max, start, end) of each channel."""

Advance = Callable[[], None]
"""Takes note that a step is done."""

Layout = tuple[tuple[int, ...], tuple[int, ...]]
"""The shape of an image, and the extents of its units: chunks, or what one writer owns."""


def nothing() -> None:
    """Take no note."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a user may say of an input beside its path.

    `axes` (such as ``"zyx"``) and `spacing` (one entry a space axis, or one for all, in `unit`) are for formats
    that do not carry them, and win over what the file says. `channel` is a position or a name. `missing` says of
    formats of many files what one that is not there means: voxels of the fill value, or an error. `dataset` names one
    of the arrays of a file that holds several.
    """

    level: int = 0
    channel: int | str | None = None
    time: int | None = None
    region: tuple[tuple[str, int, int], ...] = ()
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    unit: str | None = None
    missing: Literal["fill", "error"] = "fill"
    dataset: str | None = None


class Source(ABC):
    """An image that is read by region. It keeps a path, pickles small and reopens in each process."""

    path: str
    info: ImageInfo
    crosses_processes: bool = True
    """Whether another process can open the same image."""
    cache_bytes: int = DEFAULT_CACHE_BYTES
    """Decoded chunks that a process keeps, so that halos are not decoded again; where the format has chunks."""
    io_threads: int | None = None
    """Threads that decode, where the format can use several; None is as many as there are cores."""
    staged_bytes: int = 0
    """Bytes of the temporary file that serves the reads of a compressed one."""
    library_bytes: int = 0
    """Memory of the libraries that each process imports for this format alone, where that is worth counting."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """JSON-like facts that `info` has no place for (an affine, say); they go into the run's provenance."""
        return {}

    @property
    def decoded_chunks(self) -> tuple[tuple[int, int], ...] | None:
        """Extent of what is decoded at a time, axis by axis, and where in it the image begins; None if nothing is."""
        return None

    def prepare(self) -> None:  # noqa: B027  # most formats have nothing to prepare
        """Do once, in the process that starts a run, what serves the reads of all others (unpack a file, say).

        It is no error to leave it out: the first read does it then.
        """

    def check_whole(self, region: Region) -> None:  # noqa: B027  # most formats are one file
        """Refuse, before a run begins, a region of which files are missing, where that is an error.

        Raises
        ------
        InputError
            Says how many, and what to write where that is as it should be.
        """

    @abstractmethod
    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region that lies inside the image, in the image's dtype.

        The array may be a view or a cache's: it is never written.
        """

    @abstractmethod
    def signature(self) -> str:
        """Return what the image says of itself: a text that changes with all that `files` do not show.

        The format, and a digest of metadata that lie in files of their own; or what tells an array from another one.
        """

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the files, or a bounded sample of them, that the voxels of a region lie in; whether there or not."""
        del region
        return ()

    def identity(self) -> Identity:
        """Return what changes when the image is replaced by another one; cheap, no voxel is read."""
        return Identity.of(self.signature(), self.files(Region.whole(self.info.shape)))


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """How an output is stored; None takes a good default for the image's shape.

    Parameters
    ----------
    chunks, shards : tuple of int, optional
        Their extents in voxels, one for each axis.
    pyramid : bool
        Whether there are coarser levels.
    if_exists : {'error', 'overwrite', 'resume'}
        What is done with what is there.
    block : tuple of int, optional
        Extents of the blocks that it will be written in: chunks and shards that are not named suit them.
    format : {'ome-zarr', 'ome-zarr-0.4', 'zarr'}
        What is written, where the path leaves a choice.
    pyramid_axes : str
        The space axes that have fewer voxels in coarser levels.
    """

    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    pyramid: bool = True
    if_exists: IfExists = "error"
    block: tuple[int, ...] | None = None
    format: Format = "ome-zarr"
    pyramid_axes: str = "zyx"


class Sink(ABC):
    """An image that is written by region, in whole shards, and becomes visible when it is finished.

    It keeps a path, pickles small and reopens in each process. Level 0 is the image, the others are its pyramid;
    `levels` and `write_unit` (the shard, or the chunk where there are no shards) are known before
    anything is written.
    """

    path: str
    levels: tuple[ImageInfo, ...]
    write_unit: tuple[int, ...]
    crosses_processes: bool = True
    io_threads: int | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all levels, uncompressed."""
        return sum(level.size_bytes for level in self.levels)

    @property
    def disk_bytes(self) -> int:
        """Bytes that it may take on the disk while it is written, if nothing can be compressed."""
        return self.size_bytes

    @property
    def finish_steps(self) -> int:
        """Steps of `finish` that take long enough to be watched."""
        return 0

    @property
    def journal_folder(self) -> str | None:
        """The folder beside the output for the marks of its blocks; None where no later process could use them."""
        return None

    @property
    def exists(self) -> bool:
        """Say whether something is there, finished or not."""
        return False

    def remove(self) -> None:  # noqa: B027  # what is in memory is replaced by `create`
        """Take away what is there, in one step: whoever looks sees all of it or nothing."""

    def remove_leftovers(self) -> None:  # noqa: B027  # not every format has any
        """Remove what a killed process had not written to its end."""

    @abstractmethod
    def check(self) -> None:
        """Refuse, before anything is written, what could not be created (it exists, no permission).

        Raises
        ------
        InputError
            Says what stands in the way and what to do.
        """

    def probe(self, voxels: npt.NDArray[Any]) -> tuple[float, int] | None:
        """Write voxels beside where the output will be, remove them, and return seconds and bytes.

        None where nothing can be, or need be, written: nothing is left behind in any case.
        """
        del voxels
        return None

    @abstractmethod
    def create(self) -> None:
        """Make the empty arrays; what is there does not open as an image yet.

        Where a run is resumed, arrays that are there stay, and what a killed process left half written goes.
        """

    @abstractmethod
    def write(self, level: int, region: Region, voxels: npt.NDArray[Any]) -> int:
        """Write whole shards of one level; return the number of uncompressed bytes."""

    @abstractmethod
    def read(self, level: int, region: Region) -> npt.NDArray[Any]:
        """Return voxels that were written."""

    @abstractmethod
    def finish(self, provenance: Mapping[str, Any], windows: Windows, advance: Advance = nothing) -> None:
        """Write the metadata that makes the image visible, last of all.

        Parameters
        ----------
        provenance : mapping
            JSON-like: workflow, plan, versions, device, input.
        windows : tuple of (min, max, start, end)
            Display window of each channel, fresh from the result.
        advance : callable
            Is called after each of its `finish_steps`.
        """


class Written(ABC):
    """An output that a run wrote, or began to write, to be looked at block by block; finished or not."""

    @abstractmethod
    def read(self, level: int, region: Region) -> npt.NDArray[Any]:
        """Return voxels of one level."""

    @abstractmethod
    def units(self, level: int, region: Region) -> Iterator[tuple[str, Region]]:
        """Yield every file that a region of whole units lies in, and which part of the region it holds."""
