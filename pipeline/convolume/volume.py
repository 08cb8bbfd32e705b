"""Volume: an image with axes and voxel size, filtered lazily; it builds the same workflow as a YAML file does."""

from __future__ import annotations

import re
import weakref
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from convolume import stores
from convolume.errors import InputError
from convolume.filters import filter_class, make_filter, signature_of
from convolume.lengths import Length
from convolume.planning.models import Step
from convolume.planning.spec import read_workflow, to_yaml
from convolume.preparation import source_options
from convolume.registry import member_names
from convolume.report.wording import bytes_text, labelled, shape_text
from convolume.runner import plan, run
from convolume.stores import lazy, memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import dask.array as da
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from convolume.image import ImageInfo
    from convolume.planning.plan import Plan
    from convolume.records import RunRecord
    from convolume.stores import Source

__all__ = ["Volume", "save"]

_SHOWN_OUTPUT = "result.ome.zarr"


@dataclass(frozen=True, eq=False)
class Volume:
    """An image with axes and voxel size, and the filters that are to be done on it.

    Nothing is read until `compute`, `save` or `show`. Every filter in ``filters/`` is a method that returns
    a new Volume; parameters have scipy.ndimage's names. Make one with `open` or `from_array`.

    Examples
    --------
    >>> import numpy as np
    >>> spots = np.zeros((5, 5), np.float32)
    >>> spots[2, 2] = 9
    >>> Volume.from_array(spots).box(3).compute()[1:4, 1:4].tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    _input: Mapping[str, Any]
    _source: Source
    _steps: tuple[Step, ...] = ()
    _settings: Mapping[str, Any] = field(default_factory=dict)
    _holder: Any = None

    @classmethod
    def open(
        cls, path: str, *, mode: str = "reflect", cval: float = 0.0, method: str = "auto", **selection: Any
    ) -> Volume:
        """Open an image in any format that Convolume reads; no voxel is read.

        Parameters
        ----------
        path : str
            A file, a folder, or a scheme such as ``sample:mni152-t1``.
        mode, cval
            Boundary mode and constant for filters that name none of their own.
        method : {'auto', 'direct', 'separable', 'fft'}
            How dense kernels are weighed, for filters that do not say.
        **selection
            What a workflow's ``input:`` takes: `level`, `channel`, `time`, `region` (``{"z": (10, 60)}``),
            `axes` (``"zyx"``), `spacing` (``"0.5 um"``), `dataset` (``"/volumes/raw"``, of HDF5).

        Raises
        ------
        InputError
            Nothing is there, no format knows it, or the selection does not fit.
        """
        workflow = read_workflow(
            {
                "input": {"path": str(path), **selection},
                "outputs": {"unused": {"path": _name("unused")}},
                "mode": str(mode),
                "cval": cval,
                "method": method,
            }
        ).model
        source = stores.open_source(workflow.input.path, source_options(workflow))
        settings = {"mode": str(workflow.mode), "cval": workflow.cval, "method": workflow.method}
        return cls(workflow.input.model_dump(exclude_defaults=True), source, (), settings)

    @classmethod
    def from_array(
        cls,
        array: npt.ArrayLike | da.Array,
        *,
        spacing: float | str | Sequence[float | str] | None = None,
        axes: str | None = None,
        mode: str = "reflect",
        cval: float = 0.0,
        method: str = "auto",
    ) -> Volume:
        """Make a Volume of a NumPy or dask array; nothing is copied.

        Parameters
        ----------
        array : array_like or dask.array.Array
            At most (t, c, z, y, x), real.
        spacing : number, text or sequence, optional
            Voxel size, one for all space axes or one an axis: ``0.5``, ``"0.5 um"``, ``["2 um", "0.5 um", "0.5 um"]``.
        axes : str, optional
            Their names, such as ``"czyx"``; the last of ``tczyx`` where nothing is given.
        mode, cval
            Boundary mode and constant for filters that name none of their own.
        method : {'auto', 'direct', 'separable', 'fft'}
            How dense kernels are weighed, for filters that do not say.
        """
        is_dask = type(array).__module__.startswith("dask.array")
        family, path = (lazy, _name("volume", "lazy")) if is_dask else (memory, _name("volume"))
        name = path.partition(":")[2]
        family.put(name, array if is_dask else np.asarray(array))
        holder = _Holder("dask array" if is_dask else "NumPy array")
        weakref.finalize(holder, family.drop, name)
        spacing = spacing.tolist() if isinstance(spacing, np.ndarray | np.generic) else spacing
        selection = {key: value for key, value in (("axes", axes), ("spacing", spacing)) if value is not None}
        opened = cls.open(path, mode=mode, cval=cval, method=method, **selection)
        return replace(opened, _holder=holder)

    @property
    def info(self) -> ImageInfo:
        """Shape, dtype, axes and voxel size of the image, as it was opened."""
        return self._source.info

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents in the order of the axes; filters keep them."""
        return self.info.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.info.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the result where none is named."""
        from convolume.numerics import default_result_dtype  # noqa: PLC0415

        return default_result_dtype(self.info.dtype) if self._steps else np.dtype(self.info.dtype)

    @property
    def steps(self) -> tuple[str, ...]:
        """The filters that are to be done, as a workflow writes them."""
        return tuple(_step_text(step) for step in self._steps)

    def filter(self, name: str, /, *positional: Any, **parameters: Any) -> Volume:
        """Return a new Volume with one filter more; ``volume.gaussian(2)`` is ``volume.filter("gaussian", 2)``.

        Raises
        ------
        InputError
            There is no such filter, or its parameters are wrong.
        """
        named = signature_of(filter_class(name)).bind_partial(*positional).arguments
        if twice := named.keys() & parameters.keys():
            message = f"{name}: {', '.join(sorted(twice))} is given twice, by position and by name"
            raise InputError(message)
        step = Step.model_validate({"name": name, "filter": make_filter(name, **named, **parameters)})
        return replace(self, _steps=(*self._steps, step))

    def __getattr__(self, name: str) -> Callable[..., Volume]:
        """Return a filter of this name as a method."""
        if name.startswith("_") or name not in member_names("filters"):
            message = f"a Volume has no {name!r}: its filters are {', '.join(member_names('filters'))}"
            raise AttributeError(message)
        method = partial(self.filter, name)
        found = filter_class(name)
        method.__doc__, method.__signature__ = found.__doc__, signature_of(found)  # type: ignore[attr-defined]
        return method

    def __dir__(self) -> list[str]:
        """Name the filters too."""
        return sorted({*object.__dir__(self), *member_names("filters")})

    def compute(self, dtype: npt.DTypeLike | None = None, *, overflow: str = "saturate") -> npt.NDArray[Any]:
        """Return the result as a NumPy array.

        Parameters
        ----------
        dtype : dtype, optional
            Integers are rounded half to even; without one, floats keep theirs and integers give float32.
        overflow : {'saturate', 'error'}
            What happens to values that an integer dtype cannot hold.

        Notes
        -----
        NumPy arrays are filtered in this process; files and dask arrays on the active `distributed.Client`, where
        there is one, else in threads.
        """
        if self._source.crosses_processes:
            result: npt.NDArray[Any] = self._lazily(dtype, overflow).compute()
            return result
        path = _name("result")
        name = path.partition(":")[2]
        options = {"dtype": dtype, "overflow": overflow, "pyramid": False}
        try:
            run({**self._workflow(path, options), "strategy": "in_memory"}, config=_config_for(self.image))
            return memory.get(name)
        finally:
            memory.drop(name)

    def save(self, path: str, **options: Any) -> RunRecord:
        """Write the result, as an OME-Zarr where no other `format` is named, and return the run's record.

        Parameters
        ----------
        path : str
            Where it is written.
        **options
            What a workflow's output takes: `format`, `dtype`, `overflow`, `pyramid`, `chunks`, `shards`, `if_exists`.
        """
        return run(self._workflow(str(path), options), config=_config_for(self.image))

    @property
    def dask(self) -> da.Array:
        """The result as a lazy dask array, made with ``map_overlap``; it composes with other dask code."""
        return self._lazily(None, "saturate")

    def plan(self, path: str = _SHOWN_OUTPUT, **options: Any) -> Plan:
        """Return what `save` would do; nothing is read or written."""
        return plan(self._workflow(str(path), options), config=_config_for(self.image))

    def workflow(self, path: str = _SHOWN_OUTPUT, **options: Any) -> str:
        """Return the workflow of `save` as YAML.

        Examples
        --------
        >>> import numpy as np
        >>> print(Volume.from_array(np.ones((4, 4))).laplace().workflow().partition("outputs")[2])
        :
          result:
            path: result.ome.zarr
            steps: [laplace]
        <BLANKLINE>
        """
        return to_yaml(read_workflow(self._workflow(str(path), options)).model)

    def show(self) -> Figure:
        """Return the middle slices of the result as a matplotlib figure; only their neighbourhood is computed."""
        from convolume.report.figures import slices_figure  # noqa: PLC0415 - matplotlib is an extra

        lazily = self._lazily(None, "saturate")
        affine = self._source.metadata.get("nifti", {}).get("affine_xyz")
        return slices_figure(lazily, self.info.with_(dtype=lazily.dtype.name), affine=affine)

    @property
    def image(self) -> dict[str, Any]:
        """What is filtered, as a workflow has it: `input`, `mode` and `cval`."""
        return {"input": dict(self._input), **self._settings}

    def output(self, path: str, **options: Any) -> dict[str, Any]:
        """Return what `save` writes, as a workflow has it; with `image` it makes up workflows of several outputs.

        Examples
        --------
        >>> import numpy as np
        >>> Volume.from_array(np.ones((4, 4))).laplace().output("edges.ome.zarr", dtype="float32")
        {'path': 'edges.ome.zarr', 'steps': ['laplace'], 'dtype': 'float32'}
        """
        written = {key: value for key, value in options.items() if value is not None}
        if "dtype" in written:
            written["dtype"] = np.dtype(written["dtype"]).name
        return {"path": str(path), "steps": [step.model_dump() for step in self._steps], **written}

    def _workflow(self, path: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.image, "outputs": {"result": self.output(path, **options)}}

    def _lazily(self, dtype: npt.DTypeLike | None, overflow: str) -> da.Array:
        from convolume.execution.overlap import filter_lazily, lazy_source  # noqa: PLC0415
        from convolume.preparation import prepare_job  # noqa: PLC0415

        document = read_workflow(self._workflow(_name("unused"), {"dtype": dtype, "overflow": overflow}))
        job = prepare_job(document, self._source)
        source = self._source if self._source.crosses_processes else lazy.holding(self._source)
        return filter_lazily(lazy_source(source, lazy.chunks_of(source)), job)

    def __repr__(self) -> str:
        """Return shape, axes, dtype, voxel size and filters on lines that fit into a terminal."""
        rows = [("Volume", self._heading()), *self._rows()]
        return "\n".join(line for label, value in rows for line in labelled(label, [value], indent=9))

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{label}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for label, value in self._rows()
        )
        return f"<table><caption>Volume: {escape(self._heading())}</caption>{cells}</table>"

    def _heading(self) -> str:
        names = ", ".join(axis.name for axis in self.info.axes)
        return f"({names}) = {shape_text(self.shape)}, {self.dtype}"

    def _rows(self) -> list[tuple[str, str]]:
        spacing = ", ".join(
            f"{axis.name} {Length(axis.spacing, axis.unit or '')}" for axis in self.info.axes if axis.kind == "space"
        )
        where = self._holder.kind if self._holder else self._source.path
        input_text = f"{where}, {self.info.dtype}, {bytes_text(self.info.size_bytes)}"
        rows = [("input", input_text), ("voxel", spacing), ("filters", " > ".join(self.steps) or "none")]
        return [row for row in rows if row[1]] + [("note", note) for note in self.info.notes]


def save(volumes: Mapping[str, Volume], **options: Any) -> RunRecord:
    """Write several volumes of one image in one run: it is read once, and what their filters share is done once.

    Parameters
    ----------
    volumes : mapping
        What is written, by its path.
    **options
        As for `Volume.save`, and the same for all.

    Raises
    ------
    InputError
        There are no volumes, or they begin with different images, modes or constants.

    Examples
    --------
    >>> import numpy as np
    >>> volume = Volume.from_array(np.ones((4, 4)))
    >>> record = save({f"memory:smooth-{sigma}": volume.gaussian(sigma) for sigma in (1, 2, 4)}, pyramid=False)
    >>> [output.name for output in record.outputs]
    ['smooth-1', 'smooth-2', 'smooth-4']
    """
    images = [volume.image for volume in volumes.values()]
    different = [path for path, image in zip(volumes, images, strict=True) if image != images[0]]
    if different or not images:
        what = f"{different[0]} begins with another image, mode or constant" if different else "there are no volumes"
        message = f"{what}: save together what is made of one Volume"
        raise InputError(message)
    names = _names_of(list(map(str, volumes)))
    outputs = {
        name: volume.output(path, **options) for name, (path, volume) in zip(names, volumes.items(), strict=True)
    }
    return run({**images[0], "outputs": outputs}, config=_config_for(images[0]))


def _names_of(paths: list[str]) -> list[str]:
    """Return what outputs are called: the last parts of their paths, all with a number where these would not do."""
    stems = [re.sub(r"(\.ome)?\.zarr$", "", re.split(r"[/:]", path.rstrip("/"))[-1]) for path in paths]
    names = [re.sub(r"^\W+|[^\w-]+", "_", stem) for stem in stems]
    is_fit = len({*names, "input"}) == len(names) + 1
    return names if is_fit else [f"{name}-{number}" for number, name in enumerate(names, start=1)]


def _config_for(image: Mapping[str, Any]) -> dict[str, str] | None:
    """Arrays of this process are filtered here; the rest may go to an active dask client."""
    return {"cluster": "in_process"} if memory.recognises(image["input"]["path"]) else None


class _Holder:
    """Keeps an array's name alive as long as a Volume uses it, and knows what kind of array it is."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __deepcopy__(self, memo: dict[int, Any]) -> _Holder:
        """Return the same one: a copied Volume uses the same array."""
        return self


def _name(what: str, scheme: str = "memory") -> str:
    """Return a path in this process's memory that nothing else has."""
    return f"{scheme}:{what}-{uuid4().hex[:8]}"


def _step_text(step: Step) -> str:
    written = step.model_dump()
    if isinstance(written, str):
        return written
    values = ", ".join(f"{key}={_short(value)}" for key, value in written[step.name].items())
    return f"{step.name}({values})"


def _short(value: Any) -> str:
    array = np.asarray(value) if isinstance(value, (list, tuple, np.ndarray)) else None
    return f"<{' x '.join(map(str, array.shape))}>" if array is not None and array.size > 8 else str(value)  # noqa: PLR2004
