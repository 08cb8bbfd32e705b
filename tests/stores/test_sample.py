"""The MNI152 T1 template, found in nilearn's wheel without importing nilearn."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from convolume.errors import InputError
from convolume.image import Axis
from convolume.regions import Region
from convolume.stores import open_source, sample
from convolume.testing.stores import check_crosses_processes


def test_template() -> None:
    """189, 233 and 197 voxels of 1 mm, whose unit the header leaves unknown."""
    source = open_source("sample:mni152-t1")
    assert (source.info.shape, source.info.dtype) == ((189, 233, 197), "uint8")
    assert source.info.axes == tuple(Axis(name, "space", "millimeter", 1.0) for name in "zyx")
    assert source.info.notes == ("sample:mni152-t1: the header leaves the unit unknown; NIfTI's millimetres are taken",)
    assert "nilearn" not in sys.modules
    whole = source.read(Region.whole(source.info.shape))
    assert np.count_nonzero(whole) > whole.size // 10
    check_crosses_processes(source, whole)


def test_unknown_sample() -> None:
    """The message has the nearest name, and all of them."""
    with pytest.raises(InputError, match=r"no such sample; did you mean 'mni152-t1'\? \(there are: mni152-t1\)"):
        open_source("sample:mni152-t2")


def test_absent_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra."""

    def missing(name: str) -> list[object]:
        raise PackageNotFoundError(name)

    for files in (missing, lambda _name: None):
        monkeypatch.setattr(sample, "files", files)
        with pytest.raises(InputError, match=r"comes with nilearn, .*: pip install 'convolume\[demo"):
            open_source("sample:mni152-t1")
