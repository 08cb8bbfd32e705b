"""What the voxels of a run's outputs depend on: two runs with the same fingerprint are attempts at one."""

from __future__ import annotations

import json
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume.execution.task import identity_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.preparation import Prepared

__all__ = ["differences", "fingerprint"]

_LONGEST_VALUE = 200


def fingerprint(prepared: Prepared) -> dict[str, Any]:
    """Return everything that the voxels of a run's outputs depend on, JSON-like, for people to compare."""
    workflow, plan, job = prepared.document.model, prepared.plan, prepared.job
    outputs = {}
    for target, planned, sink in zip(job.blocks.targets, plan.outputs, job.sinks, strict=True):
        steps = workflow.outputs[target.name].steps
        outputs[target.name] = {
            "steps": [{step.name: step.filter.model_dump()} for step in steps],
            "overflow": target.overflow,
            "operation": blake2b(repr(target.operation).encode(), digest_size=16).hexdigest(),
            "dtype": target.dtype,
            "methods": [choice.name for choice in planned.methods],
            "chunks": planned.chunks,
            "shards": planned.shards,
            "levels": [level.shape for level in sink.levels],
        }
    values = {
        "program": f"convolume {version('convolume')}",
        "input": {
            **workflow.input.model_dump(),
            "path": str(Path(job.source.path).absolute()) if job.source.crosses_processes else job.source.path,
            "identity": identity_of(job.source),
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


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what differs between two fingerprints, a sentence each.

    Examples
    --------
    >>> differences({"block": [64, 64], "cval": 0.0}, {"block": [64, 32], "cval": 0.0})
    ['block was [64, 64] and is [64, 32]']
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    # A digest tells people nothing where something else explains it.
    told = [name for name in names if not name.endswith(".operation")] or names
    return [f"{name} was {_shown(old.get(name))} and is {_shown(new.get(name))}" for name in told]


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
