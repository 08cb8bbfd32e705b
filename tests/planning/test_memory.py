"""The peak of a block, counted from shapes and dtypes."""

from convolume.boundary import BoundaryMode
from convolume.operations import Correlate, Operation, Sequence
from convolume.planning.memory import BlockMemory, TargetMemory
from convolume.stencil import Stencil

BLOCK = (100, 10)


def correlate(*weights: float) -> Correlate:
    """Return a filter of rows."""
    return Correlate(Stencil.correlate([weights]), (BoundaryMode.NEAREST,) * 2)


def host_bytes(*operations: Operation) -> int:
    """Return the peak for float32 outputs of a uint8 image."""
    return BlockMemory((500, 50), 1, 4, tuple(TargetMemory(operation, 4) for operation in operations)).host_bytes(BLOCK)


def test_what_is_shared_is_held() -> None:
    """One more array of the largest patch: 100 x 14 voxels of the working dtype."""
    mean, edge, sharp = correlate(0.5, 0.5, 0.0), correlate(-1.0, 0.0, 1.0), correlate(-1.0, 3.0, -1.0)
    apart = host_bytes(Sequence((mean, edge)), Sequence((sharp, edge)))
    assert host_bytes(Sequence((mean, edge)), Sequence((mean, sharp))) == apart + 100 * 14 * 4


def test_what_is_rounded_at_once_has_no_floats_beside_it() -> None:
    """A uint16 output: the last step's result takes 2 bytes a voxel instead of 4, and there is no cast after it."""
    mean = correlate(*[1 / 64] * 64)
    cast, rounded = (
        BlockMemory((500, 50), 1, 4, (TargetMemory(mean, 2, is_rounded=is_rounded),)).host_bytes(BLOCK)
        for is_rounded in (False, True)
    )
    assert cast - rounded == 100 * 10 * 2
