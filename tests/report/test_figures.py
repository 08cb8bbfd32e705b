"""Figures, read back: their axes, limits and pixels."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from convolume.errors import InputError, RunError
from convolume.image import Axis, ImageInfo
from convolume.planning.models import FigureSpec
from convolume.report.figures import check_figure, draw_figure, slices_figure
from convolume.report.measurements import Level
from convolume.stores import Source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from convolume.regions import Region

RAS = np.eye(4).tolist()
AXES = tuple(Axis(name, "space", "micrometer", spacing) for name, spacing in zip("zyx", (2.0, 0.5, 0.25), strict=True))


class Picture(Source):
    """An array with voxels of 2.0 x 0.5 x 0.25 um."""

    path = "picture"

    def __init__(self, array: npt.NDArray[Any], affine: Any = None) -> None:
        """Take a volume (z, y, x)."""
        self.array = array
        self.info = ImageInfo(array.shape, str(array.dtype), AXES)
        self.affine = affine

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Return the affine as NIfTI files do."""
        return {} if self.affine is None else {"nifti": {"affine_xyz": self.affine}}

    def read(self, region: Region) -> npt.NDArray[Any]:
        """Return voxels."""
        return self.array[region.slices]

    def signature(self) -> str:
        """Return its name."""
        return self.path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *arguments: Any, **settings: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def spec(**settings: Any) -> FigureSpec:
    """Return a figure of the input, unless told otherwise."""
    return FigureSpec.model_validate({"path": "figure.png", "panels": ["input"], **settings})


def ramp(shape: tuple[int, ...] = (3, 8, 16)) -> npt.NDArray[np.float32]:
    """Return a volume whose voxels are all different."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_four_panels_with_titles_bars_and_units(tmp_path: Path, drawn: list[Figure]) -> None:
    """Two by two, the order of the document, a bar each, aspect from the voxels' size."""
    values = ramp()
    images = {"input": Picture(values), "laplacian": Picture(values - values.mean()), "sum": Picture(9 * values)}
    path = tmp_path / "made" / "figure.png"
    panels = [{"image": "input", "title": "$original_"}, "laplacian", "sum", {"image": "sum", "colormap": "viridis"}]
    draw_figure(spec(panels=panels, plane={"z": 1}, crop={"x": [4, 12]}, title="tour"), str(path), images)
    figure = drawn[0]
    assert [axes.get_title() for axes in figure.axes] == ["$original_", "laplacian", "sum", "sum"]
    assert figure.get_suptitle() == "tour"
    rows = {axes.get_subplotspec().rowspan.start for axes in figure.axes}
    assert rows == {0, 1}
    for axes, image in zip(figure.axes, ("input", "laplacian", "sum", "sum"), strict=True):
        (shown,) = axes.images
        np.testing.assert_array_equal(shown.get_array(), images[image].array[1, :, 4:12])
        assert shown.get_extent() == pytest.approx([0.875, 2.875, 3.75, -0.25])
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (µm)", "y (µm)")
        assert shown.colorbar is not None
        box = axes.get_position().bounds
        height_over_width = box[3] * figure.get_figheight() / (box[2] * figure.get_figwidth())
        assert height_over_width == pytest.approx(2.0, rel=0.01)
    colours = [axes.images[0].get_cmap().name for axes in figure.axes]
    assert colours == ["gray", "RdBu_r", "gray", "viridis"]
    pixels = imread(path)
    assert pixels[..., :3].std() > 0.1


def limits(values: npt.ArrayLike) -> tuple[float, float]:
    """Return the colour limits that a plane of these values gets."""
    plane = np.asarray(values, dtype=np.float64).reshape(1, -1)
    (axes,) = slices_figure(plane).axes
    return axes.images[0].get_clim()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros(100), (0, 1)),
        (np.full(100, 7.0), (0, 7)),
        (np.full(100, -7.0), (-7, 0)),
        (np.linspace(0, 10, 1001), (0, 9.95)),
        (np.linspace(900, 1000, 1001), (900.5, 999.5)),
        (np.linspace(-4, 10, 1001), (-9.93, 9.93)),
        (np.linspace(-10, -4, 1001), (-9.97, -4.03)),
        ([*np.linspace(0, 10, 1001), 1e9], (0, 9.955)),
        ([*np.zeros(999), -3.0], (-3, 0)),
        ([*np.zeros(998), -3.0, 5.0], (-5, 5)),
        ([*np.linspace(0, 10, 1001), np.nan, np.inf, -np.inf], (0, 9.95)),
        ([np.nan, np.inf], (0, 1)),
        ([*np.linspace(-0.01, 0, 99), *np.linspace(0, 10, 1001)], (0, 9.945)),
    ],
)
def test_limits_are_robust_and_centred_on_zero_where_both_signs_matter(
    values: npt.ArrayLike, expected: tuple[float, float]
) -> None:
    """Percentiles, unless nearly all voxels are alike; ringing is no sign; NaN and inf count nothing."""
    assert limits(values) == pytest.approx(expected, rel=1e-3)


def test_arrows_show_that_values_lie_beyond_the_limits() -> None:
    """Only on the side where they do."""
    (one_sided,) = slices_figure(np.array([[*np.linspace(0, 10, 1001), 1e9]])).axes
    (inside,) = slices_figure(np.full((2, 2), 7.0)).axes
    assert one_sided.images[0].colorbar.extend == "max"
    assert inside.images[0].colorbar.extend == "neither"


@pytest.mark.parametrize(("affine", "origin"), [(None, "upper"), (RAS, "lower")])
def test_a_head_stands_upright(tmp_path: Path, drawn: list[Figure], affine: Any, origin: str) -> None:
    """All panels follow the one image that knows its scanner; the coordinates stay those of the rows."""
    images = {"sum": Picture(ramp()), "input": Picture(ramp(), affine)}
    draw_figure(spec(panels=["sum"]), str(tmp_path / "figure.png"), images)
    (shown,) = drawn[0].axes[0].images
    assert shown.origin == origin
    low, high = sorted(shown.get_extent()[2:])
    assert (low, high) == pytest.approx((-0.25, 3.75))
    assert (shown.get_extent()[2] < shown.get_extent()[3]) == (origin == "lower")


def test_a_histogram_counts_the_whole_image(tmp_path: Path, drawn: list[Figure]) -> None:
    """Whatever the plane; without a plane nothing stands above the figure."""
    values = ramp()
    panels = [{"image": "input", "show": "histogram", "title": "values"}]
    draw_figure(spec(panels=panels), str(tmp_path / "figure.png"), {"input": Picture(values)})
    (cell,) = drawn[0].axes
    (line,) = cell.patches
    counts, edges, _ = line.get_data()
    expected, expected_edges = np.histogram(values, bins=len(counts))
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_allclose(edges, expected_edges)
    assert (cell.get_title(), cell.get_xlabel(), cell.get_ylabel()) == ("values", "value", "voxels")
    assert cell.get_legend() is None
    assert not drawn[0].get_suptitle()


def test_a_histogram_of_channels_has_a_line_for_each(tmp_path: Path, drawn: list[Figure]) -> None:
    """A legend names them; a coarser level is told at the axis; planes beside it stay what they are."""
    values = ramp((2, 5, 6))
    image = Picture(values)
    image.info = ImageInfo(values.shape, "float32", (Axis("c", "channel"), *AXES[1:]))
    panels = ["input", {"image": "input", "show": "histogram"}]
    draw_figure(spec(panels=panels), str(tmp_path / "figure.png"), {"input": image}, {"input": Level(2, image)})
    plane, histogram = drawn[0].axes[:2]
    np.testing.assert_array_equal(plane.images[0].get_array(), values[0])
    assert [line.get_data().edges[0] for line in histogram.patches] == [values[0].min(), values[1].min()]
    assert [text.get_text() for text in histogram.get_legend().get_texts()] == ["channel 0", "channel 1"]
    assert histogram.get_ylabel() == "voxels of level 2"


def test_a_histogram_that_cannot_be_counted_says_so(
    tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its place: the outputs are written, and the run does not fail for it."""
    monkeypatch.setattr("convolume.report.measurements._MOST_VOXELS", 100)
    panels = [{"image": "input", "show": "histogram"}]
    draw_figure(spec(panels=panels), str(tmp_path / "figure.png"), {"input": Picture(ramp())})
    (text,) = drawn[0].axes[0].texts
    assert text.get_text().startswith(
        "picture: is not measured: its coarsest level has 384 voxels in a channel, and at most 100 are"
    )


def test_an_incomplete_row_leaves_its_last_cells_empty(tmp_path: Path, drawn: list[Figure]) -> None:
    """Three panels in two columns; without a title the plane's place stands above them."""
    draw_figure(spec(panels=["input"] * 3), str(tmp_path / "figure.png"), {"input": Picture(ramp())})
    assert [len(axes.images) for axes in drawn[0].axes] == [1, 1, 1, 0]
    assert not drawn[0].axes[3].axison
    assert drawn[0].get_suptitle() == "z = 1"


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_the_ending_is_the_format(tmp_path: Path, suffix: str) -> None:
    """Not only pixels."""
    path = tmp_path / f"figure.{suffix}"
    draw_figure(spec(), str(path), {"input": Picture(ramp())})
    assert path.read_bytes()[:5] in {b"<?xml", b"%PDF-"}


def test_three_slices_of_a_volume_share_one_bar() -> None:
    """Through the middle, at one scale, a bar at the last."""
    values = ramp((4, 6, 8))
    figure = slices_figure(Picture(values))
    shown = [axes.images[0] for axes in figure.axes]
    for image, plane in zip(shown, (values[2], values[:, 3], values[:, :, 4]), strict=True):
        np.testing.assert_array_equal(image.get_array(), plane)
    assert len({image.get_clim() for image in shown}) == 1
    assert [image.colorbar is not None for image in shown] == [False, False, True]
    assert [axes.get_title() for axes in figure.axes] == ["z = 2", "y = 3", "x = 4"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["x (µm)", "x (µm)", "y (µm)"]


def test_slices_of_arrays_follow_the_affine_that_is_given() -> None:
    """Dask computes the slices alone; bool is shown too."""
    values = ramp((4, 6, 8)) % 2 == 0
    figure = slices_figure(dask.array.from_array(values, chunks=2), affine=RAS)
    assert [axes.images[0].origin for axes in figure.axes] == ["lower"] * 3
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), values[2])


def test_the_plane_of_a_flat_image_is_shown() -> None:
    """One picture without a place to name, channels at 0."""
    values = ramp((2, 5, 6))
    axes = (Axis("c", "channel"), *AXES[1:])
    figure = slices_figure(values, ImageInfo(values.shape, "float32", axes))
    assert len(figure.axes) == 1
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), values[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "f.bmpx"}, "f.bmpx: a figure's ending names its format, one of "),
        ({"panels": ["inptu"]}, "a panel names the image 'inptu'; did you mean 'input'? (there are: input)"),
        (
            {"panels": [{"image": "input", "colormap": "virids"}]},
            "matplotlib has no colour map 'virids'; did you mean 'viridis'?",
        ),
        ({"plane": {"z": 3}}, "position 3 on axis 'z' lies outside the image, which has 0 to 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before(settings: dict[str, Any], message: str) -> None:
    """From what is known of the images alone."""
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        check_figure(spec(**settings), {"input": Picture(ramp()).info})


def test_a_figure_that_cannot_be_written_names_its_path(tmp_path: Path) -> None:
    """A file stands where its folder should be."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "figure.png"
    with pytest.raises(RunError, match=f"^{re.escape(str(path))}: the figure could not be written"):
        draw_figure(spec(), str(path), {"input": Picture(ramp())})


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is read."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = "figures need matplotlib, which is not installed: pip install 'convolume[figures]'"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        slices_figure(ramp())


def test_pyplot_is_never_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its state belongs to the user."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    slices_figure(np.eye(4)).savefig(tmp_path / "figure.png")
