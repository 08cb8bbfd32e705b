"""A family's folder is its registry."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import convolume
from convolume.errors import InputError
from convolume.registry import Family, load_member, member_names

PACKAGE = Path(convolume.__file__).parent


@pytest.mark.parametrize("family", get_args(Family))
def test_members_are_the_files_of_the_folder(family: Family) -> None:
    """Without helpers."""
    names = member_names(family)
    assert list(names) == sorted(names)
    assert set(names) == {
        path.stem
        for path in (PACKAGE / family).iterdir()
        if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").is_file())
    }


def test_a_member_is_imported_by_its_name() -> None:
    """As a module."""
    assert load_member("filters", "laplace").__name__ == "convolume.filters.laplace"


def test_a_wrong_name_is_told_with_the_nearest() -> None:
    """And helpers are no members."""
    message = "there is no filter 'gausian'; did you mean 'gaussian'? (there are: box, convolve, "
    with pytest.raises(InputError, match=re.escape(message)):
        load_member("filters", "gausian")
    with pytest.raises(InputError, match="there is no filter '_fields'"):
        load_member("filters", "_fields")


def test_listing_imports_no_member() -> None:
    """A broken member must not break the listing."""
    program = (
        "import sys; from convolume.registry import member_names; "
        "names = [f'convolume.{family}.{name}' for family in ('filters', 'devices', 'stores', 'clusters') "
        "for name in member_names(family)]; assert names; print([name for name in names if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (our own program)
    assert found.stdout.strip() == "[]"
