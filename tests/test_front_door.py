"""The front door: names, and nothing behind it until it is used."""

import subprocess
import sys

import pytest

import convolume


def in_a_new_process(code: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()


def test_importing_loads_nothing_heavy() -> None:
    """Not even NumPy."""
    heavy = "{'numpy', 'dask', 'distributed', 'zarr', 'tensorstore', 'pyopencl', 'scipy', 'pydantic', 'matplotlib'}"
    assert in_a_new_process(f"import sys, convolume; print(sorted({heavy} & set(sys.modules)))") == "[]"


@pytest.mark.parametrize("name", convolume.__all__)
def test_every_name_is_there(name: str) -> None:
    """And is listed."""
    assert getattr(convolume, name) is getattr(convolume, name)
    assert name in dir(convolume)


def test_other_names_are_not() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'convolume' has no attribute 'runn'"):
        convolume.runn  # noqa: B018 - to be refused


def test_modules_do_not_hide_functions() -> None:
    """`run` stays a function, whatever is imported."""
    code = "import convolume.runner, convolume.planning.plan, convolume.volume as v, convolume; "
    assert in_a_new_process(code + "print(callable(convolume.run), callable(convolume.plan), v.Volume.__name__)") == (
        "True True Volume"
    )
