"""Banks: an output with a step that lists values under ``each`` stands for one output with each of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convolume.planning.document import Mistake, Node, Path

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["expand_banks"]

_EACH = "each"
_ENDING = re.compile(r"(((\.ome)?\.zarr)?/?)$")
_NO_NAME = re.compile(r"[^\w-]+")


def expand_banks(root: Node, mistakes: list[Mistake]) -> None:
    """Put the outputs that a bank stands for in its place; what is wrong with it goes to `mistakes`.

    An output ``smooth`` at ``smooth.ome.zarr`` with the value 2 becomes ``smooth-2`` at ``smooth-2.ome.zarr``.
    """
    outputs = root.child("outputs")
    if outputs is None or not isinstance(outputs.value, dict):
        return
    expanded: dict[Any, Node] = {}
    for name, output in outputs.value.items():
        for place, member_name, member in _members(name, output, mistakes):
            if member_name != name and member_name in outputs.value | expanded:
                what = f"this makes an output {member_name!r}, and there is one already: give it another name or value"
                mistakes.append(Mistake(place.place, ("outputs", name), what))
            expanded[member_name] = member
    outputs.value = expanded


def _members(name: Any, output: Node, mistakes: list[Mistake]) -> Iterator[tuple[Node, Any, Node]]:
    """Yield the outputs that an output stands for, itself mostly: what names it, its name, and what stands under it."""
    banks = list(_steps_with_each(output))
    if not banks:
        yield output, name, output
        return
    where, parameters = banks[-1]
    what = _fault(parameters) if len(banks) == 1 else "an earlier step of this output has `each`, and one can have it"
    if what:
        mistakes.append(Mistake(parameters.value[_EACH].place, ("outputs", name, *where, _EACH), what))
        # Without steps nothing more is told of it.
        yield output, name, _with(output, ("steps",), Node([], output.place))
        return
    ((parameter, listed),) = parameters.value[_EACH].value.items()
    for entry in listed.value:
        settled = {key: node for key, node in parameters.value.items() if key != _EACH} | {parameter: entry}
        yield entry, f"{name}-{_text(entry)}", _renamed(_with(output, where, replace(parameters, value=settled)), entry)


def _renamed(output: Node, entry: Node) -> Node:
    path = output.child("path")
    if path is None or not isinstance(path.value, str):
        return output
    return _with(output, ("path",), replace(path, value=_ENDING.sub(rf"-{_text(entry)}\1", path.value, count=1)))


def _steps_with_each(output: Node) -> Iterator[tuple[Path, Node]]:
    """Yield where steps with `each` stand in an output, and their parameters."""
    steps = output.child("steps")
    for position, step in enumerate(steps.value if steps and isinstance(steps.value, list) else ()):
        for name, parameters in step.value.items() if isinstance(step.value, dict) else ():
            if isinstance(parameters.value, dict) and _EACH in parameters.value:
                yield ("steps", position, name), parameters


def _fault(parameters: Node) -> str:
    """Return what is wrong with the values of a bank."""
    each = parameters.value[_EACH].value
    if not isinstance(each, dict) or len(each) != 1:
        return "name one parameter and its values: `each: {sigma: [1, 2, 4]}`"
    ((parameter, listed),) = each.items()
    if parameter in parameters.value:
        return f"{parameter} is given beside `each` too: keep one of the two"
    if not isinstance(listed.value, list) or not listed.value:
        return f"list the values of {parameter}: `each: {{{parameter}: [1, 2, 4]}}`"
    if not all(map(_text, listed.value)):
        return f"a value of {parameter} names its output: write numbers, texts, or lists of these"
    return ""


def _text(entry: Node) -> str:
    """Return what a value adds to names and paths, nothing where it is no scalar and no list of such."""
    plain = entry.plain()
    scalars = plain if isinstance(plain, list) else [plain]
    if not all(isinstance(scalar, str | int | float) for scalar in scalars):
        return ""
    return _NO_NAME.sub("_", "_".join(map(str, scalars)))


def _with(node: Node, path: Path, child: Node) -> Node:
    """Return a node with another one behind a path in it; the node itself stays as it is."""
    if not path:
        return child
    inner = node.child(path[0]) or child
    changed = replace(node, value=node.value.copy())
    changed.set_child(path[0], _with(inner, path[1:], child))
    return changed
