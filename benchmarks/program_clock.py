"""How long programs keep a device busy, by OpenCL's own clock: pyopencl is watched, the package is left as it is."""

from __future__ import annotations

from typing import Any

import pyopencl as cl


class ProgramClock:
    """Adds up the times of all programs that are launched from here on; begins before the device is opened."""

    def __init__(self) -> None:
        self._events: list[Any] = []
        launch, queue_class = cl.Kernel.__call__, cl.CommandQueue

        class ProfilingQueue(queue_class):  # type: ignore[misc]  # pyopencl has no types here
            def __init__(self, context: Any, device: Any = None, properties: Any = None) -> None:
                profiling = cl.command_queue_properties.PROFILING_ENABLE
                super().__init__(context, device, profiling if properties is None else profiling | properties)

        def watched_launch(kernel: Any, *arguments: Any, **options: Any) -> Any:
            event = launch(kernel, *arguments, **options)
            self._events.append(event)
            return event

        cl.CommandQueue, cl.Kernel.__call__ = ProfilingQueue, watched_launch

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
