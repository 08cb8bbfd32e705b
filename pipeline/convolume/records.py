"""What a run leaves behind, as small frozen records: devices, blocks, outputs, the run itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "BlockRecord",
    "DeviceInfo",
    "Forecast",
    "Measurement",
    "MethodSpeeds",
    "OutputRecord",
    "RunRecord",
    "StorageSpeeds",
    "VariantRecord",
]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device says of itself.

    `backend` is the file in ``devices/`` that drives it; `identifier` finds the very same device
    again in another process.
    """

    name: str
    backend: str
    identifier: str
    kind: Literal["cpu", "gpu", "other"]
    platform: str = ""
    driver: str = ""
    memory_bytes: int = 0
    max_allocation_bytes: int = 0
    compute_units: int = 1
    has_float64: bool = True
    speed_gflops: float = 0.0


@dataclass(frozen=True, slots=True)
class VariantRecord:
    """What was found of one shape of a device's programs, on one kind of stencils.

    `skipped` says why it is not used, and is empty where it was timed.
    """

    stencil: str
    variant: str
    gflops: float = 0.0
    is_chosen: bool = False
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class MethodSpeeds:
    """What weighing takes on a device, measured in single precision: nanoseconds, a voxel unless told otherwise.

    Parameters
    ----------
    call_ns, transform_call_ns : float
        A pass, and a transform, however few the voxels: not a voxel but in all.
    pass_ns : float
        A pass over the voxels, however few the taps.
    tap_ns, special_tap_ns : float
        Each tap, in a program for any kernel, and in one that is made for the kernel.
    walk_ns : float
        Passes along all axes that are done in one, however few their taps.
    line_point_ns, plane_point_ns, point_ns : float
        Each point of a Fourier transform, forth and back, times the binary logarithm of their number; along one axis,
        two, and three or more.
    is_measured : bool
        Whether all that was measured on the device; else they are those of a processor that is like many.
    """

    call_ns: float
    transform_call_ns: float
    pass_ns: float
    tap_ns: float
    special_tap_ns: float
    walk_ns: float
    line_point_ns: float
    plane_point_ns: float
    point_ns: float
    is_measured: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, slots=True)
class StorageSpeeds:
    """What voxels in and out take, in nanoseconds a byte, as a short probe found; 0 where there was nothing to probe.

    `notes` say what could not be probed, and why.
    """

    read_ns: float = 0.0
    write_ns: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a plan expects of a run. Times are in seconds of the wall clock, None where nothing was measured.

    `peak_host_bytes` is that of each worker process: a promise that is to be kept.
    """

    seconds_blocks: float | None
    seconds_pyramid: float | None
    bytes_read: int
    bytes_written: int
    peak_host_bytes: int


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """What one block took, and the range of values that it wrote to each output.

    `peak_host_bytes` is the most that the worker process held so far in this run, 0 where the system does not say;
    `notes` say what was done otherwise than planned.
    """

    index: tuple[int, ...]
    output_voxels: int
    bytes_read: int
    bytes_written: int
    seconds_read: float
    seconds_compute: float
    seconds_write: float
    device: str
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    worker: str = ""
    peak_host_bytes: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One output as it was written."""

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    levels: int
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of a channel of an image, over all axes and the finite voxels of one level.

    Parameters
    ----------
    image : str
        ``input``, or an output's name.
    channel : str
        The channel's name, or ``channel 0``; empty where the image has no channels.
    level : int
        The level that was measured, 0 the finest: averages of its voxels where it is a coarser one.
    shape : tuple of int
        That level's extents, all axes.
    minimum, maximum, mean, deviation : float
        `deviation` is the root of the mean squared distance from the mean. NaN where no voxel is finite.
    """

    image: str
    channel: str
    level: int
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A finished run: what was written where, on what, in which time.

    Times are in seconds of the wall clock; `seconds_pyramid` is told apart from `seconds_blocks`. `forecast` is what
    the plan said of the same, and `worker_peak_bytes` the most memory that each worker process held. Blocks, voxels and
    bytes are those of all attempts; `earlier_voxels` are the output voxels that earlier ones had done.
    """

    workflow: str
    outputs: tuple[OutputRecord, ...]
    figures: tuple[str, ...]
    devices: tuple[str, ...]
    strategy: str
    block_count: int
    output_voxels: int
    bytes_read: int
    bytes_written: int
    seconds_total: float
    seconds_blocks: float
    seconds_pyramid: float
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    forecast: Forecast | None = None
    worker_peak_bytes: dict[str, int] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    earlier_voxels: int = 0

    @property
    def voxels_per_second(self) -> float:
        """Output voxels of this attempt a second, the pyramid not counted."""
        done = self.output_voxels - self.earlier_voxels
        return done / self.seconds_blocks if self.seconds_blocks > 0 else 0.0
