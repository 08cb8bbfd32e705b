"""A plan and a record as runs make them."""

from __future__ import annotations

import pytest

from convolume.planning.blocks import BlockOption
from convolume.planning.plan import Plan, PlannedOutput, Resources, StrategyChoice
from convolume.planning.reading import Reading
from convolume.records import DeviceInfo, Forecast, OutputRecord, RunRecord
from convolume.regions import Halo

DEVICE = DeviceInfo(
    name="pthread-Some(R) Processor @ 2.50GHz",
    backend="opencl",
    identifier="Portable Computing Language/0",
    kind="cpu",
    platform="Portable Computing Language",
    driver="3.0",
    memory_bytes=2**32,
    compute_units=2,
)


def planned_output(name: str, *steps: str) -> PlannedOutput:
    """Return an output in a folder with a long name."""
    return PlannedOutput(
        name=name,
        path=f"/data/a/folder/with/a/name/that/does/not/fit/into/any/line/of/eighty/columns/{name}.ome.zarr",
        dtype="float32",
        steps=steps,
        halo_voxels=Halo((0, 1, 2), (0, 1, 1)),
        chunks=(64, 64, 64),
        shards=(128, 128, 128),
        level_shapes=((189, 233, 197), (95, 117, 99)),
        bytes_written=2**25,
        disk_bytes=2**25,
    )


@pytest.fixture
def device() -> DeviceInfo:
    """Return a processor."""
    return DEVICE


@pytest.fixture
def plan() -> Plan:
    """Return the plan of a small volume with two outputs."""
    return Plan(
        workflow="convolution tour",
        input_path="sample:mni152-t1",
        input_shape=(189, 233, 197),
        input_dtype="uint8",
        axes=("z", "y", "x"),
        outputs=(planned_output("sum", "convolve", "gaussian"), planned_output("copy")),
        shared=(),
        strategy=StrategyChoice("windows", "the input is a store", (("overlap", "memory grows with the volume"),)),
        block_shape_voxels=(128, 128, 128),
        block_count=8,
        block_reason="1 shard of the outputs",
        block_rejected=(BlockOption((128, 256, 256), Reading(0, 0, 0, 0), 65.0, 900 * 2**20),),
        task_count=11,
        bytes_read=9 * 2**20,
        read_amplification=1.0423,
        bytes_decoded=12 * 2**20,
        decode_amplification=1.39,
        cache_bytes=2**22,
        bytes_written=2**26,
        peak_host_bytes=700 * 2**20,
        peak_device_bytes=40 * 2**20,
        seconds_blocks=61.0,
        seconds_pyramid=2.5,
        time_reason="by measured speeds",
        resources=Resources("local", 2, 1, 2**32, 262 * 2**20, worker_base_is_measured=True),
        device=DEVICE,
        device_reason="the only OpenCL device (by default)",
        precision="single",
        working_dtype="float32",
        notes=("the header leaves the unit unknown; NIfTI's millimetres are taken, and this is said in so many words",),
    )


@pytest.fixture
def record(plan: Plan) -> RunRecord:
    """Return the record of that plan's run."""
    outputs = tuple(
        OutputRecord(o.name, o.path, o.level_shapes[0], o.dtype, len(o.level_shapes), -12.25, 2295.0)
        for o in plan.outputs
    )
    return RunRecord(
        workflow=plan.workflow,
        outputs=outputs,
        figures=("/data/figure.png",),
        devices=(DEVICE.name,),
        strategy="windows",
        block_count=8,
        output_voxels=16_000_000,
        bytes_read=9 * 2**20,
        bytes_written=2**26,
        seconds_total=12.31,
        seconds_blocks=8.0,
        seconds_pyramid=3.01,
        notes=plan.notes,
        forecast=Forecast(7.5, 3.5, 9 * 2**20, 2**26, 700 * 2**20),
        worker_peak_bytes={"a": 600 * 2**20, "b": 650 * 2**20},
    )
