"""Whether workers that others have started have the packages that this process has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convolume.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["PACKAGES", "checked_versions"]

PACKAGES = ("convolume", "dask", "distributed", "numpy", "tensorstore", "zarr", "pyopencl")
# How many numbers of a version must be the same; of the others distributed itself says no more than that they differ.
_COUNTED = {"python": 2, "numpy": 1}
_NOTHING = "none"


def checked_versions(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return notes of what differs; what cannot work is refused.

    Parameters
    ----------
    told : mapping
        What `distributed.Client.get_versions` returns: of the client and of all workers.

    Raises
    ------
    InputError
        Names every worker that lacks the package or has another one, what it has, and what to do.
    """
    here, workers = told["client"]["packages"], told["workers"]
    wrong: list[str] = []
    notes: list[str] = []
    for package in ("python", *PACKAGES):
        others = _others(package, here, workers)
        if package == "convolume" and others:
            wrong += list(_of_convolume(others, here[package]))
        elif others:
            text = f"{package} differs: this process has {here[package] or _NOTHING}; {_listed(others)}"
            must = _COUNTED.get(package)
            is_wrong = must and any(_numbers(other, must) != _numbers(here[package], must) for other in others)
            (wrong if is_wrong else notes).append(text)
    if wrong:
        message = f"{'; '.join(wrong)}: give all of them the same environment, and start them again"
        raise InputError(message)
    return tuple(notes)


def _of_convolume(others: Mapping[str | None, list[str]], here: str) -> Iterator[str]:
    for other, addresses in others.items():
        if other is None:
            yield f"convolume is not installed for {_names(addresses)} (`pip install convolume=={here}` there)"
        else:
            yield (
                f"{_names(addresses)} has convolume {other}, and this process {here} "
                f"(`pip install convolume=={here}` there)"
            )


def _others(package: str, here: Mapping[str, Any], workers: Mapping[str, Any]) -> dict[str | None, list[str]]:
    """Return the workers that have not what this process has, by what they have."""
    found: dict[str | None, list[str]] = {}
    for address, of_worker in workers.items():
        version = of_worker["packages"].get(package)
        if version != here[package]:
            found.setdefault(version, []).append(address)
    return found


def _listed(others: Mapping[str | None, list[str]]) -> str:
    return "; ".join(f"{_names(addresses)} has {version or _NOTHING}" for version, addresses in others.items())


def _names(addresses: list[str]) -> str:
    first, *more = addresses
    return f"worker {first}{f' and {len(more)} more' if more else ''}"


def _numbers(version: str | None, count: int) -> tuple[str, ...]:
    return tuple((version or "").split(".")[:count])
