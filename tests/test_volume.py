"""A Volume is lazy, immutable, and does what its YAML does."""

import copy
import gc
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from matplotlib.figure import Figure

import convolume
from convolume import Volume
from convolume.errors import InputError, RunError
from convolume.filters import filter_class
from convolume.planning.spec import read_workflow
from convolume.registry import member_names
from convolume.stores import lazy, memory

IMAGE = np.random.default_rng(0).normal(size=(9, 20, 21)).astype(np.float32)
KINDS = {"NumPy array": IMAGE, "dask array": da.from_array(IMAGE, chunks=(4, 7, 21))}


@pytest.fixture(params=list(KINDS))
def volume(request: pytest.FixtureRequest) -> Volume:
    """Return the same image, at hand and lazy."""
    return Volume.from_array(KINDS[request.param], spacing=["2 um", "0.5 um", "0.5 um"])


@pytest.mark.parametrize("name", member_names("filters"))
def test_every_filter_is_a_method(volume: Volume, name: str) -> None:
    """By name and by position alike, with its own documentation and signature."""
    found = filter_class(name)
    method = getattr(volume, name)
    own = [parameter for parameter in found.model_fields if parameter not in {"mode", "cval"}]
    assert list(inspect.signature(method).parameters) == [*own, "mode", "cval"]
    assert method.__doc__ == found.__doc__
    assert name in dir(volume)
    example = found.examples()[0]
    by_name = method(**example)
    ordered = [example[parameter] for parameter in own[: len(example)] if parameter in example]
    if len(ordered) == len(example):
        assert method(*ordered).steps == by_name.steps
    assert volume.filter(name, **example).steps == by_name.steps
    assert volume.steps == ()


def test_all_ways_give_the_same_bits(volume: Volume, tmp_path: Path) -> None:
    """Computed, lazy, saved, and run from its YAML."""
    filtered = volume.gaussian("1 um", mode="wrap").laplace()
    expected = Volume.from_array(IMAGE, spacing=["2 um", "0.5 um", "0.5 um"]).gaussian("1 um", mode="wrap").laplace()
    whole = expected.compute()
    np.testing.assert_array_equal(filtered.compute(), whole)
    np.testing.assert_array_equal(filtered.dask.compute(scheduler="synchronous"), whole)
    record = filtered.save(str(tmp_path / "saved.ome.zarr"))
    saved = Volume.open(str(tmp_path / "saved.ome.zarr"))
    np.testing.assert_array_equal(saved.compute(), whole)
    assert [(axis.name, axis.spacing, axis.unit) for axis in saved.info.axes] == [
        ("z", 2.0, "micrometer"),
        ("y", 0.5, "micrometer"),
        ("x", 0.5, "micrometer"),
    ]
    assert record.outputs[0].maximum == whole.max()
    assert record.output_voxels == whole.size
    convolume.run(filtered.workflow(str(tmp_path / "run.ome.zarr")))
    np.testing.assert_array_equal(Volume.open(str(tmp_path / "run.ome.zarr")).compute(), whole)
    assert filtered.plan(str(tmp_path / "planned.ome.zarr")).outputs[0].steps == ("gaussian", "laplace")
    assert not (tmp_path / "planned.ome.zarr").exists()


def test_a_lazy_result_composes_and_outlives_its_volume() -> None:
    """Its graph holds what it needs."""
    for image in KINDS.values():
        result = Volume.from_array(image).box(3).dask
        gc.collect()
        mean = (result[2:7] * 2).mean()
        expected = (Volume.from_array(IMAGE).box(3).compute()[2:7] * 2).mean()
        assert mean.compute() == pytest.approx(expected, rel=1e-5)


def test_a_volume_is_not_changed_by_what_is_made_of_it(volume: Volume) -> None:
    """Nor can it be changed, and the array is shared and not touched."""
    before = IMAGE.copy()
    assert volume.box(3) is not volume
    with pytest.raises(AttributeError):
        volume.steps = ()  # type: ignore[misc]
    unfiltered = volume.compute()
    unfiltered[...] = 0
    np.testing.assert_array_equal(IMAGE, before)


def test_names_are_forgotten_with_the_last_volume() -> None:
    """And copies use the same array."""
    for family, image in ((memory._IMAGES, IMAGE), (lazy._ARRAYS, KINDS["dask array"])):  # noqa: SLF001 - what is kept
        known = set(family)
        volume = Volume.from_array(image)
        derived = copy.deepcopy(volume.box(3))
        del volume
        gc.collect()
        assert derived.compute().shape == IMAGE.shape
        del derived
        gc.collect()
        assert set(family) == known


@pytest.mark.parametrize(
    ("source", "dtype", "expected"),
    [
        ("uint8", None, "float32"),
        ("float64", None, "float64"),
        ("uint8", "uint16", "uint16"),
        ("bool", None, "float32"),
    ],
)
def test_dtypes(source: str, dtype: str | None, expected: str) -> None:
    """Floats keep theirs, integers give float32, and what is named is given."""
    volume = Volume.from_array(np.ones((4, 5), source)).box(3)
    assert volume.compute(dtype).dtype == expected
    assert volume.dtype == (expected if dtype is None else "float32")
    assert Volume.from_array(np.ones((4, 5), source)).compute().dtype == source


def test_results_that_do_not_fit_saturate_or_are_refused() -> None:
    """At hand and lazily."""
    for image in (np.full((4, 4), 200, np.uint8), da.full((4, 4), 200, chunks=2, dtype=np.uint8)):
        volume = Volume.from_array(image).box(3, "sum")
        assert (volume.compute(np.uint8) == 255).all()
        with pytest.raises(RunError, match=r"the value 1800.0 does not fit into uint8 \(0 to 255\)"):
            volume.compute("uint8", overflow="error")


def test_mistakes_come_at_once() -> None:
    """Where they are made, and not when the result is asked for."""
    volume = Volume.from_array(IMAGE)
    with pytest.raises(InputError, match="reflekt"):
        Volume.from_array(IMAGE, mode="reflekt")
    with pytest.raises(InputError, match="there is no parameter 'sigm'; did you mean 'sigma'"):
        volume.gaussian(sigm=2)
    with pytest.raises(InputError, match="the parameter 'sigma' is needed"):
        volume.gaussian()
    with pytest.raises(InputError, match="gaussian: sigma is given twice, by position and by name"):
        volume.gaussian(1, sigma=2)
    with pytest.raises(AttributeError, match="a Volume has no 'gausian': its filters are box, convolve"):
        volume.gausian(1)
    with pytest.raises(InputError, match="complex128 cannot be filtered"):
        Volume.from_array(np.ones((2, 2), complex))


def test_memory_images_open_by_any_name() -> None:
    """And a region of one computes, lazily too."""
    for name in ("x", "unused"):
        memory.put(name, IMAGE)
        part = Volume.open(f"memory:{name}", region={"z": (2, 6)}).box(3)
        np.testing.assert_array_equal(part.compute(), Volume.from_array(IMAGE[2:6]).box(3).compute())
        np.testing.assert_array_equal(part.dask.compute(), part.compute())
        memory.drop(name)


def test_it_reads_well() -> None:
    """In a terminal and in a notebook."""
    volume = Volume.from_array(IMAGE, spacing="0.5 um").gaussian("1 um").convolve(np.ones((3, 3)))
    assert repr(volume) == (
        "Volume   (z, y, x) = 9 x 20 x 21, float32\n"
        "input    NumPy array, float32, 14.8 KiB\n"
        "voxel    z 0.5 um, y 0.5 um, x 0.5 um\n"
        "filters  gaussian(sigma=1 um) > convolve(kernel=<3 x 3>)"
    )
    long = volume.box(3).box(5).box(7).gaussian("2 um").laplace(mode="constant", cval=3)
    assert max(map(len, repr(long).splitlines())) <= 80
    assert "gaussian(sigma=1 um) &gt; convolve(kernel=&lt;3 x 3&gt;)" in volume._repr_html_()


def test_show_draws_the_middle_slices(volume: Volume) -> None:
    """Of the result, each with where it was cut."""
    figure = volume.box(3).show()
    assert isinstance(figure, Figure)
    assert [axes.get_title() for axes in figure.axes][:3] == ["z = 4", "y = 10", "x = 10"]
    drawn = figure.axes[0].images[0].get_array()
    assert drawn is not None
    np.testing.assert_allclose(np.asarray(drawn), volume.box(3).compute()[4], rtol=1e-6)


@pytest.fixture(params=[False, True], ids=["threads", "processes"], scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Start a cluster as a user does."""
    options: dict[str, Any] = {"processes": request.param, "dashboard_address": None, "host": "127.0.0.1"}
    if not request.param:
        del options["host"]
    with LocalCluster(n_workers=1, threads_per_worker=2, **options) as cluster, Client(cluster) as active:
        yield active


@pytest.mark.usefixtures("client")
def test_an_active_client_gives_the_same_bits(volume: Volume, tmp_path: Path) -> None:
    """Computed, lazy and saved."""
    expected = Volume.from_array(IMAGE).box(3).compute()
    filtered = volume.box(3)
    np.testing.assert_array_equal(filtered.compute(), expected)
    np.testing.assert_array_equal(filtered.dask.compute(), expected)
    filtered.save(str(tmp_path / "saved.ome.zarr"), pyramid=False)
    np.testing.assert_array_equal(Volume.open(str(tmp_path / "saved.ome.zarr")).compute(), expected)


def test_volumes_of_one_image_are_saved_in_one_run(volume: Volume, tmp_path: Path) -> None:
    """Each as by itself, from one read."""
    volumes = {f"{tmp_path}/smooth-{sigma}.ome.zarr": volume.gaussian(f"{sigma} um") for sigma in (2, 4)}
    volumes[f"{tmp_path}/edges.zarr"] = volume.sobel()
    record = convolume.save(volumes, pyramid=False, dtype="float64")
    assert [(output.name, output.dtype) for output in record.outputs] == [
        ("smooth-2", "float64"),
        ("smooth-4", "float64"),
        ("edges", "float64"),
    ]
    assert record.bytes_read == IMAGE.nbytes
    for path, each in volumes.items():
        np.testing.assert_array_equal(Volume.open(path).compute(), each.compute("float64"))


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["memory:a.b", "out/x.zarr/"], ["a_b", "x"]),
        (["a/x.zarr", "b/x.ome.zarr"], ["x-1", "x-2"]),
        (["memory:-1", "memory:input"], ["_1-1", "input-2"]),
    ],
)
def test_outputs_are_called_after_their_paths(
    paths: list[str], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a number where that alone would be no name for each."""
    volume = Volume.from_array(IMAGE)
    workflow = {**volume.image, "outputs": {}}
    monkeypatch.setattr("convolume.volume.run", lambda written, config: workflow.update(written, config=config))
    convolume.save({path: volume.laplace() for path in paths})
    assert workflow.pop("config") == {"cluster": "in_process"}
    assert {name: output["path"] for name, output in workflow["outputs"].items()} == dict(
        zip(names, paths, strict=True)
    )
    assert read_workflow(workflow).model


def test_volumes_of_several_images_are_not_saved_together(tmp_path: Path) -> None:
    """Nor none at all."""
    path = str(tmp_path / "image.zarr")
    Volume.from_array(IMAGE).save(path)
    volume = Volume.open(path)
    for other in (Volume.from_array(IMAGE), Volume.open(path, mode="wrap"), Volume.open(path, region={"z": (1, 3)})):
        with pytest.raises(
            InputError, match=r"^b\.zarr begins with another image, mode or constant: save together what"
        ):
            convolume.save({"a.zarr": volume, "b.zarr": other})
    with pytest.raises(InputError, match="there are no volumes: save together what is made of one Volume"):
        convolume.save({})
