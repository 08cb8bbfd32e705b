"""A block that failed for want of memory or of its device is done again: alone, or on another device."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from convolume.devices._selection import retire_device
from convolume.errors import DeviceLostError, HostMemoryError
from convolume.execution.notes import note, noting
from convolume.execution.task import run_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from convolume.execution.task import StoreJob
    from convolume.records import BlockRecord, DeviceInfo
    from convolume.regions import Region

__all__ = ["alone_if_memory_lacks", "recovered_block"]

T = TypeVar("T")


def recovered_block(job: StoreJob, index: tuple[int, ...], region: Region) -> BlockRecord:
    """Do one block, as `run_block` does; tried again where that may help, which its record notes.

    Raises
    ------
    RunError, DeviceError
        It could not be done; names the outputs, the block, its place and the cause.
    """

    def on(device: DeviceInfo) -> BlockRecord:
        return run_block(replace(job, blocks=replace(job.blocks, device=device)), index, region)

    with noting():
        return alone_if_memory_lacks(lambda: _on_one_that_answers((job.blocks.device, *job.blocks.others), on))


def _on_one_that_answers(devices: tuple[DeviceInfo, ...], do: Callable[[DeviceInfo], T]) -> T:
    """Do something on the first device that is not lost; those that turn out to be are retired in this process."""
    *others, last = devices
    for device in others:
        try:
            return do(device)
        except DeviceLostError:
            retire_device(device)
            note(f"{device.name} is lost: done on another device")
    return do(last)


def alone_if_memory_lacks(call: Callable[[], T]) -> T:
    """Make a call; where memory lacked, once more, alone in this process."""
    try:
        with _turns.beside_others():
            return call()
    except HostMemoryError:
        note("done while no other block was, for want of memory")
    with _turns.alone():
        return call()


class _Turns:
    """Lets calls go side by side, or one alone while the others wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._side_by_side, self._is_taken = 0, False

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_taken)
            self._side_by_side += 1
        try:
            yield
        finally:
            with self._changed:
                self._side_by_side -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_taken)
            self._is_taken = True
            self._changed.wait_for(lambda: not self._side_by_side)
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()


_turns = _Turns()
