"""NIfTI volumes, ``.nii`` and ``.nii.gz``: transposed to (t, c, z, y, x), never reoriented."""

from __future__ import annotations

import gzip
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from convolume.errors import InputError
from convolume.image import Axis, ImageInfo
from convolume.stores._axes import canonical_order, check_dtype, check_one_level, named_axes, with_options
from convolume.stores._faults import UNREADABLE
from convolume.stores._files import load_extra, staged
from convolume.stores._interfaces import Advance, Layout, Sink, SinkOptions, Source, SourceOptions, Windows, Written
from convolume.stores._mapped import MappedVoxels
from convolume.stores._nifti_header import written_header
from convolume.stores._single_file import (
    SingleFileSink,
    WrittenFile,
    gathered_at,
    in_canonical_order,
    journal_folder,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from convolume.regions import Region

__all__ = [
    "NiftiSink",
    "NiftiSource",
    "create_sink",
    "gathered_at",
    "journal_folder",
    "open_file",
    "open_source",
    "open_written",
    "recognises",
]

PRECEDENCE = 20
SUFFIXES = (".nii", ".nii.gz")
SPACE_UNITS = {1: "meter", 2: "millimeter", 3: "micrometer"}
TIME_UNITS = {8: "second", 16: "millisecond", 24: "microsecond"}
AXIS_NAMES = {1: "x", 2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}
# Integers of up to this many bytes, scaled, are exact enough in float32.
SINGLE_PRECISION_BYTES = 2
# What NIfTI does not have, and what holds its values.
NOT_WRITTEN = {"bool": "uint8", "float16": "float32"}
COMPRESSION_LEVEL = 1


@dataclass(frozen=True, slots=True)
class _Layout(MappedVoxels):
    """Where the voxels lie in the uncompressed file, in the file's order of axes (x, y, z, t, c)."""

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_scaled(self) -> bool:
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def image_dtype(self) -> np.dtype[Any]:
        """Dtype of what is read: the file's own, in the machine's byte order, or a float where it is scaled."""
        native = np.dtype(self.dtype).newbyteorder("=")
        if not self.is_scaled:
            return native
        small = native.itemsize <= SINGLE_PRECISION_BYTES or native == np.float32
        return np.dtype(np.float32 if small else np.float64)


def recognises(path: str) -> bool:
    """Say whether a file with NIfTI's ending is there."""
    return path.endswith(SUFFIXES) and Path(path).is_file()


def open_source(path: str, options: SourceOptions) -> Source:
    """Open a NIfTI file.

    Raises
    ------
    InputError
        nibabel is not installed, or the file is damaged or cut short.
    """
    return open_file(path, path, options)


def create_sink(path: str, image: ImageInfo, options: SinkOptions) -> Sink:
    """Return a sink that writes one NIfTI file, compressed where its name ends in .gz."""
    return NiftiSink(path, image, options)


def open_written(path: str, layouts: Sequence[Layout]) -> Written:
    """Return a file that a run wrote, or what it has gathered for it."""
    return WrittenFile(path, _finished, layouts)


def _finished(path: str, level: int) -> Source:
    return open_source(path, SourceOptions(level=level))


def open_file(path: str, file: str, options: SourceOptions) -> Source:
    """Open the NIfTI file that an image of the name `path` lies in."""
    check_one_level(path, options)
    image = _opened(file)
    layout = _layout(file, image)
    shape = _reversed_shape(layout.shape)
    axes, notes = _axes(path, image.header, len(shape))
    if options.unit is not None:
        notes = ()
    axes = with_options(path, shape, axes, options)
    order = canonical_order([axis.name for axis in axes])
    info = ImageInfo(
        shape=tuple(shape[axis] for axis in order),
        dtype=check_dtype(path, layout.image_dtype),
        axes=tuple(axes[axis] for axis in order),
        notes=notes,
    )
    return NiftiSource(path, file, info, layout, order)


class NiftiSource(Source):
    """The voxels of a NIfTI file, mapped into memory for each read."""

    cache_bytes = 0

    def __init__(self, path: str, file: str, info: ImageInfo, layout: _Layout, order: tuple[int, ...]) -> None:
        self.path = path
        self.file = file
        self.info = info
        self.layout = layout
        self.order = order
        self.staged_bytes = layout.file_bytes if file.endswith(".gz") else 0

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The affine, which belongs to NIfTI's order of axes (x, y, z), and what the header says of it."""
        return {"nifti": _placement(_opened(self.file))}

    def prepare(self) -> None:
        """Unpack a .nii.gz once, for all processes of this machine."""
        self._uncompressed()

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return the voxels of a region, with the file's slope and intercept applied."""
        stored = self.layout.view(str(self._uncompressed()))
        voxels = np.asarray(_reversed_axes(stored).transpose(self.order)[region.slices])
        if not self.layout.is_scaled:
            return np.array(voxels, dtype=self.layout.image_dtype, order="C")
        scaled = voxels.astype(np.float64) * self.layout.slope + self.layout.intercept
        return scaled.astype(self.layout.image_dtype, order="C", copy=False)

    def signature(self) -> str:
        """Return the format: all else stands in the file."""
        return "nifti"

    def files(self, region: Region) -> tuple[str, ...]:
        """Return the file."""
        del region
        return (self.file,)

    def _uncompressed(self) -> Path:
        return staged(self.file, self.layout.file_bytes) if self.file.endswith(".gz") else Path(self.file)


class NiftiSink(SingleFileSink):
    """A NIfTI file in the making; its voxels lie as in memory, one level."""

    def __init__(self, path: str, image: ImageInfo, options: SinkOptions) -> None:
        in_canonical_order(path, image)
        if image.dtype in NOT_WRITTEN:
            message = (
                f"{path}: NIfTI has no voxels of {image.dtype}; give the output `dtype: {NOT_WRITTEN[image.dtype]}`"
            )
            raise InputError(message)
        load_extra(path, "nibabel", "nifti")
        super().__init__(path, image, replace(options, pyramid=False))

    def _write(
        self,
        file: BinaryIO,
        provenance: Mapping[str, Any],
        windows: Windows,
        advance: Advance,
    ) -> None:
        header = written_header(load_extra(self.path, "nibabel", "nifti"), self.levels[0], provenance, windows)
        is_compressed = self.path.endswith(".gz")
        # Without a name and a time in it, equal images are equal files.
        stream = gzip.GzipFile("", "wb", COMPRESSION_LEVEL, file, mtime=0) if is_compressed else nullcontext(file)
        with stream as uncompressed:
            header.write_to(uncompressed)
            for voxels in self._slabs(0, advance, outermost="ct"):
                uncompressed.write(voxels.astype(voxels.dtype.newbyteorder("<"), order="C", copy=False).data)

    def _opened(self, level: int) -> Source:
        return _finished(self.path, level)


def _reversed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return _reversed_axes(np.broadcast_to(np.empty(()), shape)).shape


def _reversed_axes(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (x, y, z, t, c) as (t, c, z, y, x), a view."""
    turned = stored.T
    return turned.swapaxes(0, 1) if stored.ndim == len("tczyx") else turned


def _opened(file: str) -> Any:
    nibabel = load_extra(file, "nibabel", "nifti")
    try:
        image = nibabel.load(file, mmap=False)
    except (nibabel.filebasedimages.ImageFileError, *UNREADABLE) as error:
        message = f"{file}: is no NIfTI file that can be read ({error})"
        raise InputError(message) from error
    except nibabel.spatialimages.HeaderDataError as error:
        message = f"{file}: its NIfTI header makes no sense ({error})"
        raise InputError(message) from error
    return image


def _layout(file: str, image: Any) -> _Layout:
    proxy = image.dataobj
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > len("tczyx") and shape[-1] == 1:
        shape = shape[:-1]
    if min(shape, default=0) < 0 or int(proxy.offset) < 0:
        message = f"{file}: its NIfTI header makes no sense: voxels of shape {shape} from byte {int(proxy.offset)} on"
        raise InputError(message)
    if not 1 <= len(shape) <= len("tczyx"):
        message = f"{file}: has {len(shape)} axes {shape}; 1 to 5 can be filtered"
        raise InputError(message)
    if proxy.dtype.names:
        message = f"{file}: holds colours {proxy.dtype.names}, not numbers; convert it to one volume a channel"
        raise InputError(message)
    layout = _Layout(shape, proxy.dtype.str, int(proxy.offset), "F", float(proxy.slope), float(proxy.inter))
    if not file.endswith(".gz"):
        layout.check_size(file)
    return layout


def _axes(path: str, header: Any, ndim: int) -> tuple[tuple[Axis, ...], tuple[str, ...]]:
    """Return the axes with their voxel size, and what had to be assumed."""
    code = int(header["xyzt_units"])
    unit, time_unit = SPACE_UNITS.get(code & 7), TIME_UNITS.get(code & 56)
    spacing = dict(zip("xyztc", _steps(header), strict=True))
    axes = []
    invalid = []
    for axis in named_axes(path, AXIS_NAMES[ndim]):
        step = spacing[axis.name] if axis.kind != "channel" else 1.0
        # Many time axes have no step, and nothing depends on it.
        invalid += [axis.name] if step is None and axis.kind == "space" else []
        units = {"space": unit or "millimeter", "time": time_unit}
        axes.append(replace(axis, unit=units.get(axis.kind), spacing=step or 1.0))
    notes = []
    if unit is None:
        notes.append(f"{path}: the header leaves the unit unknown; NIfTI's millimetres are taken")
    if invalid:
        notes.append(f"{path}: the header has no voxel size along {', '.join(invalid)}; 1 is taken")
    return tuple(axes), tuple(notes)


def _steps(header: Any) -> tuple[float | None, ...]:
    """Return the distances of voxels along (x, y, z, t, c); None where there is none that can be."""
    zooms = (abs(float(zoom)) for zoom in header["pixdim"][1:6])
    return tuple(zoom if isfinite(zoom) and zoom > 0 else None for zoom in zooms)


def _placement(image: Any) -> dict[str, Any]:
    """Return where the voxels lie: the affine that counts, and what the header says of it."""
    header = image.header
    found: dict[str, Any] = {code: int(header[code]) for code in ("sform_code", "qform_code", "xyzt_units")}
    found["unit"] = SPACE_UNITS.get(found["xyzt_units"] & 7, "millimeter")
    steps = [step or 1.0 for step in _steps(header)[: min(3, len(image.shape))]]
    found["spacing_xyz"] = steps + [1.0] * (3 - len(steps))
    found["affine_xyz"] = _rows(image.affine)
    if found["sform_code"] > 0 and found["qform_code"] > 0:
        found["qform_xyz"] = _rows(header.get_qform())
    return found


def _rows(affine: npt.NDArray[Any]) -> list[list[float]]:
    return [[float(value) for value in row] for row in affine]
