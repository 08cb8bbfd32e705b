"""Which device a run takes: all there are, a choice by wishes, and one open device of each in a process."""

from __future__ import annotations

import logging
import os
import threading
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from convolume.errors import DeviceLostError, InputError
from convolume.registry import load_member, member_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Token
    from types import TracebackType

    from convolume.devices import Device
    from convolume.records import DeviceInfo, VariantRecord

__all__ = [
    "DeviceChoice",
    "alike_devices",
    "choose_device",
    "list_devices",
    "open_device",
    "retire_device",
    "select_device",
    "tune_device",
    "worker_environments",
]

ANY = "any"
FALLBACK = "numpy"
VARIABLE = "CONVOLUME_DEVICE"
WORKER_VARIABLE = "CONVOLUME_WORKER_DEVICE"
SELECTED = "selected"

Wishes = tuple[str, ...]

_logger = logging.getLogger("convolume")
_wishes_of_process: dict[str, Wishes] = {}
_wishes_here: ContextVar[Wishes] = ContextVar("convolume_device_wishes", default=())
_opened: dict[tuple[int, str, str], Device] = {}
_retired: set[tuple[int, str, str]] = set()
_opening = threading.Lock()
_said: set[str] = set()
# What was found for wishes in a process: drivers are loaded once, so that devices stay what they are.
_chosen: dict[tuple[int, Wishes, str], DeviceChoice] = {}


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """The device that is taken, why, and why the others are not: ``(name, reason)`` each.

    `others` are allowed by the wishes too, in their order: they serve where the device is lost in the midst of a run.
    """

    info: DeviceInfo
    reason: str
    rejected: tuple[tuple[str, str], ...] = ()
    others: tuple[DeviceInfo, ...] = ()


def list_devices() -> tuple[DeviceInfo, ...]:
    """Return every device of this machine, family member by family member, NumPy last.

    Examples
    --------
    >>> list_devices()[-1].backend
    'numpy'
    """
    backends = sorted(member_names("devices"), key=lambda name: (name == FALLBACK, name))
    return tuple(info for backend in backends for info in load_member("devices", backend).available())


def choose_device(wishes: str | Sequence[str] | None = None) -> DeviceChoice:
    """Choose a device by a part of its name, or the fastest.

    Parameters
    ----------
    wishes : str or sequence of str, optional
        Parts of a device's name, platform or backend, case ignored, tried in order; ``any`` is the fastest.
        Without wishes those of `select_device` count, else the variable ``CONVOLUME_DEVICE`` (separated by
        commas), else the fastest device is taken.

    Returns
    -------
    DeviceChoice
        The device with the reasons. Speed is measured once where several devices come into question.

    Raises
    ------
    InputError
        No device is like any of the wishes; the message lists those there are.

    Examples
    --------
    >>> choose_device("numpy").info.backend
    'numpy'
    """
    wanted, whence = _settled(wishes)
    key = os.getpid(), wanted, whence
    if key not in _chosen:
        _chosen[key] = _found(wanted, whence)
    return _chosen[key]


def _found(wanted: Wishes, whence: str) -> DeviceChoice:
    infos = list_devices()
    for wish in wanted:
        found = _fastest_first(_matching(wish, infos))
        if found:
            choice = _choice(found, infos, _reason(wish, whence, found, infos))
            return replace(choice, others=_others(found[0], wanted, infos))
    there_are = "; ".join(f"{info.name} ({info.backend}{_on(info)})" for info in infos) or "none"
    message = (
        f"no device is like {' or '.join(repr(wish) for wish in wanted)} ({whence}); there are: {there_are}. "
        "Name a part of one of these, or end the list of wishes in 'any' for the fastest"
    )
    raise InputError(message)


def open_device(info: DeviceInfo) -> Device:
    """Return the device that `info` describes; a process opens each one once.

    Raises
    ------
    DeviceError
        This process has no such device.
    DeviceLostError
        It had, and lost it.
    """
    info = _of_this_worker(info)
    key = _key(info)
    with _opening:
        if key in _retired:
            message = f"{info.name} ({info.backend}) was lost, and is not used again by this process"
            raise DeviceLostError(message)
        if key not in _opened:
            _opened[key] = load_member("devices", info.backend).open_device(info)
        return _opened[key]


def retire_device(info: DeviceInfo) -> None:
    """Do not use a device again in this process: it does not answer any more."""
    info = _of_this_worker(info)
    with _opening:
        _retired.add(_key(info))
        _opened.pop(_key(info), None)


def alike_devices(info: DeviceInfo) -> tuple[DeviceInfo, ...]:
    """Return the devices of this machine that differ from one in nothing but their place, itself among them.

    Examples
    --------
    >>> [info.name for info in alike_devices(choose_device("numpy").info)] == [choose_device("numpy").info.name]
    True
    """
    return tuple(each for each in list_devices() if _kin(each) == _kin(info))


def worker_environments(infos: Sequence[DeviceInfo]) -> tuple[dict[str, str], ...]:
    """Return the variables by which workers, in turn, are handed a device each."""
    return tuple({WORKER_VARIABLE: info.identifier} for info in infos)


def _of_this_worker(info: DeviceInfo) -> DeviceInfo:
    """Return the device that this worker process was handed, where it is like the one asked for and not lost."""
    handed = replace(info, identifier=os.environ.get(WORKER_VARIABLE, info.identifier))
    return handed if _kin(handed) == _kin(info) and _key(handed) not in _retired else info


def _kin(info: DeviceInfo) -> tuple[str, str]:
    # Identical devices are told apart by the number at the end alone.
    return info.backend, info.identifier.rpartition("/")[0]


def _key(info: DeviceInfo) -> tuple[int, str, str]:
    # A fork does not inherit open devices: the process is part of the key.
    return os.getpid(), info.backend, info.identifier


def tune_device(info: DeviceInfo, tell: Callable[[str], None]) -> tuple[VariantRecord, ...]:
    """Time the shapes of a device's programs and keep the fastest; nothing where it has but one.

    Parameters
    ----------
    info : DeviceInfo
        The device.
    tell : callable
        Is told, in a line, what was found of each.
    """
    tune = getattr(load_member("devices", info.backend), "tune", None)
    return tuple(tune(info, tell)) if tune else ()


class select_device:  # noqa: N801 - it reads as the function that it mostly is
    """Take another device from here on, or within a ``with`` block.

    Parameters
    ----------
    wish : str or sequence of str
        As for `choose_device`.

    Raises
    ------
    InputError
        No device is like any of the wishes.

    Notes
    -----
    A call sets the device for the whole process. In a ``with`` statement it holds for the block alone, for
    this thread or task, and whatever was selected before counts again afterwards.

    Examples
    --------
    >>> with select_device("numpy"):
    ...     choose_device().info.backend
    'numpy'
    """

    def __init__(self, wish: str | Sequence[str]) -> None:
        self._wishes = _as_wishes(wish)
        self._tokens: list[Token[Wishes]] = []
        self.choice = choose_device(self._wishes)
        self._before = _wishes_of_process.get(SELECTED, ())
        _wishes_of_process[SELECTED] = self._wishes

    def __enter__(self) -> Self:
        """Narrow the selection from the process to this block."""
        if not self._tokens:
            _wishes_of_process[SELECTED] = self._before
        self._tokens.append(_wishes_here.set(self._wishes))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let count again what was selected before."""
        _wishes_here.reset(self._tokens.pop())


def _settled(wishes: str | Sequence[str] | None) -> tuple[Wishes, str]:
    """Return the wishes that count, and where they come from."""
    sources = [
        (_as_wishes(wishes or ()), "asked for"),
        (_wishes_here.get() or _wishes_of_process.get(SELECTED, ()), "by select_device"),
        (_as_wishes(os.environ.get(VARIABLE, "").split(",")), f"by the variable {VARIABLE}"),
    ]
    return next(((found, whence) for found, whence in sources if found), ((ANY,), "by default"))


def _as_wishes(wishes: str | Sequence[str]) -> Wishes:
    parts = (wishes,) if isinstance(wishes, str) else wishes
    return tuple(part.strip() for part in parts if part.strip())


def _matching(wish: str, infos: tuple[DeviceInfo, ...]) -> list[DeviceInfo]:
    if wish.lower() == ANY:
        return [info for info in infos if info.backend != FALLBACK] or list(infos)
    return [info for info in infos if any(wish.lower() in text.lower() for text in _names(info))]


def _names(info: DeviceInfo) -> tuple[str, str, str]:
    return info.name, info.platform, info.backend


def _others(taken: DeviceInfo, wanted: Wishes, infos: tuple[DeviceInfo, ...]) -> tuple[DeviceInfo, ...]:
    """Return the devices that the wishes allow beside the one that is taken; ``any`` allows NumPy, last."""
    allowed = [info for wish in wanted for info in (infos if wish.lower() == ANY else _matching(wish, infos))]
    found = {info.identifier: info for info in allowed if info.identifier != taken.identifier}
    return tuple(sorted(found.values(), key=_is_fallback))


def _fastest_first(found: list[DeviceInfo]) -> list[DeviceInfo]:
    """Sort by measured speed; where there is nothing to choose nothing is measured."""
    if len(found) < 2:  # noqa: PLR2004 - one or none
        return found
    measured = [replace(info, speed_gflops=info.speed_gflops or _measured(info)) for info in found]
    return sorted(measured, key=lambda info: -info.speed_gflops)


def _measured(info: DeviceInfo) -> float:
    measure = getattr(load_member("devices", info.backend), "measured_speed_gflops", None)
    return float(measure(info)) if measure else 0.0


def _choice(found: list[DeviceInfo], infos: tuple[DeviceInfo, ...], reason: str) -> DeviceChoice:
    slower = {info.identifier: info for info in found[1:]}
    rejected = []
    for info in infos:
        if info.identifier in slower:
            speed = slower[info.identifier].speed_gflops
            rejected.append((info.name, f"not faster: {speed:.3g} against {found[0].speed_gflops:.3g} GFLOP/s"))
        elif info.identifier != found[0].identifier:
            rejected.append((info.name, "serves where there is no OpenCL" if _is_fallback(info) else "not asked for"))
    return DeviceChoice(found[0], reason, tuple(rejected))


def _is_fallback(info: DeviceInfo) -> bool:
    return info.backend == FALLBACK


def _reason(wish: str, whence: str, found: list[DeviceInfo], infos: tuple[DeviceInfo, ...]) -> str:
    if wish.lower() != ANY:
        return f"like {wish!r}, {whence}" + (f"; the fastest of {len(found)}" if len(found) > 1 else "")
    if all(_is_fallback(info) for info in infos):
        _say_once("no OpenCL device was found: NumPy serves, slowly. Install a driver, or `pip install pyopencl[pocl]`")
        return f"there is no OpenCL device ({whence})"
    return f"the {'fastest' if len(found) > 1 else 'only'} OpenCL device ({whence})"


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        _logger.warning(message)


def _on(info: DeviceInfo) -> str:
    return f", {info.platform}" if info.platform else ""
