"""Every source and every sink keeps its promise, whatever the format."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from convolume.registry import load_member, member_names
from convolume.stores import Format, SinkOptions, formats_of, open_source
from convolume.testing.stores import (
    EXAMPLES,
    LEAST_AXES,
    check_crosses_processes,
    check_identity,
    check_sink,
    check_source,
    images,
    random_array,
    write_example,
)

if TYPE_CHECKING:
    import numpy.typing as npt

WITHOUT_SHARDS = ("ome-zarr-0.4",)
SOURCES = [name for name in member_names("stores") if hasattr(load_member("stores", name), "open_source")]
SINKS = [
    (name, each)
    for name in member_names("stores")
    # Outputs that are one file hold less than an image may have: `test_single_files.py` has a suite for them.
    if hasattr(load_member("stores", name), "create_sink") and not hasattr(load_member("stores", name), "gathered_at")
    for each in formats_of(load_member("stores", name))
]
COUNTER = itertools.count()


def test_every_source_that_can_be_written_has_an_example() -> None:
    """A new format says how the suite writes one."""
    assert set(SOURCES) - set(EXAMPLES) == {"sample"}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (name, shape)
        for name, shape in itertools.product(EXAMPLES, [(5, 7, 6), (1, 4, 3), (9, 1)])
        if len(shape) >= LEAST_AXES.get(name, 1)
    ],
)
def test_source(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Any region is that part of the whole."""
    array = random_array(shape, "uint16")
    check_source(open_source(write_example(name, tmp_path, array)), array)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"lazy", "memory"}))
def test_source_crosses_processes(name: str, tmp_path: Path) -> None:
    """It pickles small, and reads in another process."""
    array = random_array((5, 7, 6), "uint16")
    source = open_source(write_example(name, tmp_path, array))
    assert source.crosses_processes
    check_crosses_processes(source, array)


@pytest.mark.parametrize("name", EXAMPLES)
def test_source_that_is_replaced_has_another_identity(name: str, tmp_path: Path) -> None:
    """The identity tells a replaced image."""
    first = open_source(write_example(name, tmp_path, random_array((5, 7, 6), "uint16"))).identity()
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    second = open_source(write_example(name, tmp_path, random_array((5, 7, 8), "uint16"))).identity()
    assert first != second


@pytest.mark.parametrize("name", EXAMPLES)
def test_source_whose_voxels_are_replaced_has_another_identity(name: str, tmp_path: Path) -> None:
    """In their place, with the same shape and dtype."""
    check_identity(name, tmp_path)


@pytest.mark.parametrize(("name", "format_"), SINKS)
@settings(max_examples=40, deadline=None)
@given(data=images(min_ndim=2))
def test_sink(name: str, format_: Format, data: tuple[npt.NDArray[Any], SinkOptions]) -> None:
    """Whole units in, the same voxels out, nothing visible before the end."""
    array, options = data
    options = replace(options, format=format_, shards=None if format_ in WITHOUT_SHARDS else options.shards)
    module = load_member("stores", name)
    with tempfile.TemporaryDirectory() as folder:
        suffix = module.SUFFIXES[0]
        end = f"image{next(COUNTER)}"
        path = f"{suffix}{end}" if suffix.endswith(":") else str(Path(folder, end + suffix))
        try:
            check_sink(path, array, options)
        finally:
            load_member("stores", "memory").drop(end)


@pytest.mark.parametrize(("name", "format_"), SINKS)
def test_sink_with_a_pyramid(name: str, format_: Format, tmp_path: Path) -> None:
    """So with every level of a pyramid, where there is one."""
    suffix = load_member("stores", name).SUFFIXES[0]
    path = f"{suffix}pyramid" if suffix.endswith(":") else str(tmp_path / f"pyramid{suffix}")
    check_sink(path, random_array((3, 300, 140), "int16"), SinkOptions(if_exists="overwrite", format=format_))
