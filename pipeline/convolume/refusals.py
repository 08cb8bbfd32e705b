"""What is refused before anything is written, because the run could only fail later or destroy something."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolume import stores
from convolume.errors import InputError
from convolume.planning.document import dotted
from convolume.report.figures import check_figure

if TYPE_CHECKING:
    from collections.abc import Callable

    from convolume.planning.earlier import Chosen
    from convolume.planning.models import Workflow
    from convolume.planning.spec import Document
    from convolume.stores import Sink, Source

__all__ = ["blamed_key", "check_apart", "check_disk", "check_figures", "check_process_border"]


def blamed_key(
    keys: tuple[str, ...],
    options: stores.SourceOptions | stores.SinkOptions,
    take: Callable[[Any], object],
) -> str:
    """Return the first of the keys without which the options are taken; ``path`` where they never are."""
    usual = type(options)()
    for key in keys:
        options = replace(options, **{key: getattr(usual, key)})
        try:
            take(options)
        except InputError:
            continue
        return key
    return "path"


def check_process_border(path: str, *, reachable: bool) -> None:
    """Refuse what is kept in this process where the workers are others."""
    if not reachable:
        message = f"{path} lives in this process, and workers of another process cannot reach it: `cluster: in_process`"
        raise InputError(message)


def check_apart(document: Document[Workflow], sinks: tuple[Sink, ...]) -> None:
    """Refuse outputs and figures that would destroy each other, however their paths are spelled."""
    workflow = document.model
    places: list[tuple[tuple[str | int, ...], str]] = [(("input",), workflow.input.path)]
    places += [(("outputs", name), sink.path) for name, sink in zip(workflow.outputs, sinks, strict=True)]
    places += [(("figures", position), figure.path) for position, figure in enumerate(workflow.figures)]
    for (owner, other), (place, path) in combinations(places, 2):
        if (reason := stores.same_or_nested(other, path)) is not None:
            with document.at(*place, "path"):
                reason = reason.replace("the input", dotted(owner))
                message = f"{path}: {reason}: each needs a place of its own; choose another path"
                raise InputError(message)


def check_disk(document: Document[Workflow], sinks: tuple[Sink, ...], chosen: Chosen) -> None:
    """Refuse outputs that do not fit beside each other, as if nothing could be compressed.

    Of what is resumed a part is there already: it is not counted.
    """
    needed = 0
    for name, sink in zip(document.model.outputs, sinks, strict=True):
        if sink.crosses_processes and chosen.if_exists.get(name) != "resume":
            needed += sink.disk_bytes
            with document.at("outputs", name, "path"):
                stores.check_disk_space(sink.path, needed)


def check_figures(document: Document[Workflow], source: Source, sinks: tuple[Sink, ...]) -> None:
    """Refuse figures that could not be drawn at the end."""
    images = {name: sink.levels[0] for name, sink in zip(document.model.outputs, sinks, strict=True)}
    for position, figure in enumerate(document.model.figures):
        with document.at("figures", position):
            check_figure(figure, {"input": source.info, **images})
        with document.at("figures", position, "path"):
            stores.check_creatable(figure.path)
            if Path(figure.path).is_dir():
                message = f"{figure.path}: is a folder; write the name of a file, such as {figure.path}/figure.png"
                raise InputError(message)
