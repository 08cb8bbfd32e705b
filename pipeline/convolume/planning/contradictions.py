"""Where the parts of a workflow or a configuration contradict each other, told of models and of raw mappings alike."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from convolume.addresses import LOOPBACK
from convolume.errors import did_you_mean

__all__ = ["STANDING", "Contradiction", "contradictions", "contradictions_of_config"]

Contradiction = tuple[tuple[str | int, ...], str]

INPUT_PANEL = "input"
# The kind of cluster that joins a scheduler of others.
STANDING = "address"

_SUCH_AS = "tcp://node7:8786"
# What the processes of a run's own cluster are started with; the values are those of nothing written.
_OF_OWN_PROCESSES: dict[str, Any] = {
    "workers": None,
    "threads_per_worker": None,
    "memory": None,
    "dashboard": True,
    "insecure": False,
    "host": LOOPBACK,
}

_OUTPUT_NAME = re.compile(r"\w[\w -]*")


def contradictions(workflow: Any) -> Iterator[Contradiction]:
    """Yield where the parts of a workflow contradict each other, and how.

    Parameters
    ----------
    workflow : Workflow or mapping
        A mapping may be wrong in any other way, which is not told here.
    """
    outputs = _part(workflow, "outputs")
    outputs = outputs if isinstance(outputs, Mapping) else {}
    yield from _bad_names(outputs)
    yield from _shared_paths(workflow, outputs)
    for (figure, panel), image in _panel_images(workflow):
        known = [INPUT_PANEL, *outputs]
        if isinstance(image, str) and image not in known:
            message = f"there is no output {image!r}{did_you_mean(image, known)} (there are: {', '.join(known)})"
            yield ("figures", figure, "panels", panel), message


def contradictions_of_config(config: Any) -> Iterator[Contradiction]:
    """Yield where the parts of a configuration contradict each other, and how; see `contradictions`."""
    scheduler, tls = _part(config, "scheduler"), _part(config, "tls")
    if _part(config, "cluster") != STANDING:
        if scheduler is not None:
            yield ("scheduler",), f"a scheduler that runs already is joined by `cluster: {STANDING}`; write it, too"
        return
    if scheduler is None:
        yield ("cluster",), f"{STANDING} joins a Dask scheduler that runs already: say which (`scheduler: {_SUCH_AS}`)"
    for key, default in _OF_OWN_PROCESSES.items():
        if _part(config, key) not in (None, default):
            yield (
                (key,),
                f"is for processes that a run starts; those of `cluster: {STANDING}` run already: leave it out",
            )
    if not isinstance(scheduler, str):
        return
    if tls is None and scheduler.startswith("tls:"):
        yield ("scheduler",), "tls:// needs certificates: give them (`tls: {ca: …, cert: …, key: …}`)"
    if tls is not None and scheduler.startswith("tcp:"):
        yield ("tls",), "tcp:// takes no certificates: write tls:// in `scheduler`, or leave `tls` out"


def _bad_names(outputs: Mapping[Any, Any]) -> Iterator[Contradiction]:
    for name in outputs:
        if name == INPUT_PANEL:
            yield ("outputs", name), f"an output cannot be called {INPUT_PANEL!r}: figures use it for the input"
        elif not _OUTPUT_NAME.fullmatch(name):
            yield ("outputs", name), f"{name!r} is not a name: use letters, digits, spaces, '-' and '_'"


def _shared_paths(workflow: Any, outputs: Mapping[Any, Any]) -> Iterator[Contradiction]:
    writers = [("outputs", name, output) for name, output in outputs.items()]
    figures = _part(workflow, "figures")
    if isinstance(figures, (list, tuple)):
        writers += [("figures", i, figure) for i, figure in enumerate(figures)]
    taken = {_same_path(_part(_part(workflow, "input"), "path")): "the input"}
    for family, name, thing in writers:
        path = _part(thing, "path")
        owner = taken.setdefault(_same_path(path), f"{family}{f'[{name}]' if isinstance(name, int) else f'.{name}'}")
        if isinstance(path, str) and owner not in {f"{family}[{name}]", f"{family}.{name}"}:
            yield (family, name, "path"), f"{path} is the path of {owner} too: each needs its own"


def _same_path(path: Any) -> Any:
    return os.path.normpath(path) if isinstance(path, str) else None


def _panel_images(workflow: Any) -> Iterator[tuple[tuple[int, int], Any]]:
    figures = _part(workflow, "figures")
    for i, figure in enumerate(figures if isinstance(figures, (list, tuple)) else ()):
        panels = _part(figure, "panels")
        for j, panel in enumerate(panels if isinstance(panels, (list, tuple)) else ()):
            yield (i, j), panel if isinstance(panel, str) else _part(panel, "image")


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name, None)
