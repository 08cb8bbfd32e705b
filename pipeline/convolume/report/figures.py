"""Figures: the same plane of several images side by side, and the three middle slices of one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convolume.errors import InputError, RunError, did_you_mean
from convolume.image import ImageInfo, default_axes
from convolume.report.measurements import Level, histograms_of
from convolume.report.planes import Plane, plane_of, read_plane, rows_go_up
from convolume.stores import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from convolume.planning.models import FigureSpec, Panel
    from convolume.regions import Region

__all__ = ["check_figure", "draw_figure", "slices_figure"]

GREY, DIVERGING = "gray", "RdBu_r"

_PANEL_INCHES = 3.4
_TALLEST, _FLATTEST = 1.8, 0.35
_DOTS_PER_INCH = 150
_OF_HISTOGRAMS = 0.75
_PERCENTILES = (0.5, 99.5)
# An image has two signs when the smaller side reaches this share of the larger: ringing is no sign.
_TWO_SIGNS = 0.05


def check_figure(spec: FigureSpec, images: Mapping[str, ImageInfo]) -> None:
    """Refuse, before a run begins, a figure that could not be drawn at its end.

    Parameters
    ----------
    spec : FigureSpec
        The figure.
    images : mapping of str to ImageInfo
        ``input`` and every output by name, finest level.

    Raises
    ------
    InputError
        matplotlib is not installed, the path's ending names no format, or an image, axis, position or colour map
        is not there.
    """
    _figure_class()
    _check_format(spec.path)
    for panel in spec.panels:
        image = _named(panel, images)
        if panel.show == "plane":
            plane_of(image, spec.plane, spec.crop)
        _check_colormap(panel.colormap)


def draw_figure(
    spec: FigureSpec, path: str, images: Mapping[str, Source], levels: Mapping[str, Level] | None = None
) -> None:
    """Draw the same plane of several images, or their histograms, and save it; only what is shown is read.

    Parameters
    ----------
    spec : FigureSpec
        Plane, crop and panels. Axes that are not named are cut in the middle (space) or at 0 (time, channel).
    path : str
        Where it is saved; the ending is the format, folders are made.
    images : mapping of str to Source
        The images that panels name. Rows go up where one of them carries a scanner's affine that says so.
    levels : mapping of str to Level
        Which level of an image histograms count; the image itself where none is named.

    Raises
    ------
    InputError
        As for `check_figure`.
    RunError
        The file could not be written.
    """
    check_figure(spec, {name: source.info for name, source in images.items()})
    planes = [
        plane_of(images[panel.image].info, spec.plane, spec.crop) if panel.show == "plane" else None
        for panel in spec.panels
    ]
    shown = [plane for plane in planes if plane]
    affine = next(filter(None, map(_affine_of, images.values())), None)
    columns = min(spec.columns, len(planes))
    figure, cells = _grid([1.0] * columns, -(-len(planes) // columns), max(map(_height_over_width, planes)))
    for cell, panel, plane in zip(cells, spec.panels, planes, strict=False):
        title = panel.title or panel.image
        if plane is None:
            _draw_histogram(cell, (levels or {}).get(panel.image) or Level(0, images[panel.image]), title)
        else:
            _draw(cell, read_plane(images[panel.image], plane), plane, title, panel.colormap, affine)
    for empty in cells[len(planes) :]:
        empty.set_axis_off()
    figure.suptitle(spec.title or (shown[0].where if shown else ""), parse_math=False)
    _save(figure, path)


def slices_figure(image: Source | npt.ArrayLike, info: ImageInfo | None = None, *, affine: Any = None) -> Figure:
    """Return a figure of the three orthogonal middle slices, or of the one plane of a 2-D image.

    Parameters
    ----------
    image : Source or array
        Only the slices are read (and computed, of a dask array).
    info : ImageInfo, optional
        Axes and voxel size of an array; without it, voxels are cubes.
    affine : 4 x 4 numbers, optional
        The scanner's affine of an array, for (x, y, z); a source may carry its own.

    Returns
    -------
    matplotlib.figure.Figure
        Not bound to any window; notebooks show it.

    Raises
    ------
    InputError
        matplotlib is not installed, or the image has fewer than two space axes.

    Examples
    --------
    >>> import numpy as np
    >>> figure = slices_figure(np.zeros((4, 5, 6)))
    >>> [axes.get_title() for axes in figure.axes]
    ['z = 2', 'y = 2', 'x = 3']
    """
    _figure_class()
    source = image if isinstance(image, Source) else _ArraySource(image, info)
    info = source.info
    space = [info.axes[i].name for i in info.space_axes]
    across: list[dict[str, int]] = [{}]
    if len(space) > 2:  # noqa: PLR2004 - a volume
        across = [{name: info.shape[info.space_axes[i]] // 2} for i, name in enumerate(space)]
    planes = [plane_of(info, position, {}) for position in across]
    pictures = [read_plane(source, plane) for plane in planes]
    limits = _limits(np.concatenate([picture.ravel() for picture in pictures]))
    # One scale for all slices: each cell is as wide as what it shows.
    widths = [abs(plane.extent[1] - plane.extent[0]) for plane in planes]
    tallest = max(width * plane.height_over_width for width, plane in zip(widths, planes, strict=True))
    figure, cells = _grid(widths, 1, tallest * len(widths) / sum(widths))
    affine = affine if affine is not None else _affine_of(source)
    for cell, picture, plane in zip(cells, pictures, planes, strict=True):
        shown = _imshow(cell, picture, plane, None, limits, affine)
        cell.set_title(plane.where, parse_math=False)
    _colour_bar(cells[-1], shown, limits, pictures)
    return figure


class _ArraySource(Source):
    """An array, NumPy or dask, that is read by region."""

    def __init__(self, array: Any, info: ImageInfo | None) -> None:
        self.path = "an array"
        self._array = array if hasattr(array, "shape") else np.asarray(array)
        shape = tuple(self._array.shape)
        self.info = info or ImageInfo(shape, str(self._array.dtype), default_axes(len(shape)))

    def read(self, region: Region) -> npt.NDArray[Any]:
        return np.asarray(self._array[region.slices])

    def signature(self) -> str:
        return self.path


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure as FigureClass  # noqa: PLC0415 - an extra
    except ImportError as error:
        message = "figures need matplotlib, which is not installed: pip install 'convolume[figures]'"
        raise InputError(message) from error
    return FigureClass


def _grid(widths: list[float], rows: int, ratio: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with cells of the pictures' shape: never pyplot, whose state belongs to the user."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415 - an extra

    height = _PANEL_INCHES * min(max(ratio, _FLATTEST), _TALLEST)
    size = (len(widths) * (_PANEL_INCHES + 1.1), rows * (height + 0.7))
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08, wspace=0.03)
    figure = _figure_class()(figsize=size, dpi=_DOTS_PER_INCH, layout=layout)
    cells = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths)
    return figure, list(cells.ravel())


def _height_over_width(plane: Plane | None) -> float:
    return _OF_HISTOGRAMS if plane is None else plane.height_over_width


def _draw_histogram(cell: Axes, level: Level, title: str) -> None:
    """Draw a line for each channel: how many voxels have which value; on a logarithmic scale, as few are bright."""
    cell.set_title(title, parse_math=False)
    try:
        histograms = histograms_of(level)
    except InputError as error:
        # The outputs are written: a run does not fail for want of a picture.
        cell.set_axis_off()
        cell.text(0.5, 0.5, str(error), ha="center", va="center", wrap=True, fontsize="small", parse_math=False)
        return
    for histogram in histograms:
        cell.stairs(histogram.counts, histogram.edges, label=histogram.channel or None)
    cell.set_yscale("symlog", linthresh=1)
    cell.set_ylim(bottom=0)
    cell.set_xlabel("value")
    cell.set_ylabel("voxels" if level.number == 0 else f"voxels of level {level.number}")
    cell.tick_params(labelsize="small")
    if any(histogram.channel for histogram in histograms):
        cell.legend(fontsize="small")


def _draw(cell: Axes, voxels: npt.NDArray[Any], plane: Plane, title: str, colormap: str | None, affine: Any) -> None:
    limits = _limits(voxels)
    shown = _imshow(cell, voxels, plane, colormap, limits, affine)
    cell.set_title(title, parse_math=False)
    _colour_bar(cell, shown, limits, [voxels])


def _imshow(
    cell: Axes,
    voxels: npt.NDArray[Any],
    plane: Plane,
    colormap: str | None,
    limits: tuple[float, float],
    affine: Any,
) -> AxesImage:
    left, right, first, last = plane.extent
    goes_up = rows_go_up(affine, plane.names[0])
    shown = cell.imshow(
        voxels if voxels.dtype.kind != "b" else voxels.astype(np.uint8),
        cmap=colormap or (DIVERGING if limits[0] < 0 < limits[1] else GREY),
        vmin=limits[0],
        vmax=limits[1],
        origin="lower" if goes_up else "upper",
        extent=(left, right, first, last) if goes_up else (left, right, last, first),
        interpolation="nearest",
        aspect="equal",
    )
    rows, columns = plane.names
    cell.set_xlabel(f"{columns} ({plane.unit})", parse_math=False)
    cell.set_ylabel(f"{rows} ({plane.unit})", parse_math=False)
    cell.tick_params(labelsize="small")
    return shown


def _limits(voxels: npt.NDArray[Any]) -> tuple[float, float]:
    """Return colour limits that a few extreme voxels do not spoil; around zero where both signs matter."""
    finite = voxels[np.isfinite(voxels)].astype(np.float64)
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, _PERCENTILES))
    if low == high:
        low, high = float(finite.min()), float(finite.max())
    smaller, larger = sorted((-low, high))
    if smaller > _TWO_SIGNS * larger:
        return -larger, larger
    if low == high:
        return (0.0, high) if high > 0 else (low, 0.0) if low < 0 else (0.0, 1.0)
    # Black is zero wherever zero is near.
    return (0.0 if 0 < low < high / 2 or low < 0 < high else low), high


def _colour_bar(cell: Axes, shown: AxesImage, limits: tuple[float, float], pictures: list[npt.NDArray[Any]]) -> None:
    """Draw a bar exactly as high as its picture, with arrows where values lie beyond the limits."""
    from matplotlib.ticker import ScalarFormatter  # noqa: PLC0415 - an extra

    is_below = any(np.any(picture < limits[0]) for picture in pictures)
    is_above = any(np.any(picture > limits[1]) for picture in pictures)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((is_below, is_above), "both")
    numbers = ScalarFormatter()
    numbers.set_powerlimits((-3, 5))
    bar = cell.figure.colorbar(shown, cax=cell.inset_axes((1.04, 0.0, 0.05, 1.0)), extend=extend, format=numbers)
    bar.ax.tick_params(labelsize="small")


def _affine_of(source: Source) -> Any:
    return source.metadata.get("nifti", {}).get("affine_xyz")


def _named(panel: Panel, images: Mapping[str, Any]) -> Any:
    if panel.image not in images:
        known = ", ".join(images)
        message = f"a panel names the image {panel.image!r}{did_you_mean(panel.image, images)} (there are: {known})"
        raise InputError(message)
    return images[panel.image]


def _check_colormap(name: str | None) -> None:
    from matplotlib import colormaps  # noqa: PLC0415 - an extra

    if name is not None and name not in colormaps:
        message = f"matplotlib has no colour map {name!r}{did_you_mean(name, colormaps)}"
        raise InputError(message)


def _check_format(path: str) -> None:
    from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415 - an extra

    known = FigureCanvasBase.get_supported_filetypes()
    ending = Path(path).suffix.removeprefix(".").lower()
    if ending not in known:
        message = f"{path}: a figure's ending names its format, one of {', '.join(known)}"
        raise InputError(message)


def _save(figure: Figure, path: str) -> None:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        message = f"{path}: the figure could not be written ({error.strerror or error}); the images were"
        raise RunError(message) from error
