"""What is done when all voxels are written: images become visible, figures are drawn, and it is told what came out."""

from __future__ import annotations

import platform
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from convolume import stores
from convolume.errors import InputError
from convolume.execution.patience import errors_at, patiently
from convolume.execution.pyramid import display_windows
from convolume.execution.task import identity_of
from convolume.planning.spec import to_yaml
from convolume.preparation import source_options
from convolume.records import OutputRecord

if TYPE_CHECKING:
    from convolume.execution.totals import BlockTotals
    from convolume.preparation import Prepared
    from convolume.records import Measurement
    from convolume.report.measurements import Level
    from convolume.report.progress import Progress

__all__ = ["draw_figures", "finish_outputs", "measurements", "output_records", "versions"]

_RECORDED_PACKAGES = ("convolume", "dask", "distributed", "numpy", "pyopencl", "scipy", "tensorstore", "zarr")


def finish_outputs(prepared: Prepared, totals: BlockTotals, progress: Progress) -> None:
    """Make every output visible, with where it comes from and a display window for each channel."""
    if steps := sum(sink.finish_steps for sink in prepared.sinks.values()):
        progress.phase("file", steps)
    source = prepared.job.source
    provenance = {
        "workflow": to_yaml(prepared.document.model),
        "plan": prepared.plan.as_dict(),
        "versions": versions(),
        "device": prepared.plan.device.name,
        "input": {"path": source.path, "identity": str(identity_of(source)), **source.metadata},
    }
    for position, (name, sink) in enumerate(prepared.sinks.items()):
        with errors_at(f"output {name!r} ({sink.path}), at its end"):
            windows = display_windows(sink, *totals.value_range(position))
            patiently(sink.path, "cannot be finished", partial(sink.finish, provenance, windows, progress.advance))


def output_records(prepared: Prepared, totals: BlockTotals) -> tuple[OutputRecord, ...]:
    """Return every output as it was written."""
    outputs = []
    for position, planned in enumerate(prepared.plan.outputs):
        smallest, largest = totals.value_range(position)
        outputs.append(
            OutputRecord(
                name=planned.name,
                path=planned.path,
                shape=prepared.plan.input_shape,
                dtype=planned.dtype,
                levels=len(planned.level_shapes),
                minimum=smallest,
                maximum=largest,
            )
        )
    return tuple(outputs)


def draw_figures(prepared: Prepared) -> tuple[str, ...]:
    """Draw the workflow's figures from the finished outputs; return their paths."""
    workflow = prepared.document.model
    if not workflow.figures:
        return ()
    from convolume.report.figures import draw_figure  # noqa: PLC0415

    images = {name: stores.open_source(sink.path) for name, sink in prepared.sinks.items()}
    images["input"] = prepared.job.source
    counted = {panel.image for figure in workflow.figures for panel in figure.panels if panel.show == "histogram"}
    levels = {image: _fitting_level(prepared, image) for image in sorted(counted)}
    for figure in workflow.figures:
        draw_figure(figure, figure.path, images, levels)
    return tuple(figure.path for figure in workflow.figures)


def measurements(prepared: Prepared) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    """Return what was measured of input and outputs, where the workflow asks for it, and what could not be."""
    if not prepared.document.model.measure:
        return (), ()
    from convolume.report.measurements import measure  # noqa: PLC0415

    measured: list[Measurement] = []
    notes = []
    for image in ("input", *prepared.sinks):
        try:
            measured += measure(image, _fitting_level(prepared, image))
        except InputError as error:
            # The outputs are written: a run does not fail for want of a line in its summary.
            notes.append(str(error))
    return tuple(measured), tuple(notes)


def _fitting_level(prepared: Prepared, image: str) -> Level:
    """Return the level of an image that is quickly measured."""
    from convolume.report.measurements import Level, fitting_level  # noqa: PLC0415

    if image != "input":
        path = prepared.sinks[image].path
        return fitting_level(lambda number: stores.open_source(path, stores.SourceOptions(level=number)))
    source, options = prepared.job.source, source_options(prepared.document.model)
    if options.region:
        # A region is counted in voxels of its own level.
        return Level(options.level, source)
    return fitting_level(lambda number: stores.open_source(source.path, replace(options, level=number)), options.level)


@cache
def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _RECORDED_PACKAGES}}
