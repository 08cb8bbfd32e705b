"""Which way a dense kernel is weighed: directly, axis by axis, or by the Fourier transform, by what was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from convolume.devices._transform import Transform, transform_tile
from convolume.errors import InputError
from convolume.numerics import Precision
from convolume.operations import Correlate, Method, Operation, Sequence, correlations, replaced
from convolume.planning.separable import TOLERANCE, axis_by_axis, distance_from_separable

if TYPE_CHECKING:
    from convolume.devices import Device
    from convolume.records import MethodSpeeds

__all__ = ["MethodChoice", "settled"]

# Sums of a whole image below which nothing is weighed up: they take a few milliseconds.
_FEWEST_SUMS = 3e7
# What is transformed at a time is taken for this long, whatever the blocks: a choice must not depend on them.
_NOMINAL_EXTENT = 256


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """How a dense kernel is weighed, why, and why not otherwise.

    Parameters
    ----------
    kernel_shape : tuple of int
        Extents of the kernel, one for every axis of the image.
    name : {'direct', 'separable', 'fft'}
        The method.
    reason : str
        Why.
    rejected : tuple of (str, str)
        The other methods, and why not.
    forecast_ns : tuple of (str, float)
        Nanoseconds a voxel that each method was expected to take, where they were weighed up.
    """

    kernel_shape: tuple[int, ...]
    name: Method
    reason: str
    rejected: tuple[tuple[str, str], ...] = ()
    forecast_ns: tuple[tuple[str, float], ...] = ()


def settled(
    operation: Operation, image_shape: tuple[int, ...], device: Device, precision: Precision
) -> tuple[Operation, tuple[MethodChoice, ...]]:
    """Return a tree in which every correlation is direct or transformed, and what was chosen.

    Parameters
    ----------
    operation : Operation
        Correlations whose method is ``direct`` stay as they are.
    image_shape : tuple of int
        Extents of the whole image; a choice depends on nothing else of the image.
    device : Device
        Its speeds are measured where a choice needs them.
    precision : Precision
        Sums to the digit (``scipy``) are always direct.

    Raises
    ------
    InputError
        A method is asked for that does not fit.
    """
    choices: list[MethodChoice] = []

    def settle(step: Correlate) -> Operation:
        if step.method == "direct":
            return step
        choice = _choice(step, image_shape, device, precision)
        choices.append(choice)
        return _done_by(choice.name, step)

    return replaced(operation, settle), tuple(choices)


def _choice(step: Correlate, shape: tuple[int, ...], device: Device, precision: Precision) -> MethodChoice:
    if step.method == "auto":
        return _chosen(step, shape, device, precision)
    if precision is Precision.SCIPY:
        message = (
            f"`method: {step.method}` rounds, and integer results are exact: leave `method` out, "
            "or name a floating-point output"
        )
        raise InputError(message)
    if step.method == "separable" and axis_by_axis(step) is None:
        message = f"`method: separable` does not fit: {_why_not_separable(step)}; name `auto`, `direct` or `fft`"
        raise InputError(message)
    return MethodChoice(step.stencil.shape, step.method, "the workflow names it")


def _chosen(step: Correlate, shape: tuple[int, ...], device: Device, precision: Precision) -> MethodChoice:
    kernel = step.stencil.shape
    if precision is Precision.SCIPY:
        return MethodChoice(kernel, "direct", "integer results are exact")
    if step.stencil.tap_count * prod(shape) < _FEWEST_SUMS:
        return MethodChoice(kernel, "direct", "there is too little to do for a choice to matter")
    forecast = _forecast_ns(step, shape, device)
    name = min(forecast, key=forecast.__getitem__)
    expected = {method: _expected(taken, device) for method, taken in forecast.items()}
    rejected = [(other, reason) for other, reason in expected.items() if other != name]
    if axis_by_axis(step) is None:
        rejected.append(("separable", _why_not_separable(step)))
    return MethodChoice(kernel, name, expected[name], tuple(rejected), tuple(forecast.items()))


def _done_by(method: Method, step: Correlate) -> Operation:
    """Return what a device does for a correlation."""
    if method == "separable":
        return axis_by_axis(step) or step
    return replace(step, method=method)


def _forecast_ns(step: Correlate, shape: tuple[int, ...], device: Device) -> dict[Method, float]:
    """Return what each method that fits is expected to take, in nanoseconds a voxel."""
    speeds, voxels = device.speeds, prod(shape)
    tap_ns = speeds.special_tap_ns if device.prepares([step.stencil], voxels) else speeds.tap_ns
    forecast: dict[Method, float] = {
        "direct": speeds.call_ns / voxels + speeds.pass_ns + tap_ns * step.stencil.tap_count
    }
    passes = axis_by_axis(step)
    if passes is not None and len(passes.operations) > 1:
        forecast["separable"] = _separable_ns(passes, voxels, device)
    forecast["fft"] = _transform_ns(step, shape, speeds)
    return forecast


def _separable_ns(passes: Sequence, voxels: int, device: Device) -> float:
    speeds, stencils = device.speeds, [step.stencil for step in correlations(passes)]
    taps = sum(stencil.tap_count for stencil in stencils)
    if device.prepares(stencils, voxels):
        return speeds.call_ns / voxels + speeds.walk_ns + taps * speeds.special_tap_ns
    return len(stencils) * (speeds.call_ns / voxels + speeds.pass_ns) + taps * speeds.tap_ns


def _transform_ns(step: Correlate, shape: tuple[int, ...], speeds: MethodSpeeds) -> float:
    tile = transform_tile(tuple(min(n, _NOMINAL_EXTENT) for n in shape), step.stencil.shape)
    transform = Transform(tile, step.stencil.shape)
    point_ns = (speeds.line_point_ns, speeds.plane_point_ns, speeds.point_ns)[min(len(transform.axes), 3) - 1]
    return speeds.transform_call_ns / prod(shape) + point_ns * transform.work / prod(tile)


def _expected(taken_ns: float, device: Device) -> str:
    by = "by what was measured on the device" if device.speeds.is_measured else "as on most processors"
    return f"about {taken_ns:.3g} ns a voxel, {by}"


def _why_not_separable(step: Correlate) -> str:
    distance = distance_from_separable(step.stencil)
    if distance <= TOLERANCE:
        return f"its constant {step.cval} is not finite"
    away = f", by {distance:.2g} of its largest weight" if distance < 1 else ""
    return f"the kernel is no outer product of one-axis weights{away}"
