"""Files of every format with bytes changed or cut off: each is refused by an error of ours, or gives an image.

Nothing else comes out: no other exception, no crash, and no memory for what a header merely claims.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import h5py
import mrcfile
import nibabel
import numpy as np
import pytest
import tifffile

from convolume.testing.damage import check_damaged
from convolume.testing.stores import random_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CHANGES = 300
MOST_SECONDS = 300
ARRAY = random_array((4, 6, 7), "uint16")


def _npy(path: Path) -> None:
    np.save(path, ARRAY)


def _mrc(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(ARRAY)


def _nifti(path: Path) -> None:
    nibabel.Nifti1Image(ARRAY.T, np.eye(4)).to_filename(path)


def _tiff(path: Path, **how: Any) -> None:
    tifffile.imwrite(path, ARRAY, photometric="minisblack", **how)


def _hdf5(path: Path, libver: str = "earliest", **how: Any) -> None:
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("raw", data=ARRAY, **how)
        file["raw"].attrs["element_size_um"] = (3.0, 2.0, 1.0)


def _imaris(path: Path) -> None:
    with h5py.File(path, "w") as file:
        image = file.create_group("DataSetInfo/Image")
        place = file.create_group("DataSet/ResolutionLevel 0/TimePoint 0/Channel 0")
        place.create_dataset("Data", data=ARRAY, chunks=(2, 3, 7), compression="gzip")
        for name, extent in zip("ZYX", ARRAY.shape, strict=True):
            image.attrs[name] = np.array(list(str(extent)), "S1")


IN_PYTHON: Mapping[str, Callable[[Path], None]] = {
    "volume.npy": _npy,
    "volume.mrc": _mrc,
    "volume.nii": _nifti,
    "volume.nii.gz": _nifti,
    "plain.tif": _tiff,
    "zlib.tif": lambda path: _tiff(path, compression="zlib"),
    "big.tif": lambda path: _tiff(path, bigtiff=True, byteorder=">"),
    "tiles.tif": lambda path: _tiff(path, tile=(16, 16), compression="zlib"),
    "imagej.tif": lambda path: tifffile.imwrite(path, ARRAY, imagej=True, metadata={"axes": "ZYX", "unit": "um"}),
    "some.ome.tif": lambda path: _tiff(path, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 2.0}),
}
IN_C: Mapping[str, Callable[[Path], None]] = {
    "plain.h5": _hdf5,
    "chunks.h5": lambda path: _hdf5(path, chunks=(2, 3, 7), compression="gzip", shuffle=True),
    "latest.h5": lambda path: _hdf5(path, "latest", chunks=(2, 3, 7), compression="lzf"),
    "checksums.h5": lambda path: _hdf5(path, chunks=(2, 3, 7), fletcher32=True),
    "cells.ims": _imaris,
}


@pytest.mark.filterwarnings("ignore")  # libraries may warn of what they meet
@pytest.mark.parametrize("name", IN_PYTHON)
def test_damaged(tmp_path: Path, name: str) -> None:
    """Where Python reads the header."""
    IN_PYTHON[name](tmp_path / name)
    outcomes = check_damaged(str(tmp_path / name), 1, CHANGES)
    assert min(outcomes["refused"], outcomes["image"]) > 0


@pytest.mark.parametrize("name", IN_C)
def test_damaged_where_a_crash_would_end_the_process(tmp_path: Path, name: str) -> None:
    """HDF5's library reads its files in C: in a process of its own, which ends in time."""
    IN_C[name](tmp_path / name)
    command = [sys.executable, "-m", "convolume.testing.damage", str(tmp_path / name), "1", str(CHANGES)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=MOST_SECONDS)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    assert "refused" in done.stdout
    assert "image" in done.stdout
