"""What workers have that others have started, and whether it fits: devices, the input, the folders of outputs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed.protocol import pickle

from convolume.devices._selection import choose_device, list_devices
from convolume.errors import InputError
from convolume.execution.footprint import resident_bytes
from convolume.execution.task import identity_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from convolume.clusters.address import StandingScheduler
    from convolume.devices._selection import DeviceChoice
    from convolume.records import DeviceInfo
    from convolume.stores import Sink, Source

__all__ = ["Inspected", "check_input_seen", "check_outputs_seen", "inspected"]

# File servers show a new file to other machines after a moment.
_PATIENCE_S, _LOOK_EVERY_S = 5.0, 0.1
_SHARED = "input and outputs must lie where every worker finds them under the same path, as on a shared file system"


@dataclass(frozen=True, slots=True)
class Inspected:
    """What all workers have: the device that a run takes, and the most that one of them holds before it."""

    device: DeviceChoice
    held_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Traits:
    """What one worker has; `choice` is why there is none where its wishes are like no device."""

    devices: tuple[DeviceInfo, ...]
    choice: DeviceChoice | str
    held_bytes: int


def inspected(cluster: StandingScheduler, wishes: str | Sequence[str] | None) -> Inspected:
    """Ask all workers for their devices, and settle which one the run takes.

    Parameters
    ----------
    cluster : StandingScheduler
        It was joined.
    wishes : str or sequence of str, optional
        Of the configuration; without any, those of each worker's own environment count.

    Raises
    ------
    InputError
        A worker has no such device, two would take different ones, or this process has none of it.
    """
    traits: dict[str, _Traits] = cluster.ask_each(_traits_here, wishes)
    choices = _choices(traits)
    taken = choices[0].info
    if any(not _same_model(choice.info, taken) for choice in choices):
        message = (
            f"the workers would take different devices: {_told(traits)}; name one that all of them have (`device:`)"
        )
        raise InputError(message)
    own = [info for info in list_devices() if _same_model(info, taken)]
    if not own:
        message = (
            f"the workers take {_name(taken)}, and this machine has none of it to plan with (it has "
            f"{_names(list_devices())}): start the run on a machine that has one, such as a worker's, or name a device "
            "that all of them have (`device: numpy` is one)"
        )
        raise InputError(message)
    info = replace(
        own[0],
        memory_bytes=min(choice.info.memory_bytes for choice in choices),
        max_allocation_bytes=min(choice.info.max_allocation_bytes for choice in choices),
    )
    common = set.intersection(*({each.identifier for each in of_one.devices} for of_one in traits.values()))
    others = tuple(other for other in choices[0].others if other.identifier in common - {info.identifier})
    device = replace(choices[0], info=info, others=others)
    return Inspected(device, max(each.held_bytes for each in traits.values()), _driver_note(own[0], traits, choices))


def check_input_seen(cluster: StandingScheduler, source: Source) -> None:
    """Refuse an input that some worker does not find, or finds with other sizes.

    Raises
    ------
    InputError
        Names the worker, and what it sees.
    """
    here = identity_of(source)
    for address, there in cluster.ask_each(_look_at, pickle.dumps(source)).items():
        if isinstance(there, str):
            why = there
        elif (there.signature, there.sizes_bytes) == (here.signature, here.sizes_bytes):
            continue
        else:
            why = "what lies there has other metadata, or files of other sizes"
        message = f"{source.path}: worker {address} does not see the same image there ({why}): {_SHARED}"
        raise InputError(message)


def check_outputs_seen(cluster: StandingScheduler, sink: Sink) -> None:
    """Refuse an output in whose folder some worker does not see what is written here, or cannot write.

    A file is written beside where the output will be, and removed again.

    Raises
    ------
    InputError
        Names the worker, and what it sees.
    """
    folder = next(parent for parent in Path(sink.path).absolute().parents if parent.is_dir())
    token = uuid4().hex
    with tempfile.NamedTemporaryFile(prefix=".convolume-", dir=folder) as file:
        file.write(token.encode("ascii"))
        file.flush()
        for address, why in cluster.ask_each(_try_folder, file.name, token).items():
            if why:
                message = f"{sink.path}: worker {address} cannot write there ({why}): {_SHARED}"
                raise InputError(message)


def _traits_here(wishes: str | Sequence[str] | None, dask_worker: Any) -> _Traits:
    del dask_worker
    choice: DeviceChoice | str
    try:
        choice = choose_device(wishes)
    except InputError as error:
        choice = str(error)
    return _Traits(list_devices(), choice, resident_bytes())


def _look_at(packed: bytes, dask_worker: Any) -> Any:
    """Return the identity of an image as this worker sees it, or why it does not."""
    del dask_worker
    try:
        return pickle.loads(packed).identity()
    except (InputError, OSError, ValueError) as error:
        return _words(error)


def _try_folder(file: str, token: str, dask_worker: Any) -> str:
    """Say what keeps this worker from a folder: the file that the client wrote there is not seen, or none can be."""
    del dask_worker
    try:
        if not _sees(Path(file), token):
            return "a file that was just written there is not seen"
        with tempfile.TemporaryDirectory(prefix=".convolume-", dir=Path(file).parent):
            return ""
    except OSError as error:
        return _words(error)


def _sees(file: Path, token: str) -> bool:
    until = monotonic() + _PATIENCE_S
    while not (file.exists() and file.read_text(encoding="ascii") == token):
        if monotonic() > until:
            return False
        sleep(_LOOK_EVERY_S)
    return True


def _choices(traits: Mapping[str, _Traits]) -> list[DeviceChoice]:
    for address, each in traits.items():
        if isinstance(each.choice, str):
            message = f"worker {address}: {each.choice}"
            raise InputError(message)
    return [each.choice for each in traits.values() if not isinstance(each.choice, str)]


def _same_model(one: DeviceInfo, other: DeviceInfo) -> bool:
    return (one.backend, one.platform, one.name) == (other.backend, other.platform, other.name)


def _driver_note(own: DeviceInfo, traits: Mapping[str, _Traits], choices: Sequence[DeviceChoice]) -> tuple[str, ...]:
    found = {choice.info.driver: address for address, choice in zip(traits, choices, strict=True)}
    differing = [f"worker {address} has {driver}" for driver, address in found.items() if driver != own.driver]
    if not differing:
        return ()
    return (f"drivers of {own.name} differ: this machine has {own.driver}; {'; '.join(differing)}",)


def _told(traits: Mapping[str, _Traits]) -> str:
    """Return what each worker would take and what it has; workers that are alike are told once."""
    found: dict[str, list[str]] = {}
    for address, each in traits.items():
        taken = each.choice if isinstance(each.choice, str) else _name(each.choice.info)
        found.setdefault(f"{taken} (it has {_names(each.devices)})", []).append(address)
    return "; ".join(
        f"worker {addresses[0]}{f' and {len(addresses) - 1} more' if len(addresses) > 1 else ''} {text}"
        for text, addresses in found.items()
    )


def _names(infos: Iterable[DeviceInfo]) -> str:
    return ", ".join(_name(info) for info in infos)


def _name(info: DeviceInfo) -> str:
    return f"{info.name} ({info.backend})"


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
