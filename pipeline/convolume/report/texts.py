"""The plan, the summary of a run and the devices as plain text for a terminal or a pipe."""

from __future__ import annotations

from itertools import groupby
from math import isfinite
from typing import TYPE_CHECKING

from convolume.report.wording import (
    NARROWEST,
    WIDTH,
    bytes_text,
    counted,
    document,
    halo_text,
    labelled,
    large,
    printable,
    seconds_text,
    shape_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from convolume.devices._selection import DeviceChoice
    from convolume.planning.blocks import BlockOption
    from convolume.planning.method import MethodChoice
    from convolume.planning.plan import Plan, PlannedOutput, SharedSteps
    from convolume.records import DeviceInfo, Forecast, Measurement, OutputRecord, RunRecord, VariantRecord
    from convolume.report.wording import Rows

__all__ = ["devices_text", "plan_text", "summary", "tuning_text"]


def plan_text(plan: Plan, width: int = WIDTH) -> str:
    """Return what a run would do, at most `width` columns wide but for paths.

    Parameters
    ----------
    plan : Plan
        From ``convolume.plan`` or a `Progress`.
    width : int
        Columns.
    """
    rows: Rows = [
        ("input", [plan.input_path, _input_line(plan)]),
        ("blocks", [_blocks_line(plan), f"because: {plan.block_reason}", *map(_option_line, plan.block_rejected)]),
        ("strategy", _chosen(plan.strategy.name, plan.strategy.reason, plan.strategy.rejected)),
        *([("shared", list(map(_shared_line, plan.shared)))] if plan.shared else []),
        ("reads", _reads_lines(plan)),
        ("writes", [f"{bytes_text(plan.bytes_written)} before compression, pyramids included"]),
        ("memory", _memory_lines(plan)),
        ("time", _time_lines(plan)),
        ("numbers", [_numbers_line(plan)]),
        ("cluster", [_cluster_line(plan)]),
        ("device", [_device_line(plan.device), f"because: {plan.device_reason}"]),
    ]
    outputs: Rows = [(output.name, _planned_lines(output, plan.axes)) for output in plan.outputs]
    heading = f"plan of {plan.workflow}; it writes nothing" if plan.workflow else "plan; it writes nothing"
    return document(heading, rows, outputs, plan.notes, width)


def summary(record: RunRecord, width: int = WIDTH) -> str:
    """Return what a finished run wrote where, on what, and how long it took."""
    rest = max(0.0, record.seconds_total - record.seconds_blocks - record.seconds_pyramid)
    rows: Rows = [
        *((output.name, _written_lines(output)) for output in record.outputs),
        *(("figure", [path]) for path in record.figures),
    ]
    times = (
        f"{seconds_text(record.seconds_total)}: blocks {seconds_text(record.seconds_blocks)}, "
        f"pyramid {seconds_text(record.seconds_pyramid)}, everything else {seconds_text(rest)}"
    )
    speed = f"{large(record.voxels_per_second)} output voxels/s, the pyramid not counted"
    facts: Rows = [
        ("device", list(record.devices) or ["none"]),
        ("strategy", [f"{record.strategy}, {counted(record.block_count, 'block')}"]),
        ("time", [times]),
        *([("speed", [speed])] if record.voxels_per_second else []),
        ("moved", [f"{bytes_text(record.bytes_read)} read, {bytes_text(record.bytes_written)} written"]),
        *([("forecast", _forecast_lines(record, record.forecast))] if record.forecast else []),
        *([("measured", list(map(_measured_line, record.measurements)))] if record.measurements else []),
    ]
    heading = f"done: {record.workflow}" if record.workflow else "done"
    return document(heading, rows, facts, record.notes, width)


def devices_text(devices: Sequence[DeviceInfo], choice: DeviceChoice | None, width: int = WIDTH) -> str:
    """Return a table of devices, an asterisk at the one that would be taken, and why.

    Parameters
    ----------
    devices : sequence of DeviceInfo
        All there are.
    choice : DeviceChoice, optional
        What would be taken; without it only the table is returned.
    width : int
        Columns.
    """
    head = ("kind", "units", "memory", "float64", "backend", "platform, driver")
    cells = [head, *map(_cells, devices)]
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:-1]]
    lines: list[str] = []
    for row, device in zip(cells, (None, *devices), strict=True):
        if device:
            is_taken = choice is not None and choice.info.identifier == device.identifier
            lines += ["", f"{'*' if is_taken else ' '} {printable(device.name)}"]
        start = "  " + "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=False))
        lines += labelled(start, [row[-1]], len(start) + 2, max(width, len(start) + 30))
    if choice:
        reasons = [choice.reason, *(f"not {name}: {why}" for name, why in choice.rejected)]
        lines += ["", *labelled("taken", [choice.info.name, *reasons], NARROWEST, width)]
    return "\n".join(lines)


def tuning_text(device: DeviceInfo, records: Sequence[VariantRecord]) -> str:
    """Return a table of the shapes of programs that were timed, an asterisk at each that is taken.

    Parameters
    ----------
    device : DeviceInfo
        The device.
    records : sequence of VariantRecord
        Kind of stencils by kind of stencils.
    """
    if not records:
        return printable(f"{device.name}: its programs have one shape, there is nothing to time")
    longest = max(len(record.variant) for record in records)
    lines = [printable(device.name)]
    for stencil, group in groupby(records, key=lambda record: record.stencil):
        lines += ["", stencil]
        for record in group:
            found = f"skipped: {printable(record.skipped)}" if record.skipped else f"{record.gflops:6.0f} GFLOP/s"
            lines.append(f"{'*' if record.is_chosen else ' '} {record.variant:{longest}}  {found}")
    return "\n".join(lines)


def _input_line(plan: Plan) -> str:
    return f"{shape_text(plan.input_shape)} voxels ({', '.join(plan.axes)}), {plan.input_dtype}"


def _numbers_line(plan: Plan) -> str:
    if not any(output.steps for output in plan.outputs):
        return "no sums: voxels are copied"
    return f"{plan.precision} precision: sums are kept in {plan.working_dtype}"


def _blocks_line(plan: Plan) -> str:
    return f"{counted(plan.block_count, 'block')} of {shape_text(plan.block_shape_voxels)} voxels"


def _option_line(option: BlockOption) -> str:
    size = f"{bytes_text(option.peak_host_bytes)} in a worker"
    return f"not {shape_text(option.shape)}: {seconds_text(option.seconds)}, {size}"


def _reads_lines(plan: Plan) -> list[str]:
    lines = [f"{bytes_text(plan.bytes_read)}, an average voxel {plan.read_amplification:.3g} times"]
    if plan.bytes_decoded != plan.bytes_read:
        kept = f"{bytes_text(plan.cache_bytes)} of chunks are kept" if plan.cache_bytes else "no chunks are kept"
        lines.append(
            f"{bytes_text(plan.bytes_decoded)} decoded, {plan.decode_amplification:.3g} times the image: {kept}"
        )
    return lines


def _time_lines(plan: Plan) -> list[str]:
    tasks = counted(plan.task_count, "task")
    if plan.seconds_blocks is None or plan.seconds_pyramid is None:
        return [f"{tasks}; not predicted: {plan.time_reason}"]
    parts = f"blocks {seconds_text(plan.seconds_blocks)}, pyramid {seconds_text(plan.seconds_pyramid)}"
    total = seconds_text(plan.seconds_blocks + plan.seconds_pyramid)
    return [f"about {total} in {tasks}: {parts}", f"because: {plan.time_reason}"]


def _shared_line(shared: SharedSteps) -> str:
    steps = ", then ".join(shared.steps)
    return f"{'a part of ' if shared.is_part else ''}{steps}: once for {', '.join(shared.outputs)}"


def _chosen(name: str, reason: str, rejected: Iterable[tuple[str, str]]) -> list[str]:
    return [name, f"because: {reason}", *(f"not {other}: {why}" for other, why in rejected)]


def _memory_lines(plan: Plan) -> list[str]:
    limit = bytes_text(plan.resources.worker_memory_bytes)
    device = f"{bytes_text(plan.peak_device_bytes)} at the peak on the device for one block"
    base = bytes_text(plan.resources.worker_base_bytes)
    found = "as measured" if plan.resources.worker_base_is_measured else "as is usual"
    return [
        f"{bytes_text(plan.peak_host_bytes)} at the peak in a worker, which has {limit}",
        f"{base} of it are the process without blocks, {found}",
        device if plan.peak_device_bytes else "none on the device, which works in the worker's memory",
    ]


def _cluster_line(plan: Plan) -> str:
    resources = plan.resources
    workers, threads = counted(resources.workers, "worker"), counted(resources.threads_per_worker, "thread")
    return f"{resources.cluster}: {workers} with {threads}{'' if resources.workers == 1 else ' each'}"


def _device_line(device: DeviceInfo) -> str:
    facts = [device.backend, *([device.platform] if device.platform else [])]
    return f"{device.name} ({', '.join(facts)})"


def _planned_lines(output: PlannedOutput, axes: tuple[str, ...]) -> list[str]:
    levels = counted(len(output.level_shapes), "level")
    shards = f" in shards of {shape_text(output.shards)}" if output.shards else ""
    return [
        output.path,
        f"{', then '.join(output.steps) or 'a copy'}; {halo_text(output.halo_voxels, axes)}",
        f"{output.dtype}, {levels}, {bytes_text(output.bytes_written)}",
        f"{_gathered(output)}chunks of {shape_text(output.chunks)}{shards}",
        *(line for choice in output.methods for line in _method_lines(choice)),
    ]


def _gathered(output: PlannedOutput) -> str:
    """Say of an output that is one file where its blocks are meanwhile."""
    if output.disk_bytes == output.bytes_written:
        return ""
    return f"one file, up to {bytes_text(output.disk_bytes)} on the disk meanwhile; gathered in "


def _method_lines(choice: MethodChoice) -> list[str]:
    chosen, *reasons = _chosen(choice.name, choice.reason, choice.rejected)
    return [f"{shape_text(choice.kernel_shape)} weights: {chosen}", *reasons]


def _written_lines(output: OutputRecord) -> list[str]:
    levels = counted(output.levels, "level")
    return [
        output.path,
        f"{shape_text(output.shape)} {output.dtype}, {levels}, {_range_text(output.minimum, output.maximum)}",
    ]


def _forecast_lines(record: RunRecord, forecast: Forecast) -> list[str]:
    """Return what the plan said, beside what came of it."""
    lines = []
    for name, said, took in (
        ("blocks", forecast.seconds_blocks, record.seconds_blocks),
        ("pyramid", forecast.seconds_pyramid, record.seconds_pyramid),
    ):
        lines += [f"{name}: {seconds_text(said)}, took {seconds_text(took)}"] if said else []
    lines += [
        f"{name}: {bytes_text(said)}, came to {bytes_text(came)}"
        for name, said, came in (
            ("read", forecast.bytes_read, record.bytes_read),
            ("written", forecast.bytes_written, record.bytes_written),
        )
        if said != came
    ] or ["read and written: as moved"]
    peak = max(record.worker_peak_bytes.values(), default=0)
    measured = f"held at most {bytes_text(peak)} ({counted(len(record.worker_peak_bytes), 'worker')})"
    lines.append(f"memory of a worker: {bytes_text(forecast.peak_host_bytes)}, {measured if peak else 'not measured'}")
    return lines


def _measured_line(measurement: Measurement) -> str:
    channel = f", {measurement.channel}" if measurement.channel else ""
    level = f", level {measurement.level} of {shape_text(measurement.shape)}" if measurement.level else ""
    values = _range_text(measurement.minimum, measurement.maximum)
    if isfinite(measurement.mean):
        values += f", mean {measurement.mean:.6g}, deviation {measurement.deviation:.6g}"
    return f"{measurement.image}{channel}{level}: {values}"


def _range_text(minimum: float, maximum: float) -> str:
    if not isfinite(minimum) and not isfinite(maximum):
        return "no finite values"
    return f"values {minimum:.6g} to {maximum:.6g}"


def _cells(device: DeviceInfo) -> tuple[str, ...]:
    return (
        device.kind,
        str(device.compute_units),
        bytes_text(device.memory_bytes) if device.memory_bytes else "-",
        "yes" if device.has_float64 else "no",
        device.backend,
        ", ".join(filter(None, (device.platform, device.driver))),
    )
