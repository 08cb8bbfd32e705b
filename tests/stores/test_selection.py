"""Channel, time point and region, the same for every format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings

from convolume.errors import InputError
from convolume.image import Channel
from convolume.regions import Region
from convolume.stores import SourceOptions, memory, open_source
from convolume.testing.stores import check_source, image_info, random_array, regions

if TYPE_CHECKING:
    from collections.abc import Iterator

ARRAY = random_array((2, 3, 4, 5, 6), "int16")
CHANNELS = (Channel("DAPI"), Channel("GFP"), Channel("mCherry"))


@pytest.fixture(autouse=True)
def image() -> Iterator[None]:
    """Keep one image of five axes in memory."""
    memory.put("five", ARRAY, image_info(ARRAY).with_(channels=CHANNELS))
    yield
    memory.drop("five")


@settings(max_examples=20)
@given(regions(ARRAY.shape))
def test_region(box: Region) -> None:
    """A crop is an image of its own, where it was."""
    crop = tuple((name, a, b) for name, a, b in zip("tczyx", box.start, box.stop, strict=True))
    source = open_source("memory:five", SourceOptions(region=crop))
    np.testing.assert_array_equal(source.read(Region.whole(box.shape)), ARRAY[box.slices])
    whole = open_source("memory:five").info
    for axis, before, start in zip(source.info.axes, whole.axes, box.start, strict=True):
        assert axis.translation == before.translation + start * before.spacing
    assert source.info.channels == CHANNELS[box.start[1] : box.stop[1]]


@pytest.mark.parametrize("channel", [1, "GFP"])
def test_channel_and_time_keep_their_axes(channel: int | str) -> None:
    """Their length is 1."""
    source = open_source("memory:five", SourceOptions(channel=channel, time=1, region=(("x", 2, 5),)))
    check_source(source, ARRAY[1:2, 1:2, :, :, 2:5])
    assert source.info.channels == (Channel("GFP"),)


def test_settings_reach_the_whole() -> None:
    """A selection has no cache of its own."""
    source = open_source("memory:five", SourceOptions(time=0))
    source.cache_bytes = 17
    source.io_threads = 3
    assert (source.cache_bytes, source.io_threads) == (17, 3)
    assert not source.crosses_processes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SourceOptions(channel=3), r"channel 3 is not there; there are 3 \(0 to 2\)"),
        (SourceOptions(channel=-1), r"channel -1 is not there"),
        (SourceOptions(channel="GFPP"), r"no channel 'GFPP'; did you mean 'GFP'\? \(there are: DAPI, GFP, mCherry\)"),
        (SourceOptions(time=2), r"time point 2 is not there; there are 2 \(0 to 1\)"),
        (SourceOptions(level=1), "level 1 is not there"),
        (SourceOptions(region=(("q", 0, 1),)), r"no axis 'q' \(there are: t, c, z, y, x\)"),
        (SourceOptions(region=(("x", 0, 7),)), "x from 0 to 7 does not lie in the image, whose x goes from 0 to 6"),
        (SourceOptions(region=(("x", 3, 3),)), "x from 3 to 3"),
        (SourceOptions(spacing=(1.0, 2.0)), "spacing has 2 numbers; give one for all, or 3, one for each of z, y, x"),
        (SourceOptions(spacing=(1.0, 0.0, 1.0)), "greater than 0"),
        (SourceOptions(unit="furlong"), "the unit 'furlong' is not known; there are: angstrom"),
        (SourceOptions(axes="zyx"), "axes 'zyx' name 3 axes, and the image has 5"),
        (SourceOptions(axes="tczyy"), "each axis is one of t, c, z, y, x, and none comes twice"),
    ],
)
def test_what_is_not_there(options: SourceOptions, message: str) -> None:
    """The message says what there is."""
    with pytest.raises(InputError, match=f"^memory:five: .*{message}"):
        open_source("memory:five", options)


def test_channel_of_an_image_without_channels() -> None:
    """The message says which axes there are."""
    memory.put("plain", np.zeros((3, 4)))
    with pytest.raises(InputError, match="a channel is asked for, and the image's axes, 'yx', hold none"):
        open_source("memory:plain", SourceOptions(channel=0))


def test_users_axes_and_spacing_win() -> None:
    """What the user says of axes and voxel size is taken."""
    options = SourceOptions(axes="ctzyx", spacing=(3.0, 2.0, 1.0), unit="nanometer")
    info = open_source("memory:five", options).info
    assert [axis.name for axis in info.axes] == list("ctzyx")
    assert info.space_spacing_um == pytest.approx((0.003, 0.002, 0.001))
    assert open_source("memory:five", SourceOptions(spacing=(7.0,))).info.space_spacing_um == (7.0, 7.0, 7.0)
