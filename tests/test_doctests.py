"""Every example in a docstring runs and gives what it says."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import convolume

MODULES = [
    module.name
    for module in pkgutil.walk_packages(convolume.__path__, "convolume.")
    if not module.name.startswith("convolume.testing") and not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["convolume", *MODULES])
def test_examples_hold(name: str) -> None:
    """Module by module."""
    assert doctest.testmod(import_module(name)).failed == 0
