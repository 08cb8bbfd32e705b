"""A workflow as a frozen model: what is run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializeAsAny,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from convolume.boundary import BoundaryMode
from convolume.errors import InputError, did_you_mean
from convolume.filters import Filter, filter_class
from convolume.lengths import Length
from convolume.operations import Method  # noqa: TC001 - pydantic reads it when the class is made
from convolume.planning.contradictions import contradictions

__all__ = [
    "Count",
    "FigureSpec",
    "InputSpec",
    "OutputSpec",
    "Panel",
    "Part",
    "PathText",
    "Step",
    "Workflow",
]

DTYPES = (
    *("uint8", "uint16", "uint32", "uint64"),
    *("int8", "int16", "int32", "int64"),
    *("float32", "float64"),
)


def _interval(interval: tuple[int, int]) -> tuple[int, int]:
    start, stop = interval
    if not 0 <= start < stop:
        message = f"{start} to {stop} holds no voxels: write [start, stop] with 0 <= start < stop"
        raise InputError(message)
    return interval


def _path(path: str) -> str:
    if not path.strip() or "\0" in path:
        message = "a path is needed here, and this text is empty or holds a NUL character"
        raise InputError(message)
    return path


def _axes(axes: str) -> str:
    if not axes or set(axes) - set("tczyx") or len(set(axes)) < len(axes):
        message = f"{axes!r} does not name axes: write each of t, c, z, y, x at most once, such as 'zyx'"
        raise InputError(message)
    return axes


def _dataset(name: str) -> str:
    if not name.strip("/ ") or "\0" in name:
        message = f"{name!r} names no dataset: write its path in the file, such as '/volumes/raw'"
        raise InputError(message)
    return name


def _channel(written: int | str | None) -> int | str | None:
    is_position = isinstance(written, int) and not isinstance(written, bool) and written >= 0
    if written is None or is_position or (isinstance(written, str) and written):
        return written
    message = "write the channel's position, counted from 0, or its name"
    raise InputError(message)


def _dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        message = f"{dtype!r} is not a dtype of images{did_you_mean(dtype, DTYPES)} (there are: {', '.join(DTYPES)})"
        raise InputError(message)
    return dtype


def _spacing(written: Any) -> Length | tuple[Length, ...]:
    if isinstance(written, (list, tuple)) and written:
        return tuple(_voxel_size(entry) for entry in written)
    return _voxel_size(written)


def _voxel_size(written: Any) -> Length:
    length = Length.parse(written)
    if not 0 < length.value < math.inf:
        message = f"{length} is not the size of a voxel: it is larger than 0"
        raise InputError(message)
    return length


def _write_spacing(spacing: Length | tuple[Length, ...] | None) -> Any:
    if isinstance(spacing, tuple):
        return [_write_spacing(length) for length in spacing]
    return str(spacing) if spacing and spacing.unit else spacing and spacing.value


Count = Annotated[StrictInt, Field(ge=1)]
Index = Annotated[StrictInt, Field(ge=0)]
Shape = Annotated[tuple[Count, ...], Field(min_length=1)]
Interval = Annotated[tuple[StrictInt, StrictInt], AfterValidator(_interval)]
PathText = Annotated[StrictStr, AfterValidator(_path)]
Spacing = Annotated[Length | tuple[Length, ...], PlainValidator(_spacing), PlainSerializer(_write_spacing)]


class Part(BaseModel):
    """A part of a document: frozen, and without keys that are not known."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class InputSpec(Part):
    """The image that is filtered."""

    path: PathText
    """A file or folder, or a scheme such as ``sample:mni152-t1``."""
    level: Index = 0
    """Level of a multiscale image, 0 the finest."""
    channel: Annotated[int | str | None, PlainValidator(_channel)] = None
    """The one channel that is read, by position or name; all of them where none is named."""
    time: Index | None = None
    """The one time point that is read; all of them where none is named."""
    region: dict[str, Interval] = {}
    """A crop: ``[start, stop]`` in voxels for any of the axes; the boundary is at its edge."""
    axes: Annotated[StrictStr, AfterValidator(_axes)] | None = None
    """Names of the axes, such as ``zyx``, for formats that do not tell."""
    spacing: Spacing | None = None
    """Voxel size, one length for all space axes or one an axis, for formats that do not tell."""
    dataset: Annotated[StrictStr, AfterValidator(_dataset)] | None = None
    """The one array that is read of an HDF5 file, by its path in the file; the only image where none is named."""
    missing: Literal["error", "fill"] = "error"
    """What a file of voxels that is not there means, for Zarr: a fault, or voxels of the fill value."""


class Step(Part):
    """One filter of an output: in the YAML ``gaussian: {sigma: 2}``, or the bare name.

    Examples
    --------
    >>> Step.model_validate({"gaussian": {"sigma": 2}}).name
    'gaussian'
    """

    name: str
    """The filter's file in ``filters/``."""
    filter: SerializeAsAny[Filter]
    """The filter with its parameters."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, written: Any) -> Any:
        if isinstance(written, Step) or (isinstance(written, Mapping) and isinstance(written.get("filter"), Filter)):
            return written
        if isinstance(written, str):
            written = {written: None}
        if not isinstance(written, Mapping) or not written:
            message = "a step is a filter's name, with its parameters under it: gaussian: {sigma: 2}"
            raise InputError(message)
        if len(written) > 1:
            keys = ", ".join(str(key) for key in written)
            message = f"a step is one filter, and this one has {len(written)} keys ({keys}): indent parameters under it"
            raise InputError(message)
        (name, parameters), *_ = written.items()
        # A mapping of one entry, so that mistakes in a parameter are told under the filter's name.
        made = _one_filter(name).validate_python({name: {} if parameters is None else parameters})
        return {"name": name, "filter": made[name]}

    @model_serializer
    def _write(self) -> Any:
        parameters = self.filter.model_dump(exclude_defaults=True)
        return {self.name: parameters} if parameters else self.name


@cache
def _one_filter(name: str) -> TypeAdapter[dict[str, Filter]]:
    kind: Any = dict[str, filter_class(name)]  # type: ignore[misc]  # the class is found when the document is read
    return TypeAdapter(kind)


class OutputSpec(Part):
    """One result: where it goes and the chain of filters that makes it; without steps, a copy."""

    path: PathText
    """Where the result is written."""
    format: Literal["ome-zarr", "ome-zarr-0.4", "zarr"] = "ome-zarr"
    """OME-Zarr 0.5, OME-Zarr 0.4 for older readers, or a plain Zarr array."""
    steps: tuple[Step, ...] = ()
    """The filters, in the order in which they are done."""
    dtype: Annotated[StrictStr, AfterValidator(_dtype)] | None = None
    """Dtype of the voxels; where none is named floats and copies keep theirs, and filtered integers give float32."""
    overflow: Literal["saturate", "error"] = "saturate"
    """What happens to values that an integer dtype cannot hold."""
    pyramid: StrictBool = True
    """Whether coarser levels are written, for viewers."""
    chunks: Shape | None = None
    """Extents of a chunk in voxels."""
    shards: Shape | None = None
    """Extents of a shard in voxels: whole chunks."""
    if_exists: Literal["error", "overwrite"] = "error"
    """What happens where the path holds an image already."""

    @field_validator("shards")
    @classmethod
    def _whole_chunks(cls, shards: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...] | None:
        chunks = info.data.get("chunks")
        if (
            shards
            and chunks
            and (len(shards) != len(chunks) or any(s % c for s, c in zip(shards, chunks, strict=True)))
        ):
            message = f"a shard of {list(shards)} is not made of whole chunks of {list(chunks)}"
            raise InputError(message)
        return shards


class Panel(Part):
    """One picture of a figure; its image's bare name is enough."""

    image: StrictStr
    """``input``, or an output's name."""
    show: Literal["plane", "histogram"] = "plane"
    """The plane, or how often each value occurs, a line for each channel."""
    title: StrictStr | None = None
    """What stands above it; the image's name where nothing is given."""
    colormap: StrictStr | None = None
    """A name of matplotlib's colour maps."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, written: Any) -> Any:
        return {"image": written} if isinstance(written, str) else written

    @model_serializer(mode="wrap")
    def _write(self, handler: Any) -> Any:
        written = handler(self)
        return self.image if set(written) == {"image"} else written


class FigureSpec(Part):
    """One figure: the same plane of several images side by side."""

    path: PathText
    """Where the figure is written; the ending is its format."""
    plane: dict[str, Index] = {}
    """Position on each axis that the plane lies across, in voxels: ``{z: 90}``."""
    crop: dict[str, Interval] = {}
    """``[start, stop]`` in voxels on the axes that are shown."""
    panels: Annotated[tuple[Panel, ...], Field(min_length=1)]
    """The pictures, row by row."""
    columns: Count = 2
    """Pictures in a row."""
    title: StrictStr | None = None
    """What stands above the whole figure."""

    @field_validator("crop")
    @classmethod
    def _shown(cls, crop: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        both = sorted(set(crop) & set(info.data.get("plane") or {}))
        if both:
            message = f"axis {both[0]!r} is cropped, and the plane lies across it: keep one of the two"
            raise InputError(message)
        return crop


class Workflow(Part):
    """What is run: one input, and one or more outputs that are made from one read of each block."""

    name: StrictStr | None = None
    """What reports and the dashboard call the run."""
    input: InputSpec
    """The image that is filtered."""
    outputs: Annotated[dict[str, OutputSpec], Field(min_length=1)]
    """The results by name."""
    mode: BoundaryMode = BoundaryMode.REFLECT
    """How the image goes on beyond its faces, for steps that do not say."""
    cval: StrictFloat = 0.0
    """Constant of the constant modes, for steps that do not say."""
    strategy: Literal["auto", "windows", "overlap", "in_memory"] = "auto"
    """How blocks are driven."""
    precision: Literal["single", "double"] = "single"
    """How sums are kept."""
    method: Method = "auto"
    """How dense kernels are weighed, for steps that do not say."""
    block: Shape | None = None
    """Extents of a block in voxels; chosen by the plan where none is named."""
    figures: tuple[FigureSpec, ...] = ()
    """Figures that are drawn from the finished outputs."""
    measure: StrictBool = False
    """Whether minimum, maximum, mean and deviation of input and outputs are told, channel by channel."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for _, what in contradictions(self):
            kind = "contradiction"
            raise PydanticCustomError(kind, "{what}", {"what": what})
        return self
