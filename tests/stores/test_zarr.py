"""Plain Zarr arrays: axes from their names, from the user, or by position."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BytesCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

from convolume.errors import InputError, RunError
from convolume.regions import Region
from convolume.stores import SourceOptions, open_source
from convolume.stores._chunk_files import ChunkFiles
from convolume.testing.stores import DTYPES, check_source, random_array


def _write(path: Path, array: np.ndarray, **how: Any) -> str:
    how = {"chunks": tuple(-(-n // 2) for n in array.shape), **how}
    zarr.create_array(path, data=array, **how)
    return str(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(tmp_path: Path, dtype: str, zarr_format: int) -> None:
    """Whatever zarr-python writes is read."""
    array = random_array((5, 1, 7), dtype)
    source = open_source(_write(tmp_path / "plain.zarr", array, zarr_format=zarr_format))
    check_source(source, array)
    assert [axis.name for axis in source.info.axes] == list("zyx")
    assert source.info.notes == ()


def test_sharded_and_named(tmp_path: Path) -> None:
    """Dimension names are the axes; the user gives their distance."""
    array = random_array((2, 8, 8), "uint16")
    path = _write(tmp_path / "plain.zarr", array, chunks=(1, 2, 2), shards=(1, 4, 4), dimension_names=["T", "Y", "X"])
    source = open_source(path, SourceOptions(spacing=(0.5, 0.25), unit="micrometer"))
    check_source(source, array)
    assert (source.info.chunks, source.info.shards) == ((1, 2, 2), (1, 4, 4))
    assert [axis.kind for axis in source.info.axes] == ["time", "space", "space"]
    assert source.info.space_spacing_um == (0.5, 0.25)


CODECS_2: dict[str, dict[str, Any]] = {
    "blosc": {"compressors": numcodecs.Blosc("lz4", shuffle=2)},
    "zstd": {"compressors": numcodecs.Zstd(5)},
    "gzip": {"compressors": numcodecs.GZip(5)},
    "zlib": {"compressors": numcodecs.Zlib(5)},
    "bz2": {"compressors": numcodecs.BZ2(5)},
    "lzma": {"compressors": numcodecs.LZMA()},
    "none": {"compressors": None},
    "delta": {"filters": [numcodecs.Delta("u2"), numcodecs.Shuffle(2)]},
    "checksum": {"filters": [numcodecs.Fletcher32()]},
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("codec", CODECS_2)
def test_version_2(tmp_path: Path, codec: str, separator: str, order: Any) -> None:
    """Every codec that writers use, in both orders of voxels in a chunk and both names of a file, with ragged ends."""
    array = random_array((5, 6, 7), "uint16")
    key: Any = {"name": "v2", "separator": separator}
    how = {"zarr_format": 2, "order": order, "chunk_key_encoding": key, "chunks": (2, 3, 4), **CODECS_2[codec]}
    path = _write(tmp_path / "plain.zarr", array, **how)
    assert Path(path, f"2{separator}1{separator}1").is_file()
    check_source(open_source(path, SourceOptions(missing="error")), array)


@pytest.mark.parametrize("dtype", [">i2", ">f4", ">u8", ">f8"])
@pytest.mark.parametrize("filtered", [False, True])
def test_other_byte_orders(tmp_path: Path, dtype: str, filtered: bool) -> None:  # noqa: FBT001 - the case
    """Voxels come in the machine's, whoever decodes them."""
    array = random_array((5, 6), np.dtype(dtype).name)
    filters = [numcodecs.Shuffle(2)] if filtered else None
    path = _write(tmp_path / "plain.zarr", array.astype(dtype), zarr_format=2, filters=filters)
    check_source(open_source(path), array)


CODECS_3: dict[str, dict[str, Any]] = {
    "big": {"serializer": BytesCodec(endian="big")},
    "gzip": {"compressors": GzipCodec()},
    "zstd with checksum": {"compressors": ZstdCodec(checksum=True)},
    "turned": {"filters": [TransposeCodec(order=(2, 0, 1))]},
    "sharded": {"shards": (4, 6, 8)},
    "sharded and turned": {"shards": (4, 6, 8), "filters": [TransposeCodec(order=(2, 0, 1))]},
    "sharded, big": {"shards": (4, 6, 8), "serializer": BytesCodec(endian="big"), "compressors": GzipCodec()},
}


@pytest.mark.parametrize("codec", CODECS_3)
def test_version_3(tmp_path: Path, codec: str) -> None:
    """Zarr's own codecs, inside of shards and without."""
    array = random_array((5, 6, 7), "uint16")
    path = _write(tmp_path / "plain.zarr", array, chunks=(2, 3, 4), **CODECS_3[codec])
    check_source(open_source(path), array)


def test_index_at_the_start_of_shards(tmp_path: Path) -> None:
    """As some writers do."""
    array = random_array((5, 6, 7), "uint16")
    sharding = ShardingCodec(chunk_shape=(2, 3, 4), index_location="start")
    path = _write(tmp_path / "plain.zarr", array, chunks=(4, 6, 8), serializer=sharding, compressors=None)
    source = open_source(path)
    assert (source.info.chunks, source.info.shards) == ((2, 3, 4), (4, 6, 8))
    check_source(source, array)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("group", [True, False])
def test_codecs_that_nobody_knows(tmp_path: Path, zarr_format: int, group: bool) -> None:  # noqa: FBT001 - the case
    """They are named when the image is opened, before a run begins."""
    path = Path(_write(tmp_path / "image" / "0", np.zeros((4, 4), "uint8"), zarr_format=zarr_format))
    file = path / (".zarray" if zarr_format == 2 else "zarr.json")
    document = json.loads(file.read_text())
    if zarr_format == 2:
        document["compressor"] = {"id": "wavelets"}
    else:
        document["codecs"][1] = {"name": "wavelets"}
    file.write_text(json.dumps(document))
    if group:
        image = {"axes": list("yx"), "datasets": [{"path": "0"}]}
        (tmp_path / "image" / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
    message = (
        r"image/0: cannot be opened \(codecs: .*wavelets\)\. .* Store the image with other codecs, such as blosc, or "
    )
    with pytest.raises(InputError, match=message):
        open_source(str(tmp_path / "image" if group else path))


def test_other_names_are_said(tmp_path: Path) -> None:
    """What the names do not tell is taken by position, and noted; the user's word settles it."""
    array = random_array((2, 8, 8), "uint16")
    path = _write(tmp_path / "plain.zarr", array, dimension_names=["depth", "row", "column"])
    assert open_source(path).info.notes == (f"{path}: its dimensions are named depth, row, column; zyx are taken",)
    told = open_source(path, SourceOptions(axes="cyx")).info
    assert ([axis.name for axis in told.axes], told.notes) == (list("cyx"), ())


def test_what_is_refused(tmp_path: Path) -> None:
    """Complex numbers, no axes, no voxels, a level."""
    path = _write(tmp_path / "complex.zarr", np.zeros((4, 4), "complex64"))
    with pytest.raises(InputError, match="dtype complex64 cannot be filtered"):
        open_source(path)
    zarr.create_array(tmp_path / "scalar.zarr", shape=(), dtype="uint8")
    with pytest.raises(InputError, match=r"has no voxels: its shape is \(\)"):
        open_source(str(tmp_path / "scalar.zarr"))
    path = _write(tmp_path / "plain.zarr", np.zeros((4, 4), "uint8"))
    with pytest.raises(InputError, match="level 1 is not there; this image has one level, 0"):
        open_source(path, SourceOptions(level=1))
    (tmp_path / "plain.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    with pytest.raises(InputError, match="metadata are not understood"):
        open_source(path)


# How an array is stored, and the name of the file with its voxel (4, 0).
LAYOUTS: list[tuple[dict[str, Any], str]] = [
    ({"zarr_format": 3}, "c/1/0"),
    ({"zarr_format": 3, "shards": (4, 8)}, "c/1/0"),
    ({"zarr_format": 3, "chunk_key_encoding": {"name": "v2", "separator": "."}}, "1.0"),
    ({"zarr_format": 2}, "1.0"),
    ({"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}}, "1/0"),
]


@pytest.mark.parametrize(("layout", "file"), LAYOUTS)
def test_files_that_are_missing(tmp_path: Path, layout: dict[str, Any], file: str) -> None:
    """They are fill value where the user says so; else they are counted before anything is read, in what is read."""
    path = str(tmp_path / "image.zarr")
    array = zarr.create_array(path, shape=(8, 8), chunks=(4, 4), dtype="uint8", fill_value=7, **layout)
    array[:] = 1
    strict = SourceOptions(missing="error")
    assert open_source(path, strict).read(Region.whole((8, 8))).min() == 1
    source = open_source(path, strict)
    Path(path, file).unlink()
    with pytest.raises(RunError, match=rf"the file \S*/image\.zarr/{file} is not there any more, and was when the run"):
        source.read(Region((3, 0), (5, 4)))
    assert source.read(Region((0, 0), (4, 8))).min() == 1
    with pytest.raises(InputError, match=rf": 1 of the files with its voxels .*/{file}\)\. .* `missing: fill` under"):
        open_source(path, strict)
    assert open_source(path, SourceOptions(missing="error", region=(("y", 0, 4),))).info.shape == (4, 8)
    assert open_source(path).read(Region.whole((8, 8)))[5, 1] == 7


@pytest.mark.parametrize(("layout", "file"), LAYOUTS)
def test_files_that_are_looked_at(tmp_path: Path, layout: dict[str, Any], file: str) -> None:
    """All of a small array, by their names; of a part only its own."""
    path = str(tmp_path / "image.zarr")
    array = zarr.create_array(path, shape=(8, 8), chunks=(4, 4), dtype="uint8", fill_value=7, **layout)
    array[:] = 1
    source, part = open_source(path), open_source(path, SourceOptions(region=(("y", 0, 4),)))
    before, before_part = source.identity(), part.identity()
    stored = {
        str(each) for each in Path(path).rglob("*") if each.is_file() and not each.name.startswith((".z", "zarr."))
    }
    assert set(source.files(Region.whole((8, 8)))) == stored
    assert list(before.sizes_bytes) == [Path(each).stat().st_size for each in source.files(Region.whole((8, 8)))]
    Path(path, file).unlink()
    position = source.files(Region.whole((8, 8))).index(f"{path}/{file}")
    assert (source.identity().sizes_bytes[position], source.identity().changed_ns[position]) == (None, None)
    assert part.identity() == before_part
    assert source.identity() != before


def test_an_identity_costs_the_same_whatever_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand chunks and of a billion, as many files are looked at."""
    counts = []
    stat = os.stat
    for name, extent in (("small", 40), ("large", 4000)):
        zarr.create_array(tmp_path / name, shape=(extent,) * 3, chunks=(4, 4, 4), dtype="uint8")
        source = open_source(str(tmp_path / name))
        asked: list[Any] = []
        monkeypatch.setattr(os, "stat", lambda path, *a, asked=asked, **k: asked.append(path) or stat(path, *a, **k))
        identity = source.identity()
        monkeypatch.undo()
        assert len(identity.sizes_bytes) == len({str(each) for each in asked if "/c/" in str(each)}) == 256
        counts.append(len(asked))
    assert counts[0] == counts[1] < 270


@settings(max_examples=200)
@given(st.lists(st.sampled_from([1, 2, 3, 4, 8, 16, 100, 255, 256, 257]), min_size=1, max_size=3))
def test_a_sample_lies_all_over_the_image(grid: list[int]) -> None:
    """It is as large as it may be, and lies in both halves of every axis, however rows and their number match."""
    files = ChunkFiles("a", (1,) * len(grid), "", ".").sample(Region.whole(tuple(grid)))
    assert len(set(files)) == len(files) == min(256, math.prod(grid))
    places = np.array([[int(number) for number in file.removeprefix("a/").split(".")] for file in files])
    for extent, positions in zip(grid, places.T, strict=True):
        assert positions.max() < extent
        if extent > 1:
            in_first_half = np.mean(positions < extent / 2)
            assert 0.3 < in_first_half < 0.85
