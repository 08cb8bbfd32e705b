"""What an image is, in whichever format, without its voxels: ``convolume info``, and `inspect` in Python."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from convolume import stores
from convolume.errors import InputError
from convolume.execution.journal import Coverage, Journal
from convolume.execution.ownership import check_free
from convolume.execution.run_file import RunFile
from convolume.stores._facts import complaints_of, zarr_facts
from convolume.stores.zarr import open_source as open_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convolume.image import Axis, ImageInfo
    from convolume.stores import Source
    from convolume.stores._facts import ZarrFacts

__all__ = ["ImageReport", "RunTrace", "Validation", "inspect"]

_VALIDATOR = "yaozarrs"
# Of what a run wrote down; its plan is long, and told by `convolume plan`.
_PROVENANCE = ("workflow", "versions", "device", "input")


@dataclass(frozen=True, slots=True)
class Validation:
    """What a validator says of an image's metadata: `complaints`, none where they are valid."""

    standard: str
    validator: str
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunTrace:
    """What a run of this package left in an image that it wrote, or began to write.

    Parameters
    ----------
    state : {'finished', 'unfinished', 'being written'}
        Unfinished outputs are gone on with when their workflow is run again.
    written_share : float
        Of all voxels, pyramid included, those that are written for certain; 0 to 1.
    steps : tuple of str, optional
        The filters, none for a copy; None where it is not known.
    provenance : dict
        What it wrote down: workflow, versions, device and input, as far as they are known.
    """

    state: Literal["finished", "unfinished", "being written"]
    written_share: float
    steps: tuple[str, ...] | None
    provenance: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ImageReport:
    """What an image is, in whichever format, without its voxels.

    Parameters
    ----------
    path, format : str
        Where it is; the file in ``stores/`` that reads it.
    image : ImageInfo
        The finest level.
    levels : dict of str to ImageInfo
        Every level by the path that it is read from, or by its number where it has none; the finest first.
    ome_version : str, optional
        Of OME-Zarr.
    zarr_format : int, optional
        2 or 3, for Zarr.
    codecs : tuple of dict
        Those of Zarr's chunks, as they are written, in the order in which they encode.
    windows : tuple
        (min, max, start, end) of every channel that is displayed; None for one without.
    metadata : dict
        What the format carries and `image` has no place for: the affine of NIfTI, say.
    run : RunTrace, optional
        For images that were written, or begun, by this package.
    validation : Validation, optional
        For OME-Zarr.
    """

    path: str
    format: str
    image: ImageInfo
    levels: Mapping[str, ImageInfo]
    ome_version: str | None = None
    zarr_format: int | None = None
    codecs: tuple[dict[str, Any], ...] = ()
    windows: tuple[tuple[float, float, float, float] | None, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    run: RunTrace | None = None
    validation: Validation | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it JSON-like, with units in the names."""
        image = self.image
        return {
            "path": self.path,
            "format": self.format,
            "ome_version": self.ome_version,
            "zarr_format": self.zarr_format,
            **_level_dict(image),
            "dtype": image.dtype,
            "size_voxels": image.size_voxels,
            "axes": [_axis_dict(axis) for axis in image.axes],
            "channels": [
                {"name": channel.name, "color": channel.color, "window": _window_dict(window)}
                for channel, window in zip(image.channels, self.windows_of_channels, strict=True)
            ],
            "codecs": list(self.codecs),
            "levels": [{"path": path, **_level_dict(level)} for path, level in self.levels.items()],
            "metadata": dict(self.metadata),
            "notes": list(image.notes),
            "run": None if self.run is None else _run_dict(self.run),
            "validation": None if self.validation is None else _validation_dict(self.validation),
        }

    @property
    def windows_of_channels(self) -> tuple[tuple[float, float, float, float] | None, ...]:
        """The window of every named channel; None where it is not known."""
        count = len(self.image.channels)
        return self.windows if len(self.windows) == count else (None,) * count


def _level_dict(level: ImageInfo) -> dict[str, Any]:
    return {
        "shape_voxels": list(level.shape),
        "spacing_um": list(level.space_spacing_um),
        "size_bytes": level.size_bytes,
        "chunks_voxels": level.chunks and list(level.chunks),
        "shards_voxels": level.shards and list(level.shards),
    }


def _axis_dict(axis: Axis) -> dict[str, Any]:
    return {
        "name": axis.name,
        "kind": axis.kind,
        "unit": axis.unit,
        "spacing": axis.spacing,
        "translation": axis.translation,
        "spacing_um": axis.spacing_um,
    }


def _window_dict(window: tuple[float, float, float, float] | None) -> dict[str, float] | None:
    return None if window is None else dict(zip(("min", "max", "start", "end"), window, strict=True))


def _run_dict(run: RunTrace) -> dict[str, Any]:
    return {
        "state": run.state,
        "written_share": run.written_share,
        "steps": None if run.steps is None else list(run.steps),
        **run.provenance,
    }


def _validation_dict(validation: Validation) -> dict[str, Any]:
    return {
        "standard": validation.standard,
        "validator": validation.validator,
        "is_valid": not validation.complaints,
        "complaints": list(validation.complaints),
    }


def inspect(path: str, *, dataset: str | None = None) -> ImageReport:
    """Return what an image is: format, axes, voxel size, channels, levels, storage, and who wrote it; no voxel is read.

    Parameters
    ----------
    path : str
        Whatever can be read: a file, a folder, or a name such as ``sample:mni152-t1``; and an output that a run of
        this package has not finished.
    dataset : str, optional
        The array that is meant, where a file holds several.

    Raises
    ------
    InputError
        No image is there, or it is not understood.

    Examples
    --------
    >>> import numpy as np
    >>> from convolume.stores import memory
    >>> memory.put("ones", np.ones((4, 5, 6), np.uint16))
    >>> report = inspect("memory:ones")
    >>> report.format, report.image.shape, report.image.size_bytes
    ('memory', (4, 5, 6), 240)
    >>> report.as_dict()["axes"][0]["name"]
    'z'
    """
    path = path.rstrip("/") or path
    # What will be one file lies elsewhere until then.
    place = path if Path(path).exists() else stores.gathered_at(path) or path
    facts = zarr_facts(place)
    if facts is not None and facts.is_unfinished:
        levels = _unfinished_levels(place, facts)
        name = stores.format_at(place) if facts.datasets else "zarr"
        return _with_facts(ImageReport(path, name, next(iter(levels.values())), levels), facts)
    options = stores.SourceOptions(dataset=dataset)
    source = stores.open_source(path, options)
    levels = _levels(path, facts) if facts is not None and facts.datasets else _levels_of_file(source, options)
    report = ImageReport(path, stores.format_at(path), source.info, levels, metadata=source.metadata)
    return report if facts is None else _with_facts(report, facts)


def _with_facts(report: ImageReport, facts: ZarrFacts) -> ImageReport:
    """Return a report with what Zarr's metadata tell beside."""
    path, is_image = report.path, bool(facts.datasets) and not facts.is_unfinished
    notes = _level_note(path) if report.format == "zarr" else ()
    standard = f"OME-Zarr {facts.ome_version or 'of no version'}"
    return replace(
        report,
        image=report.image.with_(notes=(*report.image.notes, *notes)),
        ome_version=facts.ome_version,
        zarr_format=facts.zarr_format,
        codecs=facts.codecs,
        windows=facts.windows,
        run=_trace(path, facts) if facts.written_by else None,
        validation=Validation(standard, _VALIDATOR, complaints_of(path)) if is_image else None,
    )


def _level_note(path: str) -> tuple[str, ...]:
    """Say of an array that it is a level of an image, which tells more."""
    parent = Path(path).parent
    group = zarr_facts(str(parent))
    is_level = group is not None and Path(path).name in group.datasets
    return (f"{path}: is a level of {parent}, which tells voxel size and channels",) if is_level else ()


def _levels(path: str, facts: ZarrFacts) -> dict[str, ImageInfo]:
    """Return the levels of an image by their paths."""
    levels = {}
    for number, dataset in enumerate(facts.datasets):
        # The validator says which are missing.
        with suppress(InputError):
            levels[f"{path}/{dataset}"] = stores.open_source(path, stores.SourceOptions(level=number)).info
    return levels


def _levels_of_file(source: Source, options: stores.SourceOptions) -> dict[str, ImageInfo]:
    """Return the levels of an image that have no paths of their own, by their numbers where there are several."""
    levels = {"0": source.info}
    with suppress(InputError):
        for number in count(1):
            levels[str(number)] = stores.open_source(source.path, replace(options, level=number)).info
    return levels if len(levels) > 1 else {source.path: source.info}


def _unfinished_levels(path: str, facts: ZarrFacts) -> dict[str, ImageInfo]:
    """Return the levels of what will be an image, as the arrays that they are."""
    paths = [f"{path}/{dataset}" for dataset in facts.datasets] or [path]
    return {each: open_array(each, stores.SourceOptions()).info for each in paths}


def _trace(path: str, facts: ZarrFacts) -> RunTrace:
    if not facts.is_unfinished:
        provenance = {key: facts.written_by[key] for key in _PROVENANCE if key in facts.written_by}
        return RunTrace("finished", 1.0, _steps(path, facts.written_by.get("plan")), provenance)
    folder = stores.journal_folder(path)
    file = None if folder is None else RunFile.read(folder)
    if folder is None or file is None:
        return RunTrace("unfinished", 0.0, None, {})
    plan = _plan_in(folder)
    provenance = {"versions": {"convolume": str(file.fingerprint.get("program", "")).removeprefix("convolume ")}}
    if plan:
        provenance |= {"device": plan["device"]["name"], "input": {"path": plan["input_path"]}}
    state: Literal["unfinished", "being written"] = "unfinished"
    try:
        check_free(path, folder)
    except InputError:
        state = "being written"
    return RunTrace(state, _written_share(folder, file), _steps(path, plan), provenance)


def _written_share(folder: str, file: RunFile) -> float:
    """Return the share of an output's voxels that have a mark."""
    coverage = Coverage(file.shapes, file.units)
    for mark in Journal(folder, file.run, file.units).marks():
        coverage.add(mark)
    return sum(coverage.voxels) / sum(map(prod, file.shapes))


def _plan_in(folder: str) -> dict[str, Any]:
    """Return the plan that a run wrote down before it began; nothing where it is not there."""
    try:
        plan = json.loads(Path(folder, "plan.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return plan if isinstance(plan, dict) else {}


def _steps(path: str, plan: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """Return the filters of the output that a path has in a plan; None where it is not found there any more."""
    name = Path(path).name
    found = [output["steps"] for output in (plan or {}).get("outputs", ()) if Path(output["path"]).name == name]
    return tuple(found[0]) if len(found) == 1 else None
