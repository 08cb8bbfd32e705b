"""What stands in the metadata of a Zarr image beside what reading needs: codecs, levels, windows, who wrote it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

from convolume.stores._zarr_metadata import attributes, document_of, hidden_array, node_kind, read_layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ZarrFacts", "complaints_of", "zarr_facts"]


@dataclass(frozen=True, slots=True)
class ZarrFacts:
    """What a Zarr array, or the group of an image, says of itself.

    Parameters
    ----------
    datasets : tuple of str
        Paths of the levels' arrays in a group; none for an array, and for what will be one.
    ome_version : str, optional
        The group's version of OME-Zarr, where it tells one.
    zarr_format : int
        2 or 3.
    codecs : tuple of dict
        Those of level 0, as they are written: filters before compressors.
    windows : tuple
        (min, max, start, end) of every channel that is described; None for one without.
    written_by : dict
        What a run of this package wrote into the attributes; empty for images of others.
    """

    datasets: tuple[str, ...]
    ome_version: str | None
    zarr_format: int
    codecs: tuple[dict[str, Any], ...]
    windows: tuple[tuple[float, float, float, float] | None, ...]
    written_by: Mapping[str, Any]

    @property
    def is_unfinished(self) -> bool:
        """Say whether a run of this package has not made an image of it yet."""
        return self.written_by.get("finished") is False


def zarr_facts(path: str) -> ZarrFacts | None:
    """Return what a Zarr array, or a group that is or will be an image, says of itself; None for all else."""
    kind = node_kind(path)
    if kind is None:
        return None
    try:
        group = attributes(path)
        if kind == "array" or hidden_array(path) is not None:
            return _facts((), path, {"convolume": group.get("convolume", {})})
        return _facts(_datasets(path, group), f"{path}/{_datasets(path, group)[0]}", group)
    except (KeyError, TypeError, IndexError, AttributeError):
        # Whoever opens it says what is wrong.
        return None


def _datasets(path: str, group: Mapping[str, Any]) -> tuple[str, ...]:
    if group.get("convolume", {}).get("finished") is False:
        return tuple(takewhile(lambda name: node_kind(f"{path}/{name}") == "array", map(str, count())))
    return tuple(dataset["path"] for dataset in group.get("ome", group)["multiscales"][0]["datasets"])


def _facts(datasets: tuple[str, ...], array: str, group: Mapping[str, Any]) -> ZarrFacts:
    ome = group.get("ome", group)
    version = ome.get("version") or ome.get("multiscales", [{}])[0].get("version")
    return ZarrFacts(
        datasets=datasets,
        ome_version=None if version is None else str(version),
        zarr_format=read_layout(array).zarr_format,
        codecs=tuple(_codecs(document_of(array))),
        windows=tuple(map(_window, (ome.get("omero") or {}).get("channels") or ())),
        written_by=group.get("convolume", {}),
    )


def _codecs(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    if "codecs" in document:
        yield from document["codecs"]
        return
    yield from document.get("filters") or ()
    if document.get("compressor"):
        yield document["compressor"]


def _window(channel: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    window = channel.get("window") or {}
    try:
        low, high, start, end = (float(window[key]) for key in ("min", "max", "start", "end"))
    except (KeyError, TypeError, ValueError):
        return None
    return low, high, start, end


def complaints_of(path: str) -> tuple[str, ...]:
    """Return what yaozarrs complains of in an OME-Zarr's metadata, those of its arrays too; no voxel is read."""
    with warnings.catch_warnings():
        # What should be, and need not, is no complaint.
        warnings.simplefilter("ignore")
        try:
            import_module("yaozarrs").validate_zarr_store(path)
        except (ValueError, NotImplementedError) as error:
            return tuple(_sentences(error))
    return ()


def _sentences(error: Exception) -> Iterable[str]:
    errors = getattr(error, "errors", None)
    if errors is None:
        yield " ".join(str(error).split())
        return
    for details in errors():
        place = ".".join(map(str, details["loc"]))
        yield f"{place}: {details['msg']}" if place else str(details["msg"])
