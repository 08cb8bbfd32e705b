"""How long programs keep a device busy, by OpenCL's own clock: pyopencl is watched, the package is left as it is."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pyopencl as cl

_launch = cl.Kernel.__call__


class _ProfilingQueue(cl.CommandQueue):
    def __init__(
        self,
        context: cl.Context,
        device: cl.Device | None = None,
        properties: cl.command_queue_properties | None = None,
    ) -> None:
        profiling = cl.command_queue_properties.PROFILING_ENABLE
        super().__init__(context, device, profiling if properties is None else properties | profiling)


class ProgramClock:
    """Adds up the times of all programs that are launched from here on; begins before the device is opened."""

    def __init__(self) -> None:
        self._events: list[cl.Event] = []

        def watched_launch(kernel: cl.Kernel, *arguments: Any, **options: Any) -> cl.Event:
            event = _launch(kernel, *arguments, **options)
            self._events.append(event)
            return event

        patch.object(cl, "CommandQueue", _ProfilingQueue).start()
        patch.object(cl.Kernel, "__call__", watched_launch).start()

    def restart(self) -> None:
        """Forget what was launched."""
        self._events.clear()

    def seconds(self) -> float:
        """Return how long any program has run since the last start: side by side counts once."""
        spans = sorted((event.profile.start, event.profile.end) for event in self._events)
        busy = end = 0
        for start, stop in spans:
            busy += max(0, stop - max(start, end))
            end = max(end, stop)
        return busy * 1e-9
