"""Every example in a docstring runs and gives what it says."""

import doctest
import pkgutil
from importlib import import_module
from types import ModuleType

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


@pytest.mark.parametrize("module", [convolume, convolume.ndimage])
def test_public_names_have_examples(module: ModuleType) -> None:
    """Each says by one how it is used."""
    names = [name for name in module.__all__ if not isinstance(getattr(module, name), ModuleType)]
    assert [name for name in names if ">>>" not in (getattr(module, name).__doc__ or "")] == []
