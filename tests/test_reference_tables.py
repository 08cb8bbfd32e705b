"""The worked example of the source page: three kernels on one image, by every road and on every kind of device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import convolume
from convolume.regions import Region
from convolume.stores import create_sink, memory, open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

EXAMPLE = json.loads(Path(__file__, "..", "data", "convolution_example.json").resolve().read_text(encoding="utf-8"))
IMAGE = np.array(EXAMPLE["image"], np.float64)
CASES = {case["name"]: case for case in EXAMPLE["cases"]}
DEVICES = ("opencl", "numpy")


def expected(name: str) -> npt.NDArray[np.float64]:
    """Return a table of the source page."""
    return np.array(CASES[name]["expected"], np.float64)


def check(name: str, result: npt.NDArray[Any]) -> None:
    """Compare with a table: exactly where its numbers are whole, to 1e-12 elsewhere."""
    table = expected(name)
    whole = table == np.rint(table)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result[whole], table[whole])
    np.testing.assert_allclose(result, table, rtol=0, atol=1e-12)


def workflow(input_path: str, folder: str) -> str:
    """Return the YAML of all three cases."""
    outputs = "".join(
        f"""
  {name}:
    path: {folder}{name}{"" if folder.endswith(":") else ".ome.zarr"}
    steps:
      - convolve: {{kernel: {json.dumps(case["kernel"])}}}"""
        for name, case in CASES.items()
    )
    return f"input: {{path: '{input_path}'}}\noutputs:{outputs}\n"


def through_files(folder: Path, device: str) -> dict[str, npt.NDArray[Any]]:
    """Run a YAML file from an OME-Zarr to OME-Zarrs."""
    memory.put("table", IMAGE)
    source = open_source("memory:table")
    sink = create_sink(str(folder / "image.ome.zarr"), source.info)
    sink.create()
    sink.write(0, Region.whole(IMAGE.shape), IMAGE)
    sink.finish({}, ((0.0, 2.0, 0.0, 2.0),))
    file = folder / "example.yaml"
    file.write_text(workflow("image.ome.zarr", "results/"), encoding="utf-8")
    record = convolume.run(file, overrides=[f"device={device}"])
    return {output.name: _whole(output.path) for output in record.outputs}


def through_memory(_folder: Path, device: str) -> dict[str, npt.NDArray[Any]]:
    """Run a YAML text from memory to memory, in blocks of 4 x 5 voxels."""
    memory.put("table", IMAGE)
    text = workflow("memory:table", "memory:") + "block: [4, 5]\n"
    small = [f"outputs.{name}.chunks=[4, 5]" for name in CASES]
    again = [f"outputs.{name}.if_exists=overwrite" for name in CASES]
    record = convolume.run(text, overrides=[f"device={device}", *small, *again])
    assert record.block_count == 6
    return {output.name: memory.get(output.name) for output in record.outputs}


def through_single_input(_folder: Path, device: str) -> dict[str, npt.NDArray[Any]]:
    """Run from float32 voxels with sums in float64, and keep them."""
    memory.put("table", IMAGE.astype(np.float32))
    text = workflow("memory:table", "memory:") + "precision: double\n"
    more = [f"outputs.{name}.{extra}" for name in CASES for extra in ("if_exists=overwrite", "dtype=float64")]
    record = convolume.run(text, overrides=[f"device={device}", *more])
    return {output.name: memory.get(output.name) for output in record.outputs}


def through_volume(_folder: Path, device: str) -> dict[str, npt.NDArray[Any]]:
    """Filter a Volume."""
    with convolume.select_device(device):
        volume = convolume.Volume.from_array(IMAGE)
        return {name: volume.convolve(case["kernel"]).compute() for name, case in CASES.items()}


def through_lazy_volume(_folder: Path, device: str) -> dict[str, npt.NDArray[Any]]:
    """Filter a Volume lazily."""
    with convolume.select_device(device):
        volume = convolume.Volume.from_array(IMAGE)
        return {name: volume.convolve(case["kernel"]).dask.compute() for name, case in CASES.items()}


def through_ndimage(_folder: Path, device: str) -> dict[str, npt.NDArray[Any]]:
    """Call the function of scipy's name."""
    with convolume.select_device(device):
        return {name: convolume.ndimage.convolve(IMAGE, case["kernel"]) for name, case in CASES.items()}


def _whole(path: str) -> npt.NDArray[Any]:
    source = open_source(path)
    return source.read(Region.whole(source.info.shape))


ROADS = (through_files, through_memory, through_single_input, through_volume, through_lazy_volume, through_ndimage)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
def test_tables(road: Callable[[Path, str], dict[str, npt.NDArray[Any]]], device: str, tmp_path: Path) -> None:
    """All three tables, whole numbers exactly."""
    results = road(tmp_path, device)
    assert set(results) == set(CASES) == {"sum", "mean", "laplace"}
    for name, result in results.items():
        check(name, result)
