"""Marks: what was written is read back, half a line never is, and who may write is told."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.errors import RunError
from convolume.execution.journal import Coverage, Journal, Mark, leave_marks, voxel_digest
from convolume.execution.ownership import Claim
from convolume.records import BlockRecord
from convolume.regions import BlockGrid, Region

if TYPE_CHECKING:
    from pathlib import Path

RUN = "0123456789abcdef"
GRID = BlockGrid((7, 10), (4, 5))
UNITS = ((4, 5), (4, 5))

numbers = st.floats() | st.just(float("nan"))
records = st.builds(
    BlockRecord,
    index=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    output_voxels=st.integers(0, 2**70),
    bytes_read=st.integers(0, 2**70),
    bytes_written=st.integers(0, 2**70),
    seconds_read=st.floats(0, 1e9),
    seconds_compute=st.floats(0, 1e9),
    seconds_write=st.floats(0, 1e9),
    device=st.text(),
    minimum=st.tuples(numbers),
    maximum=st.tuples(numbers, numbers),
)
marks = st.builds(
    Mark,
    level=st.integers(0, 3),
    index=st.tuples(st.integers(0, 10**6), st.integers(0, 9)),
    region=st.sampled_from([region for _, region in GRID]),
    digests=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3).map(tuple),
    record=st.none() | records,
)


def mark(index: tuple[int, ...], level: int = 0) -> Mark:
    """Return a mark of a block of the small grid."""
    return Mark(level, index, GRID.region(index), (7,))


@given(marks)
def test_a_line_reads_back(written: Mark) -> None:
    """Numbers that are none, names with line breaks and integers beyond 64 bits too."""
    line = written.line(RUN)
    assert line.count(b"\n") == 1
    # NaN is not equal to itself: texts are compared.
    assert repr(Mark.from_line(line, RUN)) == repr(written)


@given(st.lists(marks, max_size=4), st.data())
def test_a_prefix_of_the_file_holds_a_prefix_of_the_marks(
    tmp_path_factory: pytest.TempPathFactory, written: list[Mark], data: st.DataObject
) -> None:
    """Wherever a process was killed while it wrote."""
    folder = tmp_path_factory.mktemp("journal")
    lines = [each.line(RUN) for each in written]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    (folder / "one.marks").write_bytes(whole[:cut])
    complete = [each for each in range(len(lines) + 1) if len(b"".join(lines[:each])) <= cut][-1]
    assert [repr(each) for each in Journal(str(folder), RUN, UNITS).marks()] == [
        repr(each) for each in written[:complete]
    ]


@given(marks, st.data())
def test_a_changed_byte_is_no_mark(written: Mark, data: st.DataObject) -> None:
    """Nor is a line of another run."""
    line = bytearray(written.line(RUN))
    line[data.draw(st.integers(0, len(line) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert Mark.from_line(bytes(line), RUN) is None
    assert Mark.from_line(written.line("another run"), RUN) is None


def test_a_torn_line_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    """As a disk that was full for a moment leaves it."""
    journal = Journal(str(tmp_path), RUN, UNITS)
    journal.append(mark((0, 0)))
    (file,) = tmp_path.iterdir()
    with file.open("ab") as torn:
        torn.write(mark((0, 1)).line(RUN)[:20])
    journal.append(mark((1, 0)))
    assert [each.index for each in journal.marks()] == [(0, 0), (1, 0)]
    assert (file,) == tuple(tmp_path.iterdir())


def test_merging_keeps_each_block_once(tmp_path: Path) -> None:
    """In one file, whether a block was done twice or the merging itself was interrupted."""
    journal = Journal(str(tmp_path), RUN, UNITS)
    for index, _ in GRID:
        journal.append(mark(index))
        journal.append(mark(index))
    (tmp_path / "of-another-process.marks").write_bytes(mark((0, 0), level=1).line(RUN))
    for _ in range(2):
        coverage = Coverage((GRID.shape, (4, 5)), (GRID.block_shape, (4, 5)))
        journal.merge(coverage)
        assert [file.name for file in tmp_path.iterdir()] == ["all.marks"]
        assert sorted((each.level, each.index) for each in journal.marks()) == [
            *((0, index) for index, _ in GRID),
            (1, (0, 0)),
        ]
        assert [coverage.missing_voxels(level) for level in (0, 1)] == [0, 0]
    journal.clear()
    assert list(tmp_path.iterdir()) == []


def test_coverage_counts_voxels_of_blocks_of_any_size() -> None:
    """Blocks are told by where they begin; several units may lie in one."""
    coverage = Coverage(((8, 10),), ((2, 5),))
    assert coverage.add(Mark(0, (0, 0), Region((0, 0), (4, 10)), (0,)))
    assert not coverage.add(Mark(0, (0, 0), Region((0, 0), (4, 10)), (0,)))
    assert coverage.holds(0, Region((0, 0), (4, 10)))
    assert not coverage.holds(0, Region((4, 0), (8, 10)))
    assert coverage.missing_voxels(0) == 40


@given(st.sampled_from(["uint8", "bool", "float16", "float32", "int64"]), st.integers(0, 2**32 - 1))
def test_a_digest_is_of_the_voxels_in_their_order(dtype: str, seed: int) -> None:
    """However the array lies in memory."""
    voxels = np.random.default_rng(seed).integers(0, 2, (3, 4, 5)).astype(dtype)
    expected = zlib.crc32(voxels.tobytes())
    assert voxel_digest(voxels) == voxel_digest(np.asfortranarray(voxels)) == expected
    assert voxel_digest(voxels[:, ::2]) == zlib.crc32(voxels[:, ::2].tobytes())


def test_a_mark_has_a_digest_for_every_file(tmp_path: Path) -> None:
    """In the order of the grid, the last ones smaller."""
    voxels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    journal = Journal(str(tmp_path), RUN, ((3, 4),))
    journal.mark(0, (1, 0), Region((3, 0), (7, 6)), voxels)
    parts = (voxels[:3, :4], voxels[:3, 4:], voxels[3:, :4], voxels[3:, 4:])
    (left,) = journal.marks()
    assert left.digests == tuple(zlib.crc32(part.tobytes()) for part in parts)


def test_a_process_that_comes_back_from_the_dead_leaves_no_mark(tmp_path: Path) -> None:
    """Once its output was taken over, which is not before its owner is gone."""
    output = str(tmp_path / "out.zarr")
    claim = Claim.take(output, str(tmp_path))
    journal = Journal(str(tmp_path), RUN, UNITS, claim)
    record = BlockRecord((0, 0), 20, 1, 1, 0.0, 0.0, 0.0, "numpy", (0.0,), (1.0,))
    voxels = np.zeros((4, 5), np.uint8)
    leave_marks([None, journal], record, GRID.region((0, 0)), [voxels, voxels])
    claim.release()
    following = Claim.take(output, str(tmp_path))
    message = "^.*out.zarr: another run has taken it over, and this one leaves it alone$"
    with pytest.raises(RunError, match=message):
        leave_marks([journal], record, GRID.region((0, 0)), [voxels])
    assert [each.record for each in journal.marks()] == [record]
    replace(journal, claim=following).append(mark((0, 1)))
    assert len(list(journal.marks())) == 2
