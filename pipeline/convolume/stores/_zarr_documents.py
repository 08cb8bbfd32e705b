"""The metadata documents of Zarr nodes that are written: each appears in one step, whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convolume.stores._zarr_metadata import ArrayLayout

__all__ = ["array_document", "create_array", "write_document", "write_group"]

# Level 1 of zstd compresses nearly as well as level 5 behind a shuffle, and writes five times as fast.
COMPRESSION_LEVEL = 1
NEWER_FORMAT, OLDER_FORMAT = 3, 2


def create_array(path: str, layout: ArrayLayout) -> None:
    """Make an empty array where nothing is."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    documents = {"zarr.json": array_document(layout)}
    if layout.zarr_format == OLDER_FORMAT:
        # Zarr v2 has no place for the names of dimensions: xarray's is the one that others know.
        documents = {".zattrs": {"_ARRAY_DIMENSIONS": layout.dimension_names}, ".zarray": _document_v2(layout)}
    for name, document in documents.items():
        with (folder / name).open("x", encoding="utf-8") as file:
            json.dump(document, file, indent=2)


def _document_v2(layout: ArrayLayout) -> dict[str, Any]:
    """Return the document of a Zarr v2 array: blosc-zstd chunks, fill value 0; it has no checksums that all read."""
    blosc = {"id": "blosc", "cname": "zstd", "clevel": COMPRESSION_LEVEL, "shuffle": 1, "blocksize": 0}
    return {
        "zarr_format": 2,
        "shape": layout.shape,
        "chunks": layout.chunks,
        "dtype": layout.dtype.newbyteorder("<").str,
        "compressor": blosc,
        "fill_value": _fill_value(layout),
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }


def _fill_value(layout: ArrayLayout) -> int | bool:
    return False if layout.dtype.kind == "b" else 0


def array_document(layout: ArrayLayout) -> dict[str, Any]:
    """Return the document of a Zarr v3 array: blosc-zstd chunks with a crc32c checksum each, fill value 0."""
    document: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": layout.shape,
        "data_type": layout.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": layout.shards or layout.chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": _codecs(layout),
        "fill_value": _fill_value(layout),
    }
    if layout.dimension_names is not None:
        document["dimension_names"] = layout.dimension_names
    return document


def _codecs(layout: ArrayLayout) -> list[dict[str, Any]]:
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    checksum = {"name": "crc32c"}
    blosc = {"cname": "zstd", "clevel": COMPRESSION_LEVEL, "shuffle": "shuffle"}
    configuration = {**blosc, "typesize": layout.dtype.itemsize, "blocksize": 0}
    chunk_codecs = [little, {"name": "blosc", "configuration": configuration}, checksum]
    if layout.shards is None:
        return chunk_codecs
    sharding = {"chunk_shape": layout.chunks, "codecs": chunk_codecs, "index_codecs": [little, checksum]}
    return [{"name": "sharding_indexed", "configuration": {**sharding, "index_location": "end"}}]


def write_group(path: str, attributes: Mapping[str, Any], zarr_format: int = NEWER_FORMAT) -> None:
    """Write a group's metadata in one step: in Zarr v2 its attributes are a file of their own, and come last."""
    if zarr_format == OLDER_FORMAT:
        write_document(path, ".zgroup", {"zarr_format": OLDER_FORMAT})
        write_document(path, ".zattrs", attributes)
        return
    write_document(path, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def write_document(path: str, name: str, document: Mapping[str, Any]) -> None:
    """Write a node's metadata file in one step: whoever reads sees the old file or the new one."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f"{name}.", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(_plain(document), file, indent=2, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private; an image is as open as the folder's other files.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(folder / name)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _plain(value: Any) -> Any:
    """Return what JSON can say: numbers that it lacks (NaN, inf) become texts, NumPy's numbers become Python's."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
