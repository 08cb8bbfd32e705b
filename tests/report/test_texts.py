"""The plan, the summary and the devices as text."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convolume.devices._selection import DeviceChoice
from convolume.planning.method import MethodChoice
from convolume.planning.plan import SharedSteps
from convolume.records import DeviceInfo, Forecast
from convolume.report.texts import devices_text, plan_text, summary

if TYPE_CHECKING:
    from convolume.planning.plan import Plan
    from convolume.records import RunRecord


def section(text: str, label: str) -> str:
    """Return the paragraph of a label as one line."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.split("  ")[0] == label)
    last = next((i for i in range(first + 1, len(lines)) if not lines[i].startswith("    ")), len(lines))
    return " ".join(" ".join(lines[first:last]).split()).removeprefix(label).strip()


def test_a_plan_of_copies_speaks_of_no_sums(plan: Plan) -> None:
    """Nothing is computed."""
    copies = replace(plan, outputs=tuple(output for output in plan.outputs if not output.steps))
    assert section(plan_text(copies), "numbers") == "no sums: voxels are copied"


def test_a_plan_tells_all_that_a_run_would_do(plan: Plan) -> None:
    """Paragraph by paragraph."""
    text = plan_text(plan)
    assert text.splitlines()[0] == "plan of convolution tour; it writes nothing"
    assert section(text, "input") == "sample:mni152-t1 189 x 233 x 197 voxels (z, y, x), uint8"
    assert section(text, "blocks") == (
        "8 blocks of 128 x 128 x 128 voxels because: 1 shard of the outputs not 128 x 256 x 256: 1 min 05 s, 900 MiB "
        "in a worker"
    )
    assert section(text, "strategy") == (
        "windows because: the input is a store not overlap: memory grows with the volume"
    )
    assert section(text, "reads") == (
        "9.00 MiB, an average voxel 1.04 times 12.0 MiB decoded, 1.39 times the image: 4.00 MiB of chunks are kept"
    )
    assert section(text, "writes") == "64.0 MiB before compression, pyramids included"
    assert section(text, "memory") == (
        "700 MiB at the peak in a worker, which has 4.00 GiB 262 MiB of it are the process without blocks, as measured "
        "40.0 MiB at the peak on the device for one block"
    )
    assert section(text, "time") == (
        "about 1 min 04 s in 11 tasks: blocks 1 min 01 s, pyramid 2.5 s because: by measured speeds"
    )
    assert section(text, "numbers") == "single precision: sums are kept in float32"
    assert section(text, "cluster") == "local: 2 workers with 1 thread each"
    assert section(text, "device").endswith("because: the only OpenCL device (by default)")
    assert section(text, "sum").endswith(
        "convolve, then gaussian; halo y 1, x 2 before and 1 after float32, 2 levels, 32.0 MiB "
        "chunks of 64 x 64 x 64 in shards of 128 x 128 x 128"
    )
    assert "a copy; " in section(text, "copy")
    assert section(text, "note") == plan.notes[0]


def test_a_plan_tells_of_an_output_that_is_one_file(plan: Plan) -> None:
    """Its blocks are gathered first, which takes the disk twice."""
    gathered = replace(plan.outputs[0], disk_bytes=2**26)
    told = section(plan_text(replace(plan, outputs=(gathered,))), "sum")
    assert told.endswith(
        "32.0 MiB one file, up to 64.0 MiB on the disk meanwhile; gathered in chunks of 64 x 64 x 64 in shards of "
        "128 x 128 x 128"
    )


def test_a_plan_tells_what_is_done_once(plan: Plan) -> None:
    """Whole steps, and parts of steps."""
    shared = (
        SharedSteps(("gaussian", "sobel"), is_part=False, outputs=("a", "b")),
        SharedSteps(("laplace",), is_part=True, outputs=("b", "c")),
    )
    assert section(plan_text(replace(plan, shared=shared)), "shared") == (
        "gaussian, then sobel: once for a, b a part of laplace: once for b, c"
    )
    assert "shared" not in plan_text(plan)


def test_a_plan_tells_how_kernels_are_weighed_and_why(plan: Plan) -> None:
    """Below the output that they make."""
    choice = MethodChoice((9, 11, 13), "fft", "about 12 ns a voxel", (("direct", "about 99 ns a voxel"),))
    text = plan_text(replace(plan, outputs=(replace(plan.outputs[0], methods=(choice,)),)))
    told = "9 x 11 x 13 weights: fft because: about 12 ns a voxel not direct: about 99 ns a voxel"
    assert section(text, "sum").endswith(told)


def test_a_plan_that_cannot_tell_times_says_why(plan: Plan) -> None:
    """Nothing is made up."""
    untimed = replace(plan, seconds_blocks=None, seconds_pyramid=None, time_reason="the input was not probed")
    assert section(plan_text(untimed), "time") == "11 tasks; not predicted: the input was not probed"


def test_what_is_read_as_it_is_stored_is_told_once(plan: Plan) -> None:
    """Without chunks nothing is decoded."""
    raw = replace(plan, bytes_decoded=plan.bytes_read)
    assert section(plan_text(raw), "reads") == "9.00 MiB, an average voxel 1.04 times"


def test_one_worker_is_not_each(plan: Plan) -> None:
    """Grammar, with the numbers the other way round."""
    text = plan_text(replace(plan, resources=replace(plan.resources, workers=1, threads_per_worker=4)))
    assert section(text, "cluster") == "local: 1 worker with 4 threads"


def test_a_device_without_memory_of_its_own(plan: Plan) -> None:
    """Processors work in the worker's."""
    memory = section(plan_text(replace(plan, peak_device_bytes=0)), "memory")
    assert memory.endswith("blocks, as measured none on the device, which works in the worker's memory")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text(max_size=200), st.lists(st.text(max_size=120), max_size=3), st.lists(st.text(max_size=300), max_size=3))
def test_no_line_of_a_plan_is_wider_than_80_but_for_paths(
    plan: Plan, name: str, steps: list[str], notes: list[str]
) -> None:
    """Whatever names, steps, reasons and notes hold, control characters included."""
    output = replace(plan.outputs[0], name=name[:40], steps=tuple(steps))
    changed = replace(plan, workflow="w", outputs=(output,), notes=tuple(notes), block_reason=name)
    for line in plan_text(changed).splitlines():
        assert len(line) <= 80 or any(slash in line for slash in "/\\")
        assert line.isprintable()


def test_a_summary_tells_what_was_written_where_and_how_long_it_took(record: RunRecord) -> None:
    """Paragraph by paragraph; blocks, pyramid and the rest add up to the total."""
    text = summary(record)
    assert text.splitlines()[0] == "done: convolution tour"
    written = f"{record.outputs[0].path} 189 x 233 x 197 float32, 2 levels, values -12.25 to 2295"
    assert section(text, "sum") == written
    assert section(text, "figure") == "/data/figure.png"
    assert section(text, "device") == record.devices[0]
    assert section(text, "strategy") == "windows, 8 blocks"
    assert section(text, "time") == "12.3 s: blocks 8.0 s, pyramid 3.0 s, everything else 1.3 s"
    assert section(text, "speed") == "2.00 million output voxels/s, the pyramid not counted"
    assert section(text, "moved") == "9.00 MiB read, 64.0 MiB written"
    assert section(text, "note") == record.notes[0]


def test_a_summary_counts_the_speed_of_this_attempt(record: RunRecord) -> None:
    """What an earlier one had done took none of its time; where no block was left there is no speed."""
    half = replace(record, earlier_voxels=record.output_voxels // 2)
    assert section(summary(half), "speed") == "1.00 million output voxels/s, the pyramid not counted"
    assert "output voxels/s" not in summary(replace(record, earlier_voxels=record.output_voxels))


def test_a_summary_tells_what_was_forecast(record: RunRecord) -> None:
    """Beside what came of it."""
    assert section(summary(record), "forecast") == (
        "blocks: 7.5 s, took 8.0 s pyramid: 3.5 s, took 3.0 s read and written: as moved "
        "memory of a worker: 700 MiB, held at most 650 MiB (2 workers)"
    )
    forecast = Forecast(None, None, record.bytes_read, record.bytes_written // 2, 2**20)
    assert section(summary(replace(record, forecast=forecast, worker_peak_bytes={})), "forecast") == (
        "written: 32.0 MiB, came to 64.0 MiB memory of a worker: 1.00 MiB, not measured"
    )


def test_a_summary_of_nothing_but_nan(record: RunRecord) -> None:
    """No range is made up."""
    empty = replace(record.outputs[0], minimum=nan, maximum=nan)
    assert section(summary(replace(record, outputs=(empty,))), "sum").endswith("no finite values")


def test_devices_are_a_table_with_an_asterisk_at_the_one_that_is_taken(device: DeviceInfo) -> None:
    """Columns are aligned, reasons stand below."""
    other = DeviceInfo("Fast Card", "opencl", "card", "gpu", "Vendor", "1.2", 2**36, 2**34, 108, has_float64=False)
    text = devices_text([device, other], DeviceChoice(other, "the fastest", ((device.name, "not faster"),)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert f"* {other.name}" in lines
    assert device.name in lines
    assert "cpu 2 4.00 GiB yes opencl Portable Computing Language, 3.0" in lines
    assert "gpu 108 64.0 GiB no opencl Vendor, 1.2" in lines
    assert section(text, "taken") == f"Fast Card the fastest not {device.name}: not faster"
    starts = [line.index("opencl") for line in text.splitlines() if "opencl" in line]
    assert len(starts) == 2
    assert len(set(starts)) == 1


def test_devices_without_a_choice(device: DeviceInfo) -> None:
    """A wish that found nothing still shows what there is."""
    text = devices_text([device], None)
    assert "*" not in text
    assert "taken" not in text
