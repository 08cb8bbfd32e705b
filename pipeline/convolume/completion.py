"""What is done when all voxels are written: images become visible, figures are drawn, and it is told what came out."""

from __future__ import annotations

import platform
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from convolume import stores
from convolume.execution.patience import errors_at, patiently
from convolume.execution.pyramid import display_windows
from convolume.execution.task import identity_of
from convolume.planning.spec import to_yaml
from convolume.records import OutputRecord

if TYPE_CHECKING:
    from convolume.execution.totals import BlockTotals
    from convolume.preparation import Prepared

__all__ = ["draw_figures", "finish_outputs", "output_records", "versions"]

_RECORDED_PACKAGES = ("convolume", "dask", "distributed", "numpy", "pyopencl", "scipy", "tensorstore", "zarr")


def finish_outputs(prepared: Prepared, totals: BlockTotals) -> None:
    """Make every output visible, with where it comes from and a display window for each channel."""
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
            patiently(sink.path, "cannot be finished", partial(sink.finish, provenance, windows))


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
    for figure in workflow.figures:
        draw_figure(figure, figure.path, images)
    return tuple(figure.path for figure in workflow.figures)


@cache
def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _RECORDED_PACKAGES}}
