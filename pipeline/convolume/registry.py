"""The four families of parts: the listing of a family's folder is its registry."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from convolume.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Family", "load_member", "member_names"]

Family = Literal["clusters", "devices", "filters", "stores"]


@cache
def member_names(family: Family) -> tuple[str, ...]:
    """Return the names of a family's members, read from its folder without importing any.

    Files and folders whose name begins with an underscore are helpers, not members.

    Examples
    --------
    >>> "gaussian" in member_names("filters")
    True
    """
    entries = files(f"convolume.{family}").iterdir()
    names = {
        entry.name.removesuffix(".py")
        for entry in entries
        if entry.name.endswith(".py") or entry.joinpath("__init__.py").is_file()
    }
    return tuple(sorted(name for name in names if not name.startswith("_")))


def load_member(family: Family, name: str) -> ModuleType:
    """Import one member of a family.

    Raises
    ------
    InputError
        The family has no such member; the message lists those there are.
    """
    names = member_names(family)
    if name not in names:
        singular = family.removesuffix("s")
        message = f"there is no {singular} {name!r}{did_you_mean(name, names)} (there are: {', '.join(names)})"
        raise InputError(message)
    return import_module(f"convolume.{family}.{name}")
