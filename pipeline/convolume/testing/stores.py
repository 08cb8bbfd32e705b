"""What every source and every sink must do, as functions for tests; and strategies that draw images.

A new format is taken up by the tests once it has an entry in `EXAMPLES`, and one in `LEAST_AXES` if its images have
more than one axis; a sink needs none.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array
import h5py
import mrcfile
import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal, assert_array_less, assert_equal

from convolume.errors import InputError
from convolume.image import Axis, ImageInfo, default_axes
from convolume.regions import BlockGrid, Region
from convolume.stores import SinkOptions, SourceOptions, create_sink, lazy, memory, open_source, open_written
from convolume.stores._zarr_metadata import METADATA_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from convolume.stores import Identity, Sink, Source

    Draw = Callable[[st.SearchStrategy[Any]], Any]

__all__ = [
    "DTYPES",
    "EXAMPLES",
    "LEAST_AXES",
    "check_crosses_processes",
    "check_identity",
    "check_sink",
    "check_source",
    "image_info",
    "images",
    "random_array",
    "regions",
    "write_example",
]

DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
LARGEST_PICKLE_BYTES = 1024
SPACING = {"t": 3.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.5}
UNITS = {"time": "second", "channel": None, "space": "micrometer"}


def random_array(shape: tuple[int, ...], dtype: str, seed: int = 0) -> npt.NDArray[Any]:
    """Return an array of random bits as far as they are numbers; a part of it is zero."""
    random = np.random.default_rng(seed)
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if np.dtype(dtype).kind == "f":
        array = random.normal(0, 100, shape).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        array = random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return np.where(random.random(shape) < 0.2, np.zeros((), dtype), array)  # noqa: PLR2004  # a fifth is zero


def image_info(array: npt.NDArray[Any]) -> ImageInfo:
    """Return an info for an array whose axes are the last of (t, c, z, y, x), with units, spacing and translation."""
    axes = tuple(
        Axis(axis.name, axis.kind, UNITS[axis.kind], SPACING[axis.name], 10.0 * (axis.kind == "space"))
        for axis in default_axes(array.ndim)
    )
    return ImageInfo(array.shape, array.dtype.name, axes)


@st.composite
def regions(draw: Draw, shape: tuple[int, ...]) -> Region:
    """Draw a region inside an image, of one voxel or more."""
    starts = tuple(draw(st.integers(0, n - 1)) for n in shape)
    return Region(starts, tuple(draw(st.integers(a + 1, n)) for a, n in zip(starts, shape, strict=True)))


@st.composite
def images(draw: Draw, min_ndim: int = 1) -> tuple[npt.NDArray[Any], SinkOptions]:
    """Draw an array of up to five axes, some of length 1, and how it is stored: last chunks are often thin."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=min_ndim, max_size=5)))
    array = random_array(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 2**16)))
    chunks = tuple(draw(st.integers(-(-n // 3), n)) for n in shape)
    shards = tuple(c * draw(st.integers(1, 3)) for c in chunks) if draw(st.booleans()) else None
    return array, SinkOptions(chunks=chunks, shards=shards, if_exists="overwrite")


def check_source(source: Source, expected: npt.NDArray[Any]) -> None:
    """Hold a source to its promise: any region is that part of the whole, in the machine's byte order."""
    promised = (source.info.shape, source.info.dtype, len(source.info.axes))
    assert_equal(promised, (expected.shape, expected.dtype.name, expected.ndim))
    assert_equal(source.identity(), pickle.loads(pickle.dumps(source)).identity())  # noqa: S301  # our own bytes
    _assert_equal(source.read(Region.whole(expected.shape)), expected)

    @settings(max_examples=25, deadline=None, database=None)
    @given(regions(expected.shape))
    def any_region(region: Region) -> None:
        _assert_equal(source.read(region), expected[region.slices])

    any_region()


def check_crosses_processes(source: Source, expected: npt.NDArray[Any]) -> None:
    """Hold a source to its promise: used or not, it pickles small; another process reads the same, and knows it."""
    source.read(Region.whole(expected.shape))
    pickled = pickle.dumps(source)
    assert_array_less(len(pickled), LARGEST_PICKLE_BYTES)
    code = (
        "import pickle, sys; from convolume.regions import Region; source = pickle.load(sys.stdin.buffer); "
        "pickle.dump((source.read(Region.whole(source.info.shape)), source.identity()), sys.stdout.buffer)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True)  # noqa: S603
    voxels, identity = pickle.loads(done.stdout)  # noqa: S301  # our own bytes
    _assert_equal(voxels, expected)
    assert_equal(identity, source.identity())


def check_identity(member: str, folder: Path) -> None:
    """Hold a source to its promise: other voxels in its place are told, and files of another time from other files.

    Parameters
    ----------
    member : str
        A format of `EXAMPLES`.
    folder : Path
        An empty one.
    """
    path = write_example(member, folder, random_array((5, 7, 6), "uint16", seed=1))
    before = _identity_at(path, folder, 10**18)
    later = _identity_at(path, folder, 10**18 + 1)
    assert_equal((later.signature, later.sizes_bytes), (before.signature, before.sizes_bytes))
    assert_equal(later == before, not before.sizes_bytes)
    shutil.rmtree(folder)
    folder.mkdir()
    write_example(member, folder, random_array((5, 7, 6), "uint16", seed=2))
    # A copy may keep times, another image of the same size does not.
    after = _identity_at(path, folder, 10**18 + 1)
    assert_equal((after == before, str(after) == str(before)), (False, False))


def _identity_at(path: str, folder: Path, changed_ns: int) -> Identity:
    for file in folder.rglob("*"):
        os.utime(file, ns=(changed_ns, changed_ns))
    return open_source(path).identity()


def check_sink(path: str, array: npt.NDArray[Any], options: SinkOptions) -> None:
    """Hold a sink to its promise: whole units in, the same voxels out, and nothing opens before it is finished.

    What is written is found again, file by file, where the format keeps marks of it.
    """
    info = image_info(array)
    sink = create_sink(path, info, options)
    sink.check()
    sink.create()
    with pytest.raises(InputError, match="did not finish"):
        open_source(path)
    levels = [array, *(random_array(level.shape, level.dtype, seed=7) for level in sink.levels[1:])]
    for number, voxels in enumerate(levels):
        _write_level(sink, number, voxels)
    with pytest.raises(InputError, match="did not finish"):
        open_source(path)
    channels = next((n for axis, n in zip(info.axes, info.shape, strict=True) if axis.kind == "channel"), 1)
    sink.finish({"workflow": {"cval": float("nan")}}, ((0.0, 1.0, 0.0, 1.0),) * channels)
    for number, (written, level) in enumerate(zip(levels, sink.levels, strict=True)):
        source = open_source(path, SourceOptions(level=number))
        promised = (source.info.shape, source.info.dtype, source.info.axes)
        assert_equal(promised, (level.shape, level.dtype, level.axes))
        _assert_equal(source.read(Region.whole(level.shape)), written)
    if sink.journal_folder is not None:
        _check_written(path, levels)
    with pytest.raises(InputError, match="exists already"):
        create_sink(path, info, SinkOptions()).check()


def _check_written(path: str, levels: list[npt.NDArray[Any]]) -> None:
    """Find every file of voxels, and in each what it holds; files that are not there hold zeros only."""
    written, found = open_written(path), set()
    for number, voxels in enumerate(levels):
        for file, region in written.units(number, Region.whole(voxels.shape)):
            _assert_equal(written.read(number, region), voxels[region.slices])
            assert_equal(os.path.exists(file), bool(_bits(voxels[region.slices]).any()))  # noqa: PTH110
            found.add(file)
    names = {str(file) for file in Path(path).rglob("*") if file.is_file() and file.name not in METADATA_FILES}
    assert_equal(names - found, set())


def _bits(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the bytes of voxels: of negative zero not all are zero."""
    return np.frombuffer(voxels.tobytes(), np.uint8)


def _write_level(sink: Sink, number: int, voxels: npt.NDArray[Any]) -> None:
    """Write a level unit by unit, each with a sink that crossed a process border."""
    level = sink.levels[number]
    for _, region in BlockGrid(level.shape, level.shards or level.chunks or level.shape):
        travelled: Sink = pickle.loads(pickle.dumps(sink))  # noqa: S301  # our own bytes
        assert_equal(travelled.levels, sink.levels)
        assert_equal(travelled.write(number, region, voxels[region.slices]), voxels[region.slices].nbytes)
        _assert_equal(travelled.read(number, region), voxels[region.slices])


def _assert_equal(got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    assert_equal((got.shape, got.dtype.str), (expected.shape, expected.dtype.str))
    assert_array_equal(got, expected)


def write_example(member: str, folder: Path, array: npt.NDArray[Any]) -> str:
    """Write an array in the format of a member of the family and return the path that opens it."""
    return EXAMPLES[member](folder, array)


def _memory(folder: Path, array: npt.NDArray[Any]) -> str:
    memory.put(str(folder), array)
    return f"memory:{folder}"


def _lazy(folder: Path, array: npt.NDArray[Any]) -> str:
    lazy.put(str(folder), dask.array.from_array(array, chunks=3))
    return f"lazy:{folder}"


def _ome_zarr(folder: Path, array: npt.NDArray[Any]) -> str:
    path = str(folder / "example.ome.zarr")
    sink = create_sink(path, image_info(array), SinkOptions())
    sink.create()
    sink.write(0, Region.whole(array.shape), array)
    sink.finish({}, ())
    return path


def _zarr(folder: Path, array: npt.NDArray[Any]) -> str:
    # The array of a level is a plain Zarr array.
    return f"{_ome_zarr(folder, array)}/0"


def _nifti(folder: Path, array: npt.NDArray[Any]) -> str:
    path = str(folder / "example.nii.gz")
    nibabel.Nifti1Image(array.T, np.eye(4)).to_filename(path)
    return path


def _tiff(folder: Path, array: npt.NDArray[Any]) -> str:
    path = str(folder / "example.tif")
    tifffile.imwrite(path, array, compression="zlib", photometric="minisblack")
    return path


def _hdf5(folder: Path, array: npt.NDArray[Any]) -> str:
    path = str(folder / "example.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "volumes/raw", data=array, chunks=tuple(map(min, array.shape, (3,) * 5)), compression="gzip"
        )
    return path


def _mrc(folder: Path, array: npt.NDArray[Any]) -> str:
    path = str(folder / "example.mrc")
    with mrcfile.new(path) as file:
        file.set_data(array)
    return path


def _npy(folder: Path, array: npt.NDArray[Any]) -> str:
    path = str(folder / "example.npy")
    np.save(path, array)
    return path


def _image_series(folder: Path, array: npt.NDArray[Any]) -> str:
    for number, plane in enumerate(array):
        tifffile.imwrite(folder / f"plane{number}.tif", plane, photometric="minisblack")
    return str(folder / "plane*.tif")


EXAMPLES: Mapping[str, Callable[[Path, npt.NDArray[Any]], str]] = {
    "hdf5": _hdf5,
    "image_series": _image_series,
    "lazy": _lazy,
    "memory": _memory,
    "mrc": _mrc,
    "nifti": _nifti,
    "npy": _npy,
    "ome_zarr": _ome_zarr,
    "tiff": _tiff,
    "zarr": _zarr,
}

LEAST_AXES: Mapping[str, int] = {"image_series": len("zyx")}
