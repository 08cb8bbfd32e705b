"""What Zarr's own metadata files say of a node: group or array, layout, attributes; read without opening it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ArrayLayout",
    "attributes",
    "codec_names",
    "digest",
    "document_of",
    "hidden_array",
    "node_kind",
    "read_layout",
]

HIDDEN_ARRAY = "array"
METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One Zarr array on disk: extents, dtype (NumPy's name) and units of storage."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    dimension_names: tuple[str | None, ...] | None = None
    zarr_format: int = 3


def node_kind(path: str) -> str | None:
    """Return ``"group"``, ``"array"``, or None where there is no Zarr node; nothing is raised."""
    folder = Path(path)
    try:
        if (folder / "zarr.json").is_file():
            kind = json.loads((folder / "zarr.json").read_bytes()).get("node_type")
            return kind if kind in {"group", "array"} else None
        if (folder / ".zarray").is_file():
            return "array"
        return "group" if (folder / ".zgroup").is_file() or (folder / ".zattrs").is_file() else None
    except (OSError, ValueError, AttributeError):
        return None


def attributes(path: str) -> dict[str, Any]:
    """Return the user's attributes of a Zarr node, v3 or v2."""
    folder = Path(path)
    if (folder / "zarr.json").is_file():
        return dict(_document(folder / "zarr.json").get("attributes", {}))
    return _document(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}


def read_layout(path: str) -> ArrayLayout:
    """Return the layout of an array.

    Raises
    ------
    InputError
        It is no array, or its metadata are not understood.
    """
    file = _array_file(path)
    if not file.is_file():
        message = f"{path}: there is no Zarr array"
        raise InputError(message)
    try:
        layout = _layout_v3(document_of(path)) if file.name == "zarr.json" else _layout_v2(document_of(path))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        message = f"{file}: this Zarr array's metadata are not understood ({type(error).__name__}: {error})"
        raise InputError(message) from error
    return layout


def document_of(path: str) -> dict[str, Any]:
    """Return the metadata document of an array that is there, v3 or v2, or of one that a run has not finished."""
    return hidden_array(path) or _document(_array_file(path))


def codec_names(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the voxels of an array were coded with, those inside of shards too.

    Examples
    --------
    >>> codec_names({"zarr_format": 2, "filters": [{"id": "delta"}], "compressor": {"id": "blosc"}})
    ('delta', 'blosc')
    """
    if "codecs" not in document:
        entries = [*(document.get("filters") or ()), document.get("compressor")]
        return tuple(str(entry["id"]) for entry in entries if entry is not None)
    names: list[str] = []
    for codec in document["codecs"]:
        names += (codec["name"], *codec_names({"codecs": (codec.get("configuration") or {}).get("codecs", ())}))
    return tuple(names)


def hidden_array(path: str) -> dict[str, Any] | None:
    """Return the document of an array that a run has not finished; until then, others find an empty group there."""
    ours = attributes(path).get("convolume")
    hidden = ours.get(HIDDEN_ARRAY) if isinstance(ours, dict) else None
    return hidden if isinstance(hidden, dict) else None


def _array_file(path: str) -> Path:
    v3 = Path(path, "zarr.json")
    return v3 if v3.is_file() else Path(path, ".zarray")


def _layout_v3(document: Mapping[str, Any]) -> ArrayLayout:
    outer = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    sharding = [codec for codec in document["codecs"] if codec["name"] == "sharding_indexed"]
    inner = tuple(sharding[0]["configuration"]["chunk_shape"]) if sharding else outer
    names = document.get("dimension_names")
    return ArrayLayout(
        shape=tuple(document["shape"]),
        dtype=np.dtype(document["data_type"]),
        chunks=inner,
        shards=outer if sharding else None,
        dimension_names=None if names is None else tuple(names),
    )


def _layout_v2(document: Mapping[str, Any]) -> ArrayLayout:
    dtype = np.dtype(document["dtype"]).newbyteorder("=")
    return ArrayLayout(tuple(document["shape"]), dtype, tuple(document["chunks"]), zarr_format=2)


def digest(*paths: str) -> str:
    """Return a short text that changes with the metadata files of these nodes."""
    summary = blake2b(digest_size=16)
    for path in paths:
        for name in METADATA_FILES:
            file = Path(path, name)
            if file.is_file():
                summary.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return summary.hexdigest()


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        message = f"{file}: cannot be read as JSON ({error})"
        raise InputError(message) from error
    if not isinstance(document, dict):
        message = f"{file}: holds no JSON object"
        raise InputError(message)
    return document
