"""What an image is, as plain text for a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convolume.lengths import Length
from convolume.report.wording import WIDTH, bytes_text, counted, document, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convolume.image import Axis, ImageInfo
    from convolume.inspection import ImageReport, RunTrace, Validation
    from convolume.report.wording import Rows

__all__ = ["image_text"]

# One screen: of what there may be many, the first are shown.
_MOST = 6
# What says nothing of how chunks are encoded to a person.
_TOLD_ELSEWHERE = {"id", "name", "configuration", "typesize", "blocksize", "astype"}
_SHUFFLES = {-1: "automatic shuffle", 0: "no shuffle", 1: "shuffle", 2: "bitshuffle", "noshuffle": "no shuffle"}


def image_text(report: ImageReport, width: int = WIDTH) -> str:
    """Return what an image is, at most `width` columns wide but for paths.

    Parameters
    ----------
    report : ImageReport
        From ``convolume.inspect``.
    width : int
        Columns.
    """
    image = report.image
    rows: Rows = [
        ("format", [_format_line(report)]),
        ("image", [_image_line(image), f"{image.size_voxels:,} voxels, {bytes_text(image.size_bytes)} uncompressed"]),
        ("voxel", _voxel_lines(image)),
        *_row("channels", _shortened(list(_channel_lines(report)))),
        *_row("levels", _level_lines(report)),
        *_row("chunks", [_chunks_line(image)] if image.chunks else []),
        *_row(
            "codecs", [", ".join(map(_codec_text, _encoding(report.codecs))) or "none"] if report.zarr_format else []
        ),
    ]
    rest: Rows = [(key, _shortened(list(_fact_lines(value)))) for key, value in report.metadata.items()]
    rest += _run_rows(report.run) if report.run else []
    rest += [("valid", _validation_lines(report.validation))] if report.validation else []
    return document(report.path, rows, rest, image.notes, width)


def _row(label: str, lines: list[str]) -> Rows:
    return [(label, lines)] if lines else []


def _shortened(lines: list[str]) -> list[str]:
    """Return the first of many lines, and how many more there are."""
    if len(lines) <= _MOST:
        return lines
    return [*lines[: _MOST - 1], f"and {len(lines) - _MOST + 1} more: --json tells all"]


def _format_line(report: ImageReport) -> str:
    ome = f"OME-Zarr {report.ome_version}" if report.ome_version else ""
    facts = [ome, f"Zarr v{report.zarr_format}" if report.zarr_format else ""]
    return ", ".join(filter(None, [report.format, *facts]))


def _image_line(image: ImageInfo) -> str:
    return f"{shape_text(image.shape)} voxels ({', '.join(axis.name for axis in image.axes)}), {image.dtype}"


def _voxel_lines(image: ImageInfo) -> list[str]:
    placed = [axis for axis in image.axes if axis.kind != "channel"]
    if all(axis.unit is None and axis.spacing == 1 for axis in placed):
        return ["of a size that is not told"]
    lines = [", ".join(_length_text(axis, axis.spacing) for axis in placed)]
    moved = [axis for axis in placed if axis.translation]
    return lines + ([f"the first at {', '.join(_length_text(a, a.translation) for a in moved)}"] if moved else [])


def _length_text(axis: Axis, value: float) -> str:
    return f"{axis.name} {Length(float(f'{value:.6g}'), axis.unit or '')}"


def _channel_lines(report: ImageReport) -> Iterator[str]:
    for channel, window in zip(report.image.channels, report.windows_of_channels, strict=True):
        low, high, start, end = (f"{value:.6g}" for value in window or (0, 0, 0, 0))
        shown = f", shown from {start} to {end} of {low} to {high}" if window else ""
        yield f"{channel.name}, #{channel.color}{shown}"


def _level_lines(report: ImageReport) -> list[str]:
    if len(report.levels) == 1 and report.path in report.levels:
        return []
    cells = [_level_cells(path.removeprefix(f"{report.path}/"), level) for path, level in report.levels.items()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ([cell.ljust(size) for cell, size in zip(row, widths, strict=True)] for row in cells)
    return _shortened(["  ".join(row).rstrip() for row in padded])


def _level_cells(name: str, level: ImageInfo) -> tuple[str, ...]:
    space = [level.axes[axis] for axis in level.space_axes]
    is_told = any(axis.unit or axis.spacing != 1 for axis in space)
    voxel = ", ".join(_length_text(axis, axis.spacing) for axis in space)
    return name, shape_text(level.shape), bytes_text(level.size_bytes), voxel if is_told else ""


def _chunks_line(image: ImageInfo) -> str:
    shards = f" in shards of {shape_text(image.shards)}" if image.shards else ""
    return f"{shape_text(image.chunks or ())}{shards}"


def _encoding(codecs: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the codecs of chunks: those inside of shards, where there are some."""
    inside = [codec["configuration"]["codecs"] for codec in codecs if codec.get("name") == "sharding_indexed"]
    return inside[0] if inside else codecs


def _codec_text(codec: Mapping[str, Any]) -> str:
    """Return a codec of Zarr v3, or of v2, with its settings.

    Examples
    --------
    >>> _codec_text({"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0})
    'blosc (lz4, level 5, shuffle)'
    >>> _codec_text({"name": "bytes", "configuration": {"endian": "little"}})
    'bytes (little)'
    """
    name, settings = str(codec.get("name") or codec.get("id")), codec.get("configuration") or codec
    told = [_setting_text(key, value) for key, value in settings.items() if key not in _TOLD_ELSEWHERE]
    return f"{name} ({', '.join(filter(None, told))})" if any(told) else name


def _setting_text(key: str, value: Any) -> str:
    if key in {"cname", "endian"}:
        return str(value)
    if key == "shuffle":
        return str(_SHUFFLES.get(value, value))
    if isinstance(value, bool):
        return key if value else ""
    return f"{'level' if key == 'clevel' else key} {value}"


def _fact_lines(value: Any) -> Iterator[str]:
    """Yield what a format carries: single values on one line, then matrices, each of their rows on its own."""
    facts = value if isinstance(value, Mapping) else {"": value}
    matrices = {key: fact for key, fact in facts.items() if _is_matrix(fact)}
    if single := [f"{key} {fact}".strip() for key, fact in facts.items() if key not in matrices]:
        yield ", ".join(single)
    for key, matrix in matrices.items():
        yield f"{key}:"
        yield from (f"  {' '.join(map(_number_text, row))}" for row in matrix)


def _is_matrix(fact: Any) -> bool:
    return isinstance(fact, (list, tuple)) and bool(fact) and all(isinstance(row, (list, tuple)) for row in fact)


def _number_text(value: Any) -> str:
    return f"{value:8.4g}" if isinstance(value, (int, float)) else str(value)


def _run_rows(run: RunTrace) -> Rows:
    version, device = run.provenance.get("versions", {}).get("convolume"), run.provenance.get("device")
    writer = f"convolume{f' {version}' if version else ''}{f', on {device}' if device else ''}"
    made = "by unknown steps" if run.steps is None else ", then ".join(run.steps) or "a copy"
    source = run.provenance.get("input", {}).get("path") or "an unknown input"
    rows: Rows = [("writer", [writer]), ("made", [f"{made} of {source}"])]
    if run.state != "finished":
        rows.append(("state", [f"{_STATES[run.state]}; {run.written_share:.0%} of its voxels are written"]))
    return rows


_STATES = {
    "unfinished": "not finished, and no image yet: run its workflow again, and it goes on",
    "being written": "not finished: a run is writing it at this moment",
}


def _validation_lines(validation: Validation) -> list[str]:
    if not validation.complaints:
        return [f"yes: {validation.standard} ({validation.validator})"]
    found = f"no: {validation.validator} has {counted(len(validation.complaints), 'complaint')}"
    return [found, *_shortened(list(validation.complaints))]
