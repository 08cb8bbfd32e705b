"""Which way a dense kernel is weighed: directly, axis by axis, or by the Fourier transform, by what was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from convolume.addition_chain import addition_chain
from convolume.devices._transform import Transform, transform_tile
from convolume.errors import InputError
from convolume.numerics import Precision
from convolume.operations import Correlate, Method, Operation, Sequence, correlations, replaced
from convolume.planning.earlier import RESUMED
from convolume.planning.separable import TOLERANCE, axis_by_axis, distance_from_separable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.devices import Device
    from convolume.records import MethodSpeeds

__all__ = ["MethodChoice", "settled", "step_ns", "walk_ns"]

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
    operation: Operation,
    image_shape: tuple[int, ...],
    device: Device,
    precision: Precision,
    before: Iterator[Method] | None = None,
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
    before : iterator of Method, optional
        What an earlier attempt at the same run chose, an entry for each correlation that is not ``direct``.

    Raises
    ------
    InputError
        A method is asked for that does not fit.
    """
    choices: list[MethodChoice] = []

    def settle(step: Correlate) -> Operation:
        if step.method == "direct":
            return step
        earlier = next(before, None) if before else None
        if earlier is not None and step.method == "auto":
            choice = MethodChoice(step.stencil.shape, earlier, RESUMED)
        else:
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
    speeds = device.speeds
    forecast = _forecast_ns(step, shape, device, speeds)
    name = min(forecast, key=forecast.__getitem__)
    expected = {method: _expected(taken, speeds) for method, taken in forecast.items()}
    rejected = [(other, reason) for other, reason in expected.items() if other != name]
    if axis_by_axis(step) is None:
        rejected.append(("separable", _why_not_separable(step)))
    return MethodChoice(kernel, name, expected[name], tuple(rejected), tuple(forecast.items()))


def _done_by(method: Method, step: Correlate) -> Operation:
    """Return what a device does for a correlation."""
    if method == "separable":
        return axis_by_axis(step) or step
    return replace(step, method=method)


def step_ns(step: Correlate, voxels: int, speeds: MethodSpeeds, *, prepares: bool) -> float:
    """Return what a settled correlation is expected to take for so many voxels, in nanoseconds."""
    if step.method == "fft":
        return _transform_ns(step, (_NOMINAL_EXTENT,) * step.stencil.ndim, voxels, speeds)
    return _direct_ns(step, voxels, speeds, prepares=prepares)


def walk_ns(passes: Sequence, voxels: int, speeds: MethodSpeeds) -> float | None:
    """Return what passes along one axis each take in one walk, in nanoseconds; None where they are not such."""
    steps = [step for step in passes.operations if isinstance(step, Correlate) and step.method != "fft"]
    axes = [axis for step in steps for axis, extent in enumerate(step.stencil.shape) if extent > 1]
    if not 1 < len(steps) == len(passes.operations) == len(axes) == len(set(axes)):
        return None
    return _walk_ns(passes, voxels, speeds)


def _forecast_ns(step: Correlate, shape: tuple[int, ...], device: Device, speeds: MethodSpeeds) -> dict[Method, float]:
    """Return what each method that fits is expected to take, in nanoseconds a voxel."""
    voxels = prod(shape)
    direct_ns = _direct_ns(step, voxels, speeds, prepares=device.prepares([step.stencil], voxels))
    taken_ns: dict[Method, float] = {"direct": direct_ns}
    passes = axis_by_axis(step)
    if passes is not None and len(passes.operations) > 1:
        prepares = device.prepares([one.stencil for one in correlations(passes)], voxels)
        taken_ns["separable"] = _separable_ns(passes, voxels, speeds, prepares=prepares)
    taken_ns["fft"] = _transform_ns(step, shape, voxels, speeds)
    return {method: taken / voxels for method, taken in taken_ns.items()}


def _direct_ns(step: Correlate, voxels: int, speeds: MethodSpeeds, *, prepares: bool) -> float:
    if prepares:
        return speeds.call_ns + voxels * (speeds.pass_ns + _sums(step) * speeds.special_tap_ns)
    # Filled faces are calls of their own, each a twentieth of the first.
    return speeds.call_ns + voxels * (speeds.pass_ns + step.stencil.tap_count * speeds.tap_ns)


def _separable_ns(passes: Sequence, voxels: int, speeds: MethodSpeeds, *, prepares: bool) -> float:
    if prepares:
        return _walk_ns(passes, voxels, speeds)
    return sum(_direct_ns(step, voxels, speeds, prepares=False) for step in correlations(passes))


def _walk_ns(passes: Sequence, voxels: int, speeds: MethodSpeeds) -> float:
    sums = sum(map(_sums, correlations(passes)))
    return speeds.call_ns + voxels * (speeds.walk_ns + sums * speeds.special_tap_ns)


def _transform_ns(step: Correlate, shape: tuple[int, ...], voxels: int, speeds: MethodSpeeds) -> float:
    tile = transform_tile(tuple(min(n, _NOMINAL_EXTENT) for n in shape), step.stencil.shape)
    transform = Transform(tile, step.stencil.shape)
    point_ns = (speeds.line_point_ns, speeds.plane_point_ns, speeds.point_ns)[min(len(transform.axes), 3) - 1]
    return speeds.transform_call_ns + voxels * point_ns * transform.work / prod(tile)


def _sums(step: Correlate) -> int:
    """Return how many sums a voxel takes in a program that is made for a stencil.

    One a tap; of a box those of its addition chain, and one that weighs.
    """
    stencil = step.stencil
    return len(addition_chain(stencil.size)) if stencil.adds_as_box(exact=False) else stencil.tap_count


def _expected(taken_ns: float, speeds: MethodSpeeds) -> str:
    by = "by what was measured on the device" if speeds.is_measured else "as on most processors"
    return f"about {taken_ns:.3g} ns a voxel, {by}"


def _why_not_separable(step: Correlate) -> str:
    distance = distance_from_separable(step.stencil)
    if distance <= TOLERANCE:
        return f"its constant {step.cval} is not finite"
    away = f", by {distance:.2g} of its largest weight" if distance < 1 else ""
    return f"the kernel is no outer product of one-axis weights{away}"
