"""The plan of a run: blocks, halo, bytes, memory, strategy, and the reasons; made before a voxel is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from convolume.errors import PlanTooLargeError
from convolume.records import Forecast
from convolume.regions import BlockGrid, Halo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convolume.planning.blocks import BlockOption
    from convolume.planning.method import MethodChoice
    from convolume.records import DeviceInfo

__all__ = [
    "Plan",
    "PlannedOutput",
    "Resources",
    "SharedSteps",
    "Strategy",
    "StrategyChoice",
    "check_memory",
    "choose_strategy",
]

Strategy = Literal["windows", "overlap", "in_memory"]
# Smaller blocks than that along every axis are not offered: tasks and halos would cost more than their voxels.
_LEAST_EXTENT = 16


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
    disk_bytes: int
    """What it may take on the disk meanwhile: more where it is gathered first, and then written as one file."""
    methods: tuple[MethodChoice, ...] = ()


@dataclass(frozen=True, slots=True)
class SharedSteps:
    """What is done once for several outputs: their first steps, or a part of the last of these."""

    steps: tuple[str, ...]
    is_part: bool
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resources:
    """Where a run happens: what the cluster offers.

    `worker_base_bytes` is what a worker process holds before its first block, its device ready; `worker_held_bytes`
    what one holds that is there already. `worker_start_seconds` passes until it is ready. `environment` is what workers
    start with.
    """

    cluster: str
    workers: int
    threads_per_worker: int
    worker_memory_bytes: int
    worker_base_bytes: int = 0
    worker_base_is_measured: bool = False
    worker_start_seconds: float = 0.0
    worker_held_bytes: int | None = None
    environment: tuple[tuple[str, str], ...] = ()
    is_this_process: bool = False

    @property
    def are_there(self) -> bool:
        """Say whether the workers were started by others."""
        return self.worker_held_bytes is not None

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
    shared: tuple[SharedSteps, ...]
    strategy: StrategyChoice
    block_shape_voxels: tuple[int, ...]
    block_count: int
    block_reason: str
    block_rejected: tuple[BlockOption, ...]
    task_count: int
    bytes_read: int
    read_amplification: float
    bytes_decoded: int
    decode_amplification: float
    cache_bytes: int
    bytes_written: int
    peak_host_bytes: int
    peak_device_bytes: int
    seconds_blocks: float | None
    seconds_pyramid: float | None
    time_reason: str
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

    @property
    def forecast(self) -> Forecast:
        """What stands beside the measurement when the run is done."""
        return Forecast(
            self.seconds_blocks, self.seconds_pyramid, self.bytes_read, self.bytes_written, self.peak_host_bytes
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-like values."""
        return asdict(self)


def choose_strategy(wanted: Literal["auto", "windows", "overlap", "in_memory"], *, is_lazy: bool) -> StrategyChoice:
    """Return how blocks are driven: as the workflow says, else as fits the input, a store or a dask array."""
    if wanted != "auto":
        return StrategyChoice(wanted, "the workflow names it")
    if is_lazy:
        return StrategyChoice(
            "overlap",
            "the input is a dask array: its blocks take their halo from each other",
            (("windows", "each task would compute its halo's part of the graph again"),),
        )
    return StrategyChoice(
        "windows",
        "the input is a store: each task reads its own halo and writes its own shards",
        (("overlap", "24 to 34 dask tasks a block, and memory that grows with the volume"),),
    )


def check_memory(
    chosen: BlockOption, needs: Callable[[int, tuple[int, ...]], int], resources: Resources, step: str
) -> None:
    """Refuse blocks that cannot fit.

    Parameters
    ----------
    chosen : BlockOption
        The blocks.
    needs : callable
        Returns the bytes that a worker needs for so many blocks of a shape at a time.
    resources : Resources
        What there is.
    step : str
        What needs most, and how much.

    Raises
    ------
    PlanTooLargeError
        Names what is needed, what there is, and the ways out with their numbers.
    """
    limit, threads = resources.worker_memory_bytes, resources.threads_per_worker
    if chosen.peak_host_bytes <= limit:
        return
    message = (
        f"a worker needs {_mib(chosen.peak_host_bytes)} for {threads} block{'s' if threads > 1 else ''} of "
        f"{' x '.join(map(str, chosen.shape))} voxels at a time, and has {_mib(limit)}; {step}. Ways out: "
        f"{'; '.join(_ways_out(chosen, needs, resources))}"
    )
    raise PlanTooLargeError(message)


def _ways_out(chosen: BlockOption, needs: Callable[[int, tuple[int, ...]], int], resources: Resources) -> Iterator[str]:
    """Yield what helps: more memory, fewer workers or threads that share it, or smaller blocks."""
    limit, workers, threads = resources.worker_memory_bytes, resources.workers, resources.threads_per_worker
    one_thread = "workers with `--nthreads 1`" if resources.are_there else "`threads_per_worker: 1`"
    if resources.are_there:
        yield f"workers with {_mib(chosen.peak_host_bytes)} each (`dask worker --memory-limit`)"
    else:
        yield f"`memory: {_mib(chosen.peak_host_bytes * workers)}` in the configuration"
        if fewer := workers * limit // chosen.peak_host_bytes:
            yield f"`workers: {fewer}` ({_mib(workers * limit // fewer)} for each)"
    if threads > 1:
        alone = needs(1, chosen.shape)
        yield f"{one_thread} ({_mib(alone)}{'' if alone <= limit else ', not enough by itself'})"
    yield _smaller_blocks(chosen.shape, needs, limit, threads, one_thread)


def _smaller_blocks(
    shape: tuple[int, ...], needs: Callable[[int, tuple[int, ...]], int], limit: int, threads: int, one_thread: str
) -> str:
    # One thread with blocks as they are is another way out already.
    for at_once in (threads, 1) if needs(1, shape) > limit else (threads,):
        smaller = shape
        while max(smaller) > _LEAST_EXTENT and needs(at_once, smaller) > limit:
            smaller = tuple(map(_power_of_two_below, smaller))
        needed = needs(at_once, smaller)
        if needed <= limit:
            alone = f" with {one_thread.removeprefix('workers with ')}" if at_once < threads else ""
            return f"smaller blocks, `block: {list(smaller)}`{alone} ({_mib(needed)})"
    voxels = " x ".join(map(str, smaller))
    return f"smaller blocks do not help: with {at_once} of {voxels} voxels at a time it is {_mib(needed)}"


def _power_of_two_below(extent: int) -> int:
    # Whole chunks of any usual size.
    return max(1, 1 << (extent - 1).bit_length() - 1) if extent > 1 else 1


def _mib(size_bytes: int) -> str:
    return f"{-(-size_bytes // 2**20)} MiB"
