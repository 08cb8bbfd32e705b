"""Opening by path: what is not there, kernel files, and images in memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from convolume.errors import InputError
from convolume.image import ImageInfo, default_axes
from convolume.stores import create_sink, memory, open_source, read_array
from convolume.testing.stores import image_info, random_array

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_there(tmp_path: Path) -> None:
    """A missing path, a foreign file and an empty folder are told apart from images."""
    with pytest.raises(InputError, match=r"missing\.zarr: there is no such file or folder"):
        open_source(str(tmp_path / "missing.zarr"))
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path / "notes.txt", tmp_path):
        with pytest.raises(InputError, match="none of the formats that are known"):
            open_source(str(path))


def test_images_that_are_no_volume(tmp_path: Path) -> None:
    """Of a folder of them, and of one of them, the message tells how a series is read."""
    for name in ("slice1.PNG", "slice2.PNG"):
        (tmp_path / name).touch()
    for path in (tmp_path, tmp_path / "slice1.PNG"):
        with pytest.raises(InputError, match=r"a series of images is read by a pattern, such as '.*\*\.PNG'$"):
            open_source(str(path))


def test_no_such_output() -> None:
    """The message lists what can be written."""
    with pytest.raises(InputError, match=r"out.png: no format writes to such a path; .* memory:, .ome.zarr, .zarr,"):
        create_sink("out.png", ImageInfo((4, 5), "uint8", default_axes(2)))


def test_trailing_slash() -> None:
    """It means nothing."""
    assert create_sink("out.zarr//", ImageInfo((4, 5), "uint8", default_axes(2))).path == "out.zarr"


def test_kernel_files(tmp_path: Path) -> None:
    """A kernel is any array: .npy, or a whole image; nothing in it is executed."""
    kernel = random_array((3, 3), "float32")
    np.save(tmp_path / "kernel.npy", kernel)
    tifffile.imwrite(tmp_path / "kernel.tif", kernel)
    for name in ("kernel.npy", "kernel.tif"):
        np.testing.assert_array_equal(read_array(str(tmp_path / name)), kernel)
    np.save(tmp_path / "code.npy", np.array([print], dtype=object))
    for name in ("code.npy", "missing.npy"):
        with pytest.raises(InputError, match=r"cannot be read as a \.npy file"):
            read_array(str(tmp_path / name))


def test_heavy_libraries_wait() -> None:
    """An image in memory needs none of those that read files."""
    code = (
        "import sys, numpy; from convolume.stores import memory, open_source; memory.put('a', numpy.ones((2, 2))); "
        "open_source('memory:a'); "
        "heavy = ('zarr', 'tensorstore', 'h5py', 'mrcfile', 'nibabel', 'tifffile', 'yaozarrs', 'nilearn'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


def test_memory_is_not_copied() -> None:
    """A source reads views, and the array is the one that was put there."""
    array = random_array((4, 5), "uint8")
    memory.put("views", array)
    source = open_source("memory:views")
    assert np.shares_memory(memory.get("views"), array)
    assert not source.crosses_processes
    memory.drop("views")
    memory.drop("views")
    with pytest.raises(InputError, match="no such image in this process's memory"):
        pickle.loads(pickle.dumps(source)).identity()  # noqa: S301  # our own bytes


def test_memory_refuses() -> None:
    """An info that does not fit, and numbers that are not real."""
    with pytest.raises(InputError, match=r"the array is uint8 \(4, 5\), and its info says float32"):
        memory.put("wrong", np.zeros((4, 5), "uint8"), image_info(np.zeros((4, 5), "float32")))
    with pytest.raises(InputError, match="dtype complex128 cannot be filtered"):
        memory.put("wrong", np.zeros((4, 5), "complex128"))
    with pytest.raises(InputError, match="has 6 axes; at most 5"):
        memory.put("wrong", np.zeros((1,) * 6))
