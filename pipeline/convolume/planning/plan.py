"""The plan of a run: blocks, halo, bytes, memory, strategy, and the reasons; made before a voxel is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import lcm, prod
from typing import TYPE_CHECKING, Any, Literal

from convolume.boundary import runs_length
from convolume.errors import InputError
from convolume.operations import merge_axes, reach_of
from convolume.planning.memory import WORKER_BASE_BYTES, BlockMemory
from convolume.regions import BlockGrid, Halo

if TYPE_CHECKING:
    from convolume.operations import Operation
    from convolume.records import DeviceInfo

__all__ = ["Plan", "PlannedOutput", "Resources", "Strategy", "StrategyChoice", "check_memory", "choose_block_shape"]

Strategy = Literal["windows", "overlap", "in_memory"]

# Blocks stop growing here: large enough that halos are cheap, small enough to be many.
_BLOCK_VOXELS = 2**24
# Enough blocks that all workers stay busy until the end.
_BLOCKS_PER_SLOT = 4


@dataclass(frozen=True, slots=True)
class StrategyChoice:
    """How blocks are driven, why, and why not otherwise."""

    name: Strategy
    reason: str
    rejected: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """One output as it will be written."""

    name: str
    path: str
    dtype: str
    steps: tuple[str, ...]
    halo_voxels: Halo
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    level_shapes: tuple[tuple[int, ...], ...]
    bytes_written: int


@dataclass(frozen=True, slots=True)
class Resources:
    """Where a run happens: what the cluster offers."""

    cluster: str
    workers: int
    threads_per_worker: int
    worker_memory_bytes: int

    @property
    def slots(self) -> int:
        """Blocks that are worked on at the same time."""
        return self.workers * self.threads_per_worker


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do. Bytes are uncompressed; shapes are in the order of `axes`."""

    workflow: str
    input_path: str
    input_shape: tuple[int, ...]
    input_dtype: str
    axes: tuple[str, ...]
    outputs: tuple[PlannedOutput, ...]
    strategy: StrategyChoice
    block_shape_voxels: tuple[int, ...]
    block_count: int
    block_reason: str
    bytes_read: int
    read_amplification: float
    bytes_written: int
    peak_host_bytes: int
    peak_device_bytes: int
    resources: Resources
    device: DeviceInfo
    device_reason: str
    precision: str
    working_dtype: str
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> BlockGrid:
        """The blocks."""
        return BlockGrid(self.input_shape, self.block_shape_voxels)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-like values."""
        return asdict(self)


def choose_block_shape(
    image_shape: tuple[int, ...],
    write_units: list[tuple[int, ...]],
    space_axes: tuple[int, ...],
    memory: BlockMemory,
    resources: Resources,
) -> tuple[tuple[int, ...], str]:
    """Return a block shape that is a whole number of every output's shards, and the reason for it.

    Blocks grow from one shard, the shortest space axis first, while they stay under 2^24 voxels, fit into the
    workers' memory and are at least four for each slot.
    """
    unit = tuple(min(lcm(*axis), n) for axis, n in zip(zip(*write_units, strict=True), image_shape, strict=True))
    budget = _block_budget(resources)
    block = unit
    while (larger := _grown(block, image_shape, space_axes)) is not None:
        grid = BlockGrid(image_shape, larger)
        fits = memory.host_bytes(larger) <= budget and prod(larger) <= _BLOCK_VOXELS
        if not fits or len(grid) < _BLOCKS_PER_SLOT * resources.slots:
            break
        block = larger
    shards = prod(-(-b // u) for b, u in zip(block, unit, strict=True))
    return block, f"{shards} shard{'s' if shards > 1 else ''} of every output"


def check_memory(plan_peak_bytes: int, block_shape: tuple[int, ...], memory: BlockMemory, resources: Resources) -> None:
    """Refuse blocks that cannot fit.

    Raises
    ------
    InputError
        Names what is needed, what there is, and three ways out with their numbers.
    """
    limit = resources.worker_memory_bytes
    if plan_peak_bytes <= limit:
        return
    alone = WORKER_BASE_BYTES + memory.host_bytes(block_shape)
    halved = tuple(max(1, b // 2) for b in block_shape)
    smaller = WORKER_BASE_BYTES + resources.threads_per_worker * memory.host_bytes(halved)
    message = (
        f"a worker needs {_mib(plan_peak_bytes)} for {resources.threads_per_worker} blocks of "
        f"{' x '.join(map(str, block_shape))} voxels at a time, and has {_mib(limit)}. Ways out: "
        f"`memory: {_mib(plan_peak_bytes * resources.workers)}` in the configuration; `threads_per_worker: 1` "
        f"({_mib(alone)}); or smaller blocks and chunks, `block: {list(halved)}` ({_mib(smaller)})"
    )
    raise InputError(message)


def bytes_to_read(
    operations: list[Operation], grid: BlockGrid, itemsize: int, *, with_halos: bool
) -> tuple[int, float]:
    """Return the bytes that all blocks read, and how often an average voxel is read.

    What a block needs on one axis does not depend on the others, so the sum over all blocks is a
    product of sums over the axes.
    """
    whole = prod(grid.shape) * itemsize
    if not with_halos or not whole:
        return whole, 1.0
    total = 1
    for axis, extent in enumerate(grid.shape):
        total *= sum(
            runs_length(_axis_needs(operations, grid.shape, axis, start, min(start + grid.block_shape[axis], extent)))
            for start in range(0, extent, grid.block_shape[axis])
        )
    return total * itemsize, total * itemsize / whole


def _axis_needs(
    operations: list[Operation], shape: tuple[int, ...], axis: int, start: int, stop: int
) -> tuple[tuple[int, int], ...]:
    wanted = tuple(((start, stop),) if a == axis else ((0, n),) for a, n in enumerate(shape))
    return merge_axes(*(reach_of(operation, wanted, shape) for operation in operations))[axis]


def _grown(block: tuple[int, ...], image_shape: tuple[int, ...], space_axes: tuple[int, ...]) -> tuple[int, ...] | None:
    open_axes = [axis for axis in space_axes if block[axis] < image_shape[axis]]
    if not open_axes:
        return None
    shortest = min(reversed(open_axes), key=lambda axis: block[axis])
    return tuple(min(2 * b, n) if a == shortest else b for a, (b, n) in enumerate(zip(block, image_shape, strict=True)))


def _block_budget(resources: Resources) -> int:
    return (resources.worker_memory_bytes - WORKER_BASE_BYTES) // resources.threads_per_worker


def _mib(size_bytes: int) -> str:
    return f"{-(-size_bytes // 2**20)} MiB"
