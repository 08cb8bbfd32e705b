"""``convolume convert``: the workflow whose one output is a copy, and its mistakes in the words of the command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Options", "conversion", "in_words_of_convert"]

OUTPUT = "image"
"""What the workflow calls its output: ``--set outputs.image.dtype=uint8``."""

_HEADING = re.compile(r"1 mistake in the workflow:\n|(?<= mistakes) in the workflow(?=:\n)")
# What a mistake says of the workflow, and what the command's user wrote or could write.
_WORDS = {
    "input.path": "",
    **{f"input.{name}": f"--{name}: " for name in ("dataset", "channel", "time", "axes", "spacing")},
    f"outputs.{OUTPUT}.path": "",
    f"outputs.{OUTPUT}.chunks": "--chunks: ",
}
_KEY = re.compile(rf"^({'|'.join(map(re.escape, _WORDS))}): ", re.MULTILINE)
_DTYPE = re.compile(r"give the output `dtype: (\w+)`")
_SETTINGS = {
    "such as `dataset: ": "such as `--dataset ",
    "`if_exists: overwrite`": "`--overwrite`",
    "write `missing: fill`": "write `--set input.missing=fill`",
}


class Options(TypedDict, total=False):
    """What may be said of a conversion beside its paths; the command's options."""

    channel: str | None
    """The one channel that is taken, by position or name."""
    dataset: str | None
    """The array that is taken, where a file holds several."""
    time: int | None
    """The one time point that is taken."""
    axes: str | None
    """Names of the input's axes, such as ``zyx``."""
    spacing: Sequence[str]
    """The input's voxel size, such as ``0.5 um``: one for all space axes, or one for each."""
    chunks: tuple[int, ...] | None
    """Extents of the output's chunks in voxels, one for each axis."""
    overwrite: bool
    """Whether an image that is there is replaced."""


def conversion(source: str, target: str, **options: Unpack[Options]) -> dict[str, Any]:
    """Return the workflow that copies an image, or a part of it, with its dtype, voxel for voxel.

    Parameters
    ----------
    source, target : str
        Paths; what stands in them is taken as it is.
    **options
        See `Options`.

    Examples
    --------
    >>> conversion("a.tif", "a.ome.zarr", spacing=["0.5 um"])["outputs"]
    {'image': {'path': 'a.ome.zarr'}}
    """
    channel, spacing = options.get("channel"), list(options.get("spacing") or ())
    read = {
        "channel": int(channel) if channel is not None and channel.isdecimal() else channel,
        "dataset": options.get("dataset"),
        "time": options.get("time"),
        "axes": options.get("axes"),
        "spacing": spacing[0] if len(spacing) == 1 else spacing or None,
    }
    stored = {"chunks": options.get("chunks"), "if_exists": "overwrite" if options.get("overwrite") else None}
    return {
        "name": f"conversion of {Path(source).name or source}",
        "input": {"path": _literal(source), **_without_none(read)},
        "outputs": {OUTPUT: {"path": _literal(target), **_without_none(stored)}},
    }


def in_words_of_convert(message: str) -> str:
    r"""Return the message of an error, with options in the place of a workflow's keys.

    Examples
    --------
    >>> in_words_of_convert("1 mistake in the workflow:\ninput.channel: a.zarr: there is no channel 'x'")
    "--channel: a.zarr: there is no channel 'x'"
    """
    message = _HEADING.sub("", message)
    message = _KEY.sub(lambda match: _WORDS[match[1]], message)
    message = _DTYPE.sub(rf"give `--set outputs.{OUTPUT}.dtype=\1`", message)
    for key, option in _SETTINGS.items():
        message = message.replace(key, option)
    return message


def _literal(path: str) -> str:
    """Return a path as a workflow writes it: the shell has replaced variables already, and what is left is meant."""
    return path.replace("$", "$$")


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
