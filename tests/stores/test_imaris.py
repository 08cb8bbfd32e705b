"""Imaris files: time points, channels and levels are datasets of their own, padded to whole chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from convolume.errors import InputError
from convolume.image import Axis, Channel
from convolume.stores import SourceOptions, open_source
from convolume.testing.stores import check_crosses_processes, check_source, random_array

if TYPE_CHECKING:
    from pathlib import Path


def _letters(value: object) -> Any:
    """Return a text as Imaris writes it: an array of single letters."""
    return np.array(list(str(value)), "S1")


def _imaris(path: Path, array: Any, *, levels: int = 2, chunks: tuple[int, ...] = (4, 8, 8)) -> str:
    """Write (t, c, z, y, x) as Imaris 5.5 lays it out: whole chunks, levels that skip voxels, letters for numbers."""
    times, channels, *extents = array.shape
    with h5py.File(path, "w") as file:
        info = file.create_group("DataSetInfo")
        image = info.create_group("Image")
        lows, highs = (-1.0, 0.0, 10.0), (5.0, 9.0, 20.0)
        for name, extent, number in zip("ZYX", extents, (2, 1, 0), strict=True):
            image.attrs[name] = _letters(extent)
            image.attrs[f"ExtMin{number}"] = _letters(lows[number])
            image.attrs[f"ExtMax{number}"] = _letters(highs[number])
        image.attrs["Unit"] = _letters("um")
        for channel in range(channels):
            info.create_group(f"Channel {channel}").attrs["Name"] = _letters(f"dye {channel}")
        info.create_group("TimeInfo").attrs["FileTimePoints"] = _letters(times)
        for level, time, channel in np.ndindex(levels, times, channels):
            voxels = array[time, channel][(slice(None, None, 2**level),) * 3]
            place = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint {time}/Channel {channel}")
            for name, extent in zip("ZYX", voxels.shape, strict=True):
                place.attrs[f"ImageSize{name}"] = _letters(extent)
            padding = [(0, -n % chunk) for n, chunk in zip(voxels.shape, chunks, strict=True)]
            place.create_dataset("Data", data=np.pad(voxels, padding), chunks=chunks, compression="gzip")
    return str(path)


def test_imaris(tmp_path: Path) -> None:
    """Time points and channels are axes, padding is cut off, corners become voxel sizes."""
    array = random_array((2, 3, 6, 9, 10), "uint16")
    path = _imaris(tmp_path / "cells.ims", array)
    source = open_source(path)
    assert source.info.axes == (
        Axis("t", "time"),
        Axis("c", "channel"),
        Axis("z", "space", "micrometer", 10 / 6, 10.0 + 5 / 6),
        Axis("y", "space", "micrometer", 1.0, 0.5),
        Axis("x", "space", "micrometer", 0.6, -0.7),
    )
    assert source.info.channels == tuple(Channel(f"dye {number}") for number in range(3))
    assert (source.info.chunks, source.decoded_chunks) == ((1, 1, 4, 8, 8), ((1, 0), (1, 0), (4, 0), (8, 0), (8, 0)))
    check_source(source, array)
    check_crosses_processes(source, array)
    lower = open_source(path, SourceOptions(level=1))
    check_source(lower, array[:, :, ::2, ::2, ::2])
    assert lower.info.axes[-1] == Axis("x", "space", "micrometer", 1.2, -0.4)
    assert lower.identity() != source.identity()
    check_source(open_source(path, SourceOptions(channel="dye 1", time=1)), array[1:, 1:2])
    with pytest.raises(InputError, match=r"level 2 is not there; this image has 2 \(0 to 1\)"):
        open_source(path, SourceOptions(level=2))
    data = "/DataSet/ResolutionLevel 1/TimePoint 1/Channel 2/Data"
    check_source(
        open_source(path, SourceOptions(dataset=data)), np.pad(array[1, 2, ::2, ::2, ::2], [(0, 1), (0, 3), (0, 3)])
    )


def test_imaris_that_is_not_whole(tmp_path: Path) -> None:
    """A time point without a channel, one of another dtype, extents that are not told or too large."""
    path = _imaris(tmp_path / "cells.ims", random_array((2, 2, 3, 5, 6), "uint8"))
    last = "DataSet/ResolutionLevel 0/TimePoint 1/Channel 1"
    with h5py.File(path, "a") as file:
        del file["DataSetInfo/Image"].attrs["ExtMax1"]
        del file["DataSetInfo/Channel 0"].attrs["Name"]
        file["DataSetInfo/Image"].attrs["Unit"] = _letters("nm")
    info = open_source(path).info
    assert info.space_spacing_um == pytest.approx((10e-3 / 3, None, 1e-3))
    assert [channel.name for channel in info.channels] == ["Channel 0", "dye 1"]
    with h5py.File(path, "a") as file:
        del file[f"{last}/Data"]
        file[f"{last}/Data"] = np.zeros((4, 8, 8), "uint16")
    with pytest.raises(
        InputError, match=r"channel 1 of time point 1 is uint16 \(4, 8, 8\), and the image uint8 \(3, 5, 6"
    ):
        open_source(path)
    with h5py.File(path, "a") as file:
        del file[f"{last}/Data"]
    with pytest.raises(InputError, match=f"there is no dataset '/{last}/Data' that can be read"):
        open_source(path)
    with h5py.File(path, "a") as file:
        file["DataSetInfo/Image"].attrs["X"] = _letters(9)
    with pytest.raises(InputError, match=r"level 0 says that its extents are \(3, 5, 9\), and \(4, 8, 8\) are stored"):
        open_source(path)
    with h5py.File(path, "a") as file:
        del file["DataSetInfo/Image"].attrs["X"]
        del file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"].attrs["ImageSizeY"]
    with pytest.raises(
        InputError, match=r"level 0 does not say its extents, and \(4, 8, 8\) are stored.*`dataset: /DataS"
    ):
        open_source(path)
    (tmp_path / "old.ims").write_bytes(b"II*\0an Imaris 3 file is a TIFF")
    with pytest.raises(InputError, match="is no HDF5 file that can be read"):
        open_source(str(tmp_path / "old.ims"))
