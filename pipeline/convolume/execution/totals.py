"""Sums over the blocks of a run, kept as they come: their number does not tell in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from convolume.execution.pyramid import LevelBlock
    from convolume.records import BlockRecord

__all__ = ["BlockTotals"]


@dataclass
class BlockTotals:
    """What the blocks of a run took together, and the range of values in every output.

    Examples
    --------
    >>> from convolume.records import BlockRecord
    >>> totals = BlockTotals()
    >>> totals.add(BlockRecord((0,), 8, 10, 32, 0.1, 0.2, 0.3, "numpy", (1.0,), (5.0,)))
    >>> totals.add(BlockRecord((1,), 8, 10, 32, 0.1, 0.2, 0.3, "numpy", (0.5,), (float("nan"),)))
    >>> totals.block_count, totals.bytes_written, totals.value_range(0)
    (2, 64, (0.5, 5.0))
    """

    block_count: int = 0
    output_voxels: int = 0
    bytes_read: int = 0
    devices: set[str] = field(default_factory=set)
    bytes_written: int = 0
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    worker_peak_bytes: dict[str, int] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, record: BlockRecord) -> None:
        """Count one more block."""
        self.minimum = _joined(np.fmin, self.minimum, record.minimum)
        self.maximum = _joined(np.fmax, self.maximum, record.maximum)
        self.block_count += 1
        self.output_voxels += record.output_voxels
        self.bytes_read += record.bytes_read
        self.bytes_written += record.bytes_written
        self.devices.add(record.device)
        self.notes.update(record.notes)
        self._hold(record.worker, record.peak_host_bytes)

    def add_level(self, block: LevelBlock) -> None:
        """Count one more block of a pyramid."""
        self.bytes_written += block.bytes_written
        self._hold(block.worker, block.peak_host_bytes)

    def _hold(self, worker: str, peak_bytes: int) -> None:
        if peak_bytes:  # not every system tells
            self.worker_peak_bytes[worker] = max(peak_bytes, self.worker_peak_bytes.get(worker, 0))

    def told_notes(self) -> tuple[str, ...]:
        """Return what was done otherwise than planned, with the number of blocks that it was done to."""
        return tuple(f"{count} of {self.block_count} blocks: {note}" for note, count in self.notes.items())

    def value_range(self, output: int) -> tuple[float, float]:
        """Return the smallest and the largest number in an output, by position; NaN only where there is no other."""
        return self.minimum[output], self.maximum[output]


def _joined(choose: np.ufunc, before: tuple[float, ...], values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(choose(a, b)) for a, b in zip(before, values, strict=True)) if before else values
