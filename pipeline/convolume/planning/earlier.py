"""What an earlier attempt at the same run chose: the next one goes on with it, and chooses nothing anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convolume.operations import Method
    from convolume.stores import IfExists

__all__ = ["NOTHING_CHOSEN", "RESUMED", "Chosen"]

RESUMED = "the run that is resumed chose it"


@dataclass(frozen=True)
class Chosen:
    """Choices that stand already.

    Parameters
    ----------
    block_shape_voxels : tuple of int, optional
        Where it is given, and fits the image's axes, no other is chosen; what the workflow names counts first.
    methods : mapping of str to tuple of Method
        By output, in the order in which its kernels are settled; for those that the workflow leaves open.
    write_units : mapping of str to tuple of int
        By output, the extents of what one writer owns, for those whose chunks and shards the workflow leaves open.
    if_exists : mapping of str to {'error', 'overwrite', 'resume'}
        By output, in place of what the workflow says.
    """

    block_shape_voxels: tuple[int, ...] | None = None
    methods: Mapping[str, tuple[Method, ...]] = field(default_factory=dict)
    write_units: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    if_exists: Mapping[str, IfExists] = field(default_factory=dict)


NOTHING_CHOSEN = Chosen()
