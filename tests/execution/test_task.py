"""What fails in a block is told with its output, its place and its cause."""

import re

import numpy as np
import pytest

from convolume.devices._selection import choose_device
from convolume.errors import InputError, RunError
from convolume.execution.task import BlockJob, StoreJob, Target, naming_the_block, run_block
from convolume.numerics import Precision
from convolume.operations import Sequence
from convolume.regions import Region
from convolume.stores import SinkOptions, SourceOptions, memory

TARGETS = (Target("copy", Sequence(), "float32"), Target("bytes", Sequence(), "uint8", "error"))
JOB = BlockJob((4, 5), TARGETS, Precision.SINGLE, "float32", choose_device("numpy").info)
REGION = Region((1, 0), (3, 5))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("12 GiB"), "out of memory (12 GiB): give smaller blocks (`block:`)"),
        (InputError("the source is gone"), "the source is gone"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_a_failure_names_its_block(error: Exception, told: str) -> None:
    """As a `RunError`, whatever it was."""
    expected = f"output 'copy', 'bytes', block (1, 0) at {REGION}: {told}"
    with pytest.raises(RunError, match=f"^{re.escape(expected)}$"), naming_the_block(JOB, (1, 0), REGION):
        raise error


@pytest.mark.parametrize("too_large", [False, True])
def test_a_block_is_read_cast_and_written(too_large: bool) -> None:  # noqa: FBT001 - drawn
    """Its record has the numbers of what was written; what does not fit is refused where that is asked for."""
    image = np.arange(20, dtype=np.float32).reshape(4, 5)
    image[2, 2] = 256 if too_large else 7
    memory.put("block", image)
    source = memory.open_source("memory:block", SourceOptions())
    sinks = tuple(
        memory.create_sink(f"memory:{target.name}", source.info.with_(dtype=target.dtype), SinkOptions(pyramid=False))
        for target in TARGETS
    )
    for sink in sinks:
        sink.create()
    job = StoreJob(JOB, source, sinks)
    if too_large:
        with pytest.raises(RunError, match=r"the value 256.0 does not fit into uint8 \(0 to 255\) of output 'bytes'"):
            run_block(job, (1, 0), REGION)
    else:
        record = run_block(job, (1, 0), REGION)
        assert (record.index, record.output_voxels, record.bytes_read, record.bytes_written) == ((1, 0), 20, 40, 50)
        assert (record.minimum, record.maximum) == ((5.0, 5.0), (14.0, 14.0))
        np.testing.assert_array_equal(sinks[1].read(0, REGION), image[1:3].astype(np.uint8))
    for name in ("block", "copy", "bytes"):
        memory.drop(name)
