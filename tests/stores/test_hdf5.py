"""HDF5: one dataset is an image, whoever wrote it and however its chunks are stored."""

from __future__ import annotations

import json
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from convolume.errors import InputError, RunError
from convolume.regions import Region
from convolume.stores import Source, SourceOptions, _hdf5_files, open_source
from convolume.stores._hdf5_chunks import read_part
from convolume.testing.stores import DTYPES, check_crosses_processes, check_source, random_array


def _whole(source: Source) -> Any:
    return source.read(Region.whole(source.info.shape))


def _write(path: Path, **datasets: Any) -> str:
    with h5py.File(path, "w") as file:
        for name, array in datasets.items():
            file[name] = array
    return str(path)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", [{}, {"chunks": (2, 3, 4)}, {"chunks": (2, 4, 5), "compression": "gzip"}])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_stored_any_way(tmp_path: Path, dtype: str, how: dict[str, Any], byte_order: Any) -> None:
    """In one piece or in chunks, in either byte order."""
    array = random_array((5, 7, 6), dtype)
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        file.create_dataset("raw", data=array.astype(array.dtype.newbyteorder(byte_order)), **how)
    source = open_source(str(tmp_path / "volume.h5"))
    assert source.info.chunks == how.get("chunks")
    assert source.decoded_chunks == (tuple((n, 0) for n in how["chunks"]) if how else None)
    assert source.metadata == {"hdf5": {"dataset": "/raw"}}
    check_source(source, array)


@pytest.mark.parametrize("ending", [".h5", ".hdf5", ".hdf", ".he5", ".H5"])
def test_endings(tmp_path: Path, ending: str) -> None:
    """Of all there are."""
    array = random_array((4, 5), "uint8")
    check_source(open_source(_write(tmp_path / f"plane{ending}", raw=array)), array)


def test_several_datasets(tmp_path: Path) -> None:
    """The only image is taken; of several, one is named."""
    raw, mask = random_array((4, 5, 6), "uint16"), random_array((4, 5, 6), "bool")
    path = _write(tmp_path / "volume.h5", raw=raw, curve=np.zeros(9), number=3.0, words=["a", "b"])
    check_source(open_source(path), raw)
    with h5py.File(path, "a") as file:
        file["volumes/mask"] = mask
        file["volumes/soft"] = h5py.SoftLink("/raw")
    listed = r"there are: /raw, /volumes/mask$"
    with pytest.raises(InputError, match=rf"holds several images; name the one .*, such as `dataset: /raw`; {listed}"):
        open_source(path)
    for name in ("volumes/mask", "/volumes/mask", "volumes/mask/"):
        source = open_source(path, SourceOptions(dataset=name))
        assert source.signature() == "hdf5 /volumes/mask"
        check_source(source, mask)
    check_source(open_source(path, SourceOptions(dataset="/volumes/soft")), raw)
    check_crosses_processes(source, mask)
    check_source(open_source(path, SourceOptions(dataset="curve")), np.zeros(9))
    with pytest.raises(
        InputError, match=r"there is no dataset '/rav' that can be read; did you mean '/raw'\? \(there are: /raw, /vol"
    ):
        open_source(path, SourceOptions(dataset="rav"))
    with pytest.raises(InputError, match=rf"'/volumes' is no dataset; {listed}"):
        open_source(path, SourceOptions(dataset="volumes"))


def test_what_is_no_image(tmp_path: Path) -> None:
    """Nothing that could be filtered; a list that has an end."""
    empty = _write(
        tmp_path / "empty.h5", curve=np.zeros(9), complex=np.zeros((3, 4), "complex64"), none=h5py.Empty("f4")
    )
    with pytest.raises(InputError, match="holds no dataset of numbers along 2 to 5 axes"):
        open_source(empty)
    with pytest.raises(InputError, match="dtype complex64 cannot be filtered"):
        open_source(empty, SourceOptions(dataset="complex"))
    with pytest.raises(InputError, match="the dataset '/none' is empty; there are no images in the file"):
        open_source(empty, SourceOptions(dataset="none"))
    many = _write(tmp_path / "many.h5", **{f"image{number}": np.zeros((2, 3)) for number in range(20)})
    with pytest.raises(InputError, match=r"there are: /image0, /image1, /image10, (/image1\d, ){4}/image15 and more$"):
        open_source(many)
    six = _write(tmp_path / "six.h5", raw=np.zeros((1,) * 6))
    with pytest.raises(InputError, match="has 6 axes; at most 5"):
        open_source(six, SourceOptions(dataset="raw"))
    with pytest.raises(InputError, match="level 1 is not there; this image has one level, 0"):
        open_source(_write(tmp_path / "one.h5", raw=np.zeros((3, 4))), SourceOptions(level=1))


def test_axes(tmp_path: Path) -> None:
    """The user's, else the dimensions' names, else ilastik's, else the last of (t, c, z, y, x)."""
    array = random_array((4, 5, 6, 2), "uint8")
    path = _write(tmp_path / "volume.h5", raw=array)
    assert "".join(axis.name for axis in open_source(path).info.axes) == "czyx"
    with h5py.File(path, "a") as file:
        keys = [{"key": key, "typeFlags": 2, "resolution": 0, "description": ""} for key in "zyxc"]
        file["raw"].attrs["axistags"] = json.dumps({"axes": keys})
        file["raw"].attrs["element_size_um"] = (3.0, 2.0, 1.0)
    ilastik = open_source(path)
    check_source(ilastik, np.moveaxis(array, -1, 0))
    assert [(axis.name, axis.spacing_um) for axis in ilastik.info.axes] == [
        ("c", None),
        ("z", 3.0),
        ("y", 2.0),
        ("x", 1.0),
    ]
    with h5py.File(path, "a") as file:
        for dimension, name in zip(file["raw"].dims, "XYZT", strict=True):
            dimension.label = name
    named = open_source(path)
    check_source(named, array.transpose(3, 2, 1, 0))
    assert named.info.space_spacing_um == (3.0, 2.0, 1.0)
    told = open_source(path, SourceOptions(axes="tczy", spacing=(0.5,), unit="nanometer"))
    check_source(told, array)
    assert told.info.space_spacing_um == pytest.approx((5e-4, 5e-4))


@pytest.mark.parametrize("size", [(1.0, 2.0), (1.0, 0.0, 2.0), (1.0, float("nan"), 1.0), "three", h5py.Empty("f4")])
def test_element_sizes_that_do_not_fit(tmp_path: Path, size: Any) -> None:
    """The unit stays unknown."""
    path = _write(tmp_path / "volume.h5", raw=np.zeros((3, 4, 5)))
    with h5py.File(path, "a") as file:
        file["raw"].attrs["element_size_um"] = size
    assert open_source(path).info.space_spacing_um == (None, None, None)


def test_chunks_are_kept(tmp_path: Path) -> None:
    """A chunk that is read twice is decoded once, as long as its bytes may be kept."""
    array = random_array((8, 64, 64), "uint16")
    path = str(tmp_path / "volume.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=array, chunks=(2, 64, 64), compression="gzip")
        offset = file["raw"].id.get_chunk_info(0).byte_offset
    source = open_source(path)
    first = Region((0, 0, 0), (1, 64, 64))
    np.testing.assert_array_equal(source.read(first), array[:1])
    with Path(path).open("r+b") as file:
        status = Path(path).stat()
        file.seek(offset)
        file.write(bytes(100))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    np.testing.assert_array_equal(source.read(first), array[:1])
    source.cache_bytes = 0
    with pytest.raises(
        RunError, match="voxels of '/raw' cannot be read; the file, or one that it refers to, is damaged"
    ):
        source.read(first)


def test_replaced_file(tmp_path: Path) -> None:
    """It is opened again; what is not there any more is an error of the run."""
    path = _write(tmp_path / "volume.h5", raw=np.zeros((3, 4)))
    source = open_source(path)
    _whole(source)
    _write(tmp_path / "volume.h5", raw=np.ones((3, 4)), more=0)
    np.testing.assert_array_equal(_whole(source), np.ones((3, 4)))
    _write(tmp_path / "volume.h5", other=np.ones((3, 4, 5)))
    with pytest.raises(RunError, match="voxels of '/raw' cannot be read"):
        _whole(source)
    Path(path).unlink()
    with pytest.raises(RunError, match="cannot be read; it was there when it was opened"):
        _whole(source)


def test_external_and_virtual_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read as h5py does; a file that is not there is missed before a run, and another one is noticed."""
    monkeypatch.chdir(tmp_path)
    array = random_array((4, 5, 6), "uint16")
    for number, plane in enumerate(array):
        _write(tmp_path / f"plane{number}.h5", raw=plane)
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    for number in range(len(array)):
        layout[number] = h5py.VirtualSource(f"plane{number}.h5", "raw", array.shape[1:])
    with h5py.File("virtual.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    with h5py.File("external.h5", "w") as file:
        file.create_dataset("raw", data=array, external=[(str(tmp_path / "voxels.bin"), 0, array.nbytes)])
    virtual, external = open_source(str(tmp_path / "virtual.h5")), open_source("external.h5")
    check_source(virtual, array)
    check_source(external, array)
    assert [len(source.identity().sizes_bytes) for source in (virtual, external)] == [5, 2]
    Path("plane2.h5").unlink()
    Path("voxels.bin").unlink()
    for name, lost in (("virtual", "plane2.h5"), ("external", "voxels.bin")):
        with pytest.raises(
            InputError, match=rf"1 of the files that '/raw' refers to are not there \(the first: .*{lost}"
        ):
            open_source(f"{name}.h5", SourceOptions(missing="error"))
    np.testing.assert_array_equal(_whole(open_source("virtual.h5"))[2], 0)
    with pytest.raises(RunError, match="the file, or one that it refers to, is damaged or not there any more"):
        _whole(open_source("external.h5"))


def test_compression_that_h5py_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named before a run begins, with what brings it."""
    path = str(tmp_path / "volume.h5")
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((2, 3))
        properties.set_filter(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FLAG_OPTIONAL, (4,))
        space = h5py.h5s.create_simple((4, 5))
        h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_INT16, space, properties)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda _: False)
    message = (
        r"chunks of '/raw' are compressed by 'deflate' \(HDF5 filter 1\), which h5py does not bring: "
        "pip install hdf5plugin, or name the plugin's folder in HDF5_PLUGIN_PATH"
    )
    with pytest.raises(InputError, match=message):
        open_source(path)


def test_a_chunk_larger_than_memory(tmp_path: Path) -> None:
    """It is refused before anything tries to decode it."""
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        file.create_dataset("raw", (2**20, 2**31), "u1", chunks=(1, 2**31), compression="gzip", maxshape=(None, None))
    memory_bytes = "convolume.stores._files._memory_bytes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_bytes, lambda: 2**30)
        with pytest.raises(InputError, match=r"one chunk \(1, 2147483648\) decodes to 2.15 GB, more than the 1.07 GB"):
            open_source(str(tmp_path / "volume.h5"))


def test_chunks_that_would_crash_the_library(tmp_path: Path) -> None:
    """Shorter or longer than they are said to be, before or after they are decoded: these crashed HDF5."""
    path = tmp_path / "volume.h5"
    array = random_array((4, 6, 7), "uint16")
    for stream, why in (
        (zlib.compress(bytes(10)), "a chunk decodes to less than its 336 bytes"),
        (zlib.compress(bytes(10**7)), "a chunk decodes to more than its 336 bytes"),
        (zlib.compress(array.tobytes())[:-9], "a chunk decodes to less than its 336 bytes"),
        (b"no stream", "incorrect header check"),
    ):
        with h5py.File(path, "w") as file:
            made = file.create_dataset(
                "raw", array.shape, "uint16", chunks=array.shape, compression="gzip", shuffle=True
            )
            made.id.write_direct_chunk((0, 0, 0), stream)
        source = open_source(str(path))
        with pytest.raises(RunError, match=f"voxels of '/raw' cannot be read.*{why}"):
            _whole(source)
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=array, chunks=array.shape, fletcher32=True)
    data = bytearray(path.read_bytes())
    # Size, left-out filters and place of the chunk, as HDF5 writes them one behind the other.
    place = data.index(struct.pack("<II4Q", array.nbytes + 4, 0, 0, 0, 0, 0))
    data[place : place + 4] = struct.pack("<I", 1)
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"the chunk at \(0, 0, 0\) is 1 bytes long, and cannot be"):
        _whole(open_source(str(path)))


def test_chunks_that_are_left_out_or_stored_as_they_are(tmp_path: Path) -> None:
    """What was never written is fill value; a filter that did not pay is skipped."""
    array = random_array((4, 6, 7), "uint16")
    with h5py.File(tmp_path / "volume.h5", "w") as file:
        how: dict[str, Any] = {"chunks": (2, 6, 7), "compression": "gzip", "shuffle": True, "fillvalue": 9}
        made = file.create_dataset("raw", (8, 6, 7), "uint16", **how)
        made.id.write_direct_chunk((0, 0, 0), array[:2].tobytes(), 0b11)
        made.id.write_direct_chunk((2, 0, 0), zlib.compress(array[2:].tobytes()), 0b01)
        odd = h5py.h5t.NATIVE_UINT16.copy()
        odd.set_precision(12)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((6, 7))
        properties.set_deflate(4)
        space = h5py.h5s.create_simple((6, 7))
        twelve = h5py.Dataset(h5py.h5d.create(file.id, b"twelve", odd, space, properties))
        twelve[...] = array[0] % 4096
    path = str(tmp_path / "volume.h5")
    expected = np.concatenate([array, np.full_like(array, 9)])
    check_source(open_source(path, SourceOptions(dataset="raw")), expected)
    check_source(open_source(path, SourceOptions(dataset="twelve")), array[0] % 4096)


def test_damaged_files(tmp_path: Path) -> None:
    """Cut short, no HDF5 at all, HDF4."""
    path = tmp_path / "volume.h5"
    _write(path, raw=random_array((8, 8, 8), "uint16"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"is no HDF5 file that can be read \(.*truncated file"):
        open_source(str(path))
    path.write_bytes(b"no image at all")
    with pytest.raises(InputError, match=r"is no HDF5 file that can be read \(.*file signature not found"):
        open_source(str(path))
    path.write_bytes(_hdf5_files.HDF4_MAGIC + bytes(1000))
    with pytest.raises(
        InputError, match="is an HDF4 file, which h5py cannot read; convert it, with h4toh5 for example"
    ):
        open_source(str(path))


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra."""
    path = _write(tmp_path / "volume.h5", raw=np.zeros((3, 4)))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"needs h5py, which is not installed: pip install 'convolume\[hdf5\]'"):
        open_source(path)


def test_chunks_at_the_border_are_kept_without_what_fills_them_up(tmp_path: Path) -> None:
    """What is kept takes as much as is counted: it is no view of the whole chunk."""
    with h5py.File(tmp_path / "chunks.h5", "w") as file:
        image = file.create_dataset("image", data=np.zeros((65, 65), "uint16"), chunks=(64, 64), compression="gzip")
        assert read_part(image, (slice(64, 65), slice(64, 65))).base is None
