"""The full search for the fastest variants of a device: each is tried, then all that work are timed in turn."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from convolume.devices.opencl import _trial
from convolume.devices.opencl._device import OpenCLDevice
from convolume.devices.opencl._discovery import find, traits_of
from convolume.devices.opencl._variants import CASES, Case, Variant, Variants, candidates
from convolume.records import VariantRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from convolume.records import DeviceInfo

__all__ = ["tune"]

EXTENT, REPEATS = 128, 7
# Others are faster than the first by more than what two timings of one program differ.
LEAST_GAIN = 0.03


def tune(info: DeviceInfo, tell: Callable[[str], None]) -> tuple[VariantRecord, ...]:
    """Find the fastest variant of each case, and remember it; see `convolume.devices.opencl.tune`."""
    traits = traits_of(find(info.identifier))
    if not traits.on_cpu:
        return ()
    known = Variants.recalled(info, traits)
    records: list[VariantRecord] = []
    for case in CASES:
        if case.numbers.sum == "float64" and not info.has_float64:
            continue
        records += _tuned(info, case, known, tell)
        # What was found is kept where the search is broken off.
        known.remember(info)
    return tuple(records)


def _tuned(info: DeviceInfo, case: Case, known: Variants, tell: Callable[[str], None]) -> Iterator[VariantRecord]:
    first, *others = candidates(case, known.traits)
    refused = known.skipped.setdefault(case.label, {})
    for variant in others:
        if variant not in refused and (reason := _trial.refusal(info, case, variant)):
            refused[variant] = reason
        tell(f"{case.label}, {variant}: {f'skipped, {refused[variant]}' if variant in refused else 'works'}")
    working = [variant for variant in (first, *others) if variant not in refused]
    seconds = _seconds(info, case, working)
    chosen = known.chosen[case.label] = fastest(seconds, first)
    sums = 2e-9 * np.prod(case.extents) * EXTENT**3
    tell(f"{case.label}: {chosen} is taken, {sums / seconds[chosen]:.0f} GFLOP/s")
    for variant in (first, *others):
        gflops = float(sums / seconds[variant]) if variant in seconds else 0.0
        yield VariantRecord(case.label, str(variant), gflops, variant == chosen, refused.get(variant, ""))


def fastest(seconds: Mapping[Variant, float], first: Variant) -> Variant:
    """Return the fastest variant; the first one, which needs no compiling, unless another gains more than noise."""
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < (1 - LEAST_GAIN) * seconds[first] else first


def _seconds(info: DeviceInfo, case: Case, variants: list[Variant]) -> dict[Variant, float]:
    """Return the least time of each variant; they take turns, so that none has a quiet minute for itself."""
    held = Variants(traits_of(find(info.identifier)))
    device = OpenCLDevice(info, 0, held)
    shape = (EXTENT,) * 3
    padded, stencil = _trial.correlation_of(case, shape)
    out = np.empty(shape, case.numbers.target)
    seconds: dict[Variant, list[float]] = {variant: [] for variant in variants}
    for _ in range(REPEATS + 1):
        for variant in variants:
            held.chosen[case.label] = variant
            began = perf_counter()
            device.correlate(padded, stencil, out, case.precision)
            seconds[variant].append(perf_counter() - began)
    # The first one compiled the program.
    return {variant: min(times[1:]) for variant, times in seconds.items()}
