"""MRC files of electron microscopy: volumes and stacks, mapped into memory for each read, voxel sizes in ångström."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError
from convolume.image import ImageInfo
from convolume.stores._axes import (
    canonical_order,
    check_dtype,
    check_one_level,
    named_axes,
    region_of_file,
    with_options,
)
from convolume.stores._files import load_extra
from convolume.stores._interfaces import Source, SourceOptions
from convolume.stores._mapped import MappedVoxels

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.image import Axis
    from convolume.regions import Region

__all__ = ["MrcSource", "open_source", "recognises"]

PRECEDENCE = 24
OWN_ENDINGS = (".mrc", ".mrcs")
# Others write files with these endings too: only the header tells.
SHARED_ENDINGS = (".rec", ".map", ".st")
PACKED_ENDINGS = tuple(f"{ending}{packed}" for ending in OWN_ENDINGS for packed in (".gz", ".bz2"))
HEADER_BYTES = 1024
MAGIC, MAGIC_AT = b"MAP", 208
STAMP_AT = 212
# The first byte of the machine stamp: little-endian, big-endian.
STAMPS = (0x44, 0x11)
AXIS_NAMES = {1: "x", 2: "y", 3: "z"}
# IMOD, where it leaves its stamp, says by a bit whether bytes have a sign; MRC's have one.
IMOD_STAMP, IMOD_STAMP_AT, IMOD_FLAGS_AT = 1146047817, 152, 156
SIGNED_BYTES = 1


def recognises(path: str) -> bool:
    """Say whether a file with MRC's own ending is there, or with one of those it shares and MRC's header."""
    lower = path.lower()
    if lower.endswith(OWN_ENDINGS + PACKED_ENDINGS):
        return Path(path).is_file()
    return lower.endswith(SHARED_ENDINGS) and _has_header(path)


def open_source(path: str, options: SourceOptions) -> Source:
    """Open an MRC file: (z, y, x), or (t, z, y, x) where it is a stack of volumes.

    Raises
    ------
    InputError
        mrcfile is not installed, the file is damaged or cut short, or its numbers are complex.
    """
    if path.lower().endswith(PACKED_ENDINGS):
        message = f"{path}: compressed MRC files are not read; unpack it first, with gunzip or bunzip2"
        raise InputError(message)
    check_one_level(path, options)
    header, head = _header(path)
    voxels, notes = _layout(path, header, head)
    axes = with_options(path, voxels.shape, _axes(path, header, len(voxels.shape)), options)
    order = canonical_order([axis.name for axis in axes])
    info = ImageInfo(
        shape=tuple(voxels.shape[axis] for axis in order),
        dtype=check_dtype(path, np.dtype(voxels.dtype)),
        axes=tuple(axes[axis] for axis in order),
        notes=notes,
    )
    return MrcSource(path, info, voxels, order)


class MrcSource(Source):
    """The voxels of an MRC file."""

    cache_bytes = 0

    def __init__(self, path: str, info: ImageInfo, voxels: MappedVoxels, order: tuple[int, ...]) -> None:
        self.path = path
        self.info = info
        self.voxels = voxels
        self.order = order

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region."""
        part = self.voxels.view(self.path)[region_of_file(region, self.order).slices]
        return np.array(part.transpose(self.order), dtype=self.info.dtype, order="C")

    def signature(self) -> str:
        """Return the format: all else stands in the file."""
        return "mrc"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the file."""
        del region
        return (self.path,)


def _has_header(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError:
        return False
    is_marked = head[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC
    return len(head) == HEADER_BYTES and is_marked and head[STAMP_AT] in STAMPS


def _header(path: str) -> tuple[Any, bytes]:
    """Return the header as mrcfile lays it out, in the file's byte order, and its bytes."""
    utils = load_extra(path, "mrcfile.utils", "mrc")
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or error}"
        raise InputError(message) from error
    if len(head) < HEADER_BYTES or head[MAGIC_AT : MAGIC_AT + len(MAGIC)] != MAGIC:
        message = f"{path}: is no MRC file that can be read (its header does not hold the word MAP)"
        raise InputError(message)
    try:
        byte_order = utils.byte_order_from_machine_stamp(head[STAMP_AT : STAMP_AT + 4])
    except ValueError as error:
        message = f"{path}: is no MRC file that can be read ({error})"
        raise InputError(message) from error
    layout = import_module("mrcfile.dtypes").HEADER_DTYPE.newbyteorder(byte_order)
    return np.frombuffer(head, layout).reshape(()).view(np.recarray), head


def _layout(path: str, header: Any, head: bytes) -> tuple[MappedVoxels, tuple[str, ...]]:
    """Return where the voxels lie, and what had to be assumed."""
    utils = import_module("mrcfile.utils")
    extents = [int(header[name]) for name in ("nx", "ny", "nz")]
    offset_bytes, volume_planes = int(header.nsymbt) + HEADER_BYTES, int(header.mz)
    is_volume_stack = bool(utils.spacegroup_is_volume_stack(header.ispg))
    if min(extents) < 1 or offset_bytes < HEADER_BYTES:
        message = f"{path}: its MRC header makes no sense: {extents} voxels from byte {offset_bytes} on"
        raise InputError(message)
    if is_volume_stack and (volume_planes < 1 or extents[2] % volume_planes):
        message = (
            f"{path}: its MRC header makes no sense: {extents[2]} planes are no stack of volumes of {volume_planes}"
        )
        raise InputError(message)
    try:
        dtype = utils.data_dtype_from_header(header)
    except ValueError as error:
        message = f"{path}: voxels of MRC mode {int(header.mode)} cannot be filtered; modes 0, 1, 2, 6 and 12 can"
        raise InputError(message) from error
    shape = utils.data_shape_from_header(header)
    notes = []
    check_dtype(path, dtype)
    if dtype == np.int8 and _has_unsigned_bytes(head):
        dtype = np.dtype(np.uint8)
        notes.append(f"{path}: its bytes have no sign, as IMOD's stamp says")
    if int(header.ispg) == 0 and len(shape) == len("zyx"):
        notes.append(f"{path}: its header calls it a stack of images, which are taken as planes along z")
    voxels = MappedVoxels(shape, dtype.str, offset_bytes)
    voxels.check_size(path)
    return voxels, tuple(notes)


def _has_unsigned_bytes(head: bytes) -> bool:
    integer = "<i4" if head[STAMP_AT] == STAMPS[0] else ">i4"
    stamp, flags = (int(np.frombuffer(head, integer, 1, place)[0]) for place in (IMOD_STAMP_AT, IMOD_FLAGS_AT))
    return stamp == IMOD_STAMP and not flags & SIGNED_BYTES


def _axes(path: str, header: Any, ndim: int) -> tuple[Axis, ...]:
    """Return the axes in the file's order, which need not be (z, y, x), with their voxel size where there is one."""
    codes = [int(header[name]) for name in ("maps", "mapr", "mapc")]
    names = [AXIS_NAMES[code] for code in codes] if sorted(codes) == sorted(AXIS_NAMES) else list("zyx")
    axes = []
    for axis in named_axes(path, (["t", *names])[-ndim:]):
        intervals = int(header[f"m{axis.name}"]) if axis.kind == "space" else 0
        step = float(header.cella[axis.name]) / intervals if intervals > 0 else 0.0
        axes.append(replace(axis, unit="angstrom", spacing=step) if isfinite(step) and step > 0 else axis)
    return tuple(axes)
