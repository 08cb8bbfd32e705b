"""What the voxels of a run's outputs depend on: two runs with the same fingerprint are attempts at one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume.execution.task import identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from convolume.preparation import Prepared

__all__ = ["differences", "files_changed", "fingerprint"]

_LONGEST_VALUE = 200
# Of the input's files that were looked at; apart, because a copy has the same sizes and may have other times.
_SIZES, _TIMES = "file_sizes_bytes", "files_changed_ns"
# Each explains those that follow, and anything else that differs of the input explains all of them.
_OF_FILES = ("input.identity", f"input.{_SIZES}", f"input.{_TIMES}")


def fingerprint(prepared: Prepared) -> dict[str, Any]:
    """Return everything that the voxels of a run's outputs depend on, JSON-like, for people to compare."""
    workflow, plan, job = prepared.document.model, prepared.plan, prepared.job
    outputs = {}
    for target, planned, sink in zip(job.blocks.targets, plan.outputs, job.sinks, strict=True):
        spec = workflow.outputs[target.name]
        outputs[target.name] = {
            "format": spec.format,
            "steps": [{step.name: step.filter.model_dump()} for step in spec.steps],
            "overflow": target.overflow,
            "operation": blake2b(repr(target.operation).encode(), digest_size=16).hexdigest(),
            "dtype": target.dtype,
            "methods": [choice.name for choice in planned.methods],
            "chunks": planned.chunks,
            "shards": planned.shards,
            "levels": [level.shape for level in sink.levels],
        }
    identity = identity_of(job.source)
    values = {
        "program": f"convolume {version('convolume')}",
        "input": {
            **workflow.input.model_dump(),
            "path": str(Path(job.source.path).absolute()) if job.source.crosses_processes else job.source.path,
            "identity": identity.signature,
            _SIZES: identity.sizes_bytes,
            _TIMES: identity.changed_ns,
        },
        "strategy": plan.strategy.name,
        "mode": workflow.mode.value,
        "cval": workflow.cval,
        "precision": plan.precision,
        "working_dtype": plan.working_dtype,
        "block": plan.block_shape_voxels,
        "outputs": outputs,
    }
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def differences(before: dict[str, Any], now: dict[str, Any], files: Sequence[str] = ()) -> list[str]:
    """Return what differs between two fingerprints, a sentence each.

    Parameters
    ----------
    before, now : dict
        The fingerprints.
    files : sequence of str
        The input's files that were looked at for the second one.

    Examples
    --------
    >>> differences({"block": [64, 64], "cval": 0.0}, {"block": [64, 32], "cval": 0.0})
    ['block was [64, 64] and is [64, 32]']
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    return [_sentence(name, old.get(name), new.get(name), files) for name in _telling(_different(old, new))]


def files_changed(before: dict[str, Any], now: dict[str, Any], files: Sequence[str]) -> str:
    """Return which of the input's files have another time; nothing unless that is all that differs.

    Examples
    --------
    >>> old, new = ({"input": {"file_sizes_bytes": [5], "files_changed_ns": [ns]}} for ns in (10**9, 10**18))
    >>> files_changed(old, new, ["a.nii"])[:25]
    'a.nii: of 1970-01-01 00:0'
    >>> files_changed(old, {**new, "cval": 1.0}, ["a.nii"])
    ''
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    if _different(old, new) != [f"input.{_TIMES}"]:
        return ""
    return _files(old[f"input.{_TIMES}"], new[f"input.{_TIMES}"], files, _moment)


def _different(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


def _telling(names: list[str]) -> list[str]:
    """Leave out what tells people nothing where something else explains it."""
    of_files = [name for name in _OF_FILES if name in names]
    is_other = any(name.startswith("input.") and name not in _OF_FILES for name in names)
    explained = of_files if is_other else of_files[1:]
    return [name for name in names if not name.endswith(".operation") and name not in explained] or names


def _sentence(name: str, old: Any, new: Any, files: Sequence[str]) -> str:
    # A run file of an earlier version may tell nothing of files.
    are_of_files = name in _OF_FILES[1:] and old is not None and len(old) == len(new) == len(files)
    if are_of_files and name.endswith(_SIZES):
        return f"files of the input have another size: {_files(old, new, files, _size)}"
    if are_of_files:
        return f"files of the input were changed or copied since: {_files(old, new, files, _moment)}"
    why = " (the input's metadata were changed)" if name == "input.identity" else ""
    return f"{name} was {_shown(old)} and is {_shown(new)}{why}"


def _files(old: list[Any], new: list[Any], files: Sequence[str], shown: Callable[[Any], str]) -> str:
    """Return how many files differ, and the first of them as it was and as it is."""
    changed = [position for position, file in enumerate(files) if old[position] != new[position]]
    first = f"{files[changed[0]]}: {shown(old[changed[0]])}, now {shown(new[changed[0]])}"
    return first if len(files) == 1 else f"{len(changed)} of the {len(files)} files looked at, the first {first}"


def _size(size_bytes: int | None) -> str:
    return "not there" if size_bytes is None else f"{size_bytes:,} bytes"


def _moment(changed_ns: int | None) -> str:
    if changed_ns is None:
        return "not there"
    return f"of {datetime.fromtimestamp(changed_ns / 1e9, UTC).astimezone().isoformat(' ', 'milliseconds')}"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for position, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{position}]")
    else:
        yield name, value


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
