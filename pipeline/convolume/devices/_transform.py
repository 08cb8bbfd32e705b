"""The sizes of correlations by the Fourier transform: fast lengths, tiles, memory and work."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, prod

__all__ = ["KEPT_BYTES", "Transform", "transform_tile"]

# Kernels' transforms that a process keeps.
KEPT_BYTES = 2**28
# A tile's transform takes 2**25 · 4 bytes in single precision, its kernel's as much again.
_TILE_POINTS = 2**25
# Planes without a third axis share nothing: few of them at a time stay in the cache.
_TILE_POINTS_OF_PLANES = 2**20


@dataclass(frozen=True, slots=True)
class Transform:
    """The sizes of one tile: of its output, of its kernel, and of the transform, all of them one an axis.

    Parameters
    ----------
    shape : tuple of int
        Extents of the output.
    kernel_shape : tuple of int
        Axes of extent 1 are not transformed.
    """

    shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes that are transformed."""
        return tuple(axis for axis, extent in enumerate(self.kernel_shape) if extent > 1) or (len(self.shape) - 1,)

    @property
    def read_shape(self) -> tuple[int, ...]:
        """Extents of the input: the output's with the halo."""
        return tuple(n + k - 1 for n, k in zip(self.shape, self.kernel_shape, strict=True))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Extents of the transform: the input's, and on transformed axes the next that is fast."""
        # scipy.fft takes a fifth of a second to load: not before something is transformed.
        from scipy.fft import next_fast_len  # noqa: PLC0415

        return tuple(
            next_fast_len(n, real=axis == self.axes[-1]) if axis in self.axes else n
            for axis, n in enumerate(self.read_shape)
        )

    @property
    def spectrum_shape(self) -> tuple[int, ...]:
        """Extents of what is kept between the sweeps."""
        last, lengths = self.axes[-1], list(self.lengths)
        lengths[self.axes[0]] = self.read_shape[self.axes[0]]
        lengths[last] = self.lengths[last] // 2 + 1
        return tuple(lengths)

    @property
    def scratch_bytes(self) -> int:
        """Bytes that it takes in single precision beside input and output, the kernel's transform included."""
        return 2 * 8 * prod(self.spectrum_shape)

    @property
    def work(self) -> float:
        """Points times the logarithm of their number, to which the time of a transform is about proportional."""
        return prod(self.lengths) * log2(max(2, prod(self.lengths[axis] for axis in self.axes)))


def transform_tile(shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the extents of tiles in which an output is transformed, so that memory stays bounded.

    Axes are halved, those first that are longest beside the kernel, until a tile is small enough or no longer than the
    kernel; tiles overlap in the input by the kernel.

    Examples
    --------
    >>> transform_tile((256, 256, 256), (33, 33, 33)), transform_tile((1000, 500, 500), (9, 9, 9))
    ((256, 256, 256), (250, 250, 250))
    """
    tile = list(shape)
    is_whole = all(k > 1 for k, n in zip(kernel_shape, shape, strict=True) if n > 1)
    most = _TILE_POINTS if is_whole else _TILE_POINTS_OF_PLANES
    while prod(Transform(tuple(tile), kernel_shape).lengths) > most:
        shares = [n / k for n, k in zip(tile, kernel_shape, strict=True)]
        longest = max(shares)
        if longest <= 1:
            break
        axis = shares.index(longest)
        tile[axis] = -(-tile[axis] // 2)
    return tuple(tile)
