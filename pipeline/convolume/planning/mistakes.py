"""What pydantic found wrong in a document, said in plain words and at its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args, get_origin

from convolume.errors import InputError, did_you_mean
from convolume.filters import filter_class
from convolume.planning.document import Mistake, Path, Place
from convolume.planning.models import Step

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from convolume.planning.document import Node

__all__ = ["explain", "input_error", "place_of"]

_LONGEST_SHOWN = 40

# What a value must be, by pydantic's kind of error.
_WANTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "list_type": "a list",
    "none_required": "left empty",
    "string_type": "text",
    "tuple_type": "a list",
}
_LIMITS = {"greater_than_equal": "at least", "greater_than": "more than", "less_than_equal": "at most"} | {
    "less_than": "less than"
}


def explain(error: ValidationError, model: type[BaseModel], root: Node) -> list[Mistake]:
    """Return what is wrong, once for each place, whatever number of ways pydantic tried there.

    Parameters
    ----------
    error : ValidationError
        Raised when `model` was made of ``root.plain()``.
    model : type
        The model of the whole document.
    root : Node
        The document.
    """
    single: list[Mistake] = []
    attempts: dict[Path, dict[Path, list[ErrorDetails]]] = {}
    for details in error.errors(include_url=False):
        if _is_told_elsewhere(details):
            continue
        path, attempt_at = _path_in(root, details)
        if attempt_at is None:
            single.append(Mistake(_place(root, path, details), path, _what(details, path, model)))
        else:
            attempts.setdefault(attempt_at, {}).setdefault(path, []).append(details)
    return single + [mistake for found in attempts.values() for mistake in _join(found, root, model)]


def place_of(root: Node, path: Path) -> Place:
    """Return where the value at `path` stands, or the nearest thing around it that is there."""
    node = root
    for part in path:
        found = node.child(part)
        if found is None:
            break
        node = found
    return node.place


def input_error(mistakes: list[Mistake], document: str) -> InputError:
    """Return one error that lists all mistakes in the order of the document, those of overrides last."""
    listed = sorted(
        dict.fromkeys(mistakes), key=lambda mistake: (not mistake.place.line, mistake.place.line, mistake.place.column)
    )
    count = "1 mistake" if len(listed) == 1 else f"{len(listed)} mistakes"
    return InputError("\n".join([f"{count} in {document}:", *map(str, listed)]))


def _is_told_elsewhere(details: ErrorDetails) -> bool:
    """Say whether an error only follows from others: pydantic counts no entries that are wrong themselves."""
    is_counted = details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]
    return is_counted or details["type"] == "contradiction"


def _path_in(root: Node, details: ErrorDetails) -> tuple[Path, Path | None]:
    """Return the path as the document has it, and where a union began to try its members (None: nowhere).

    Pydantic's path also names the members of unions that it tried; these are not in the document.
    """
    path: Path = ()
    attempt_at: Path | None = None
    node: Node | None = root
    *inner, last = details["loc"] or ("",)
    for part in (*inner, last):
        found = node.child(part) if node else None
        is_bare = node is not None and node.value == part
        is_lacking = part is last and details["type"] == "missing"
        if found is not None or is_bare or is_lacking:
            path, node = (*path, part), found
        elif part not in {"", "[key]"} and attempt_at is None:
            attempt_at = path
    return path, attempt_at


def _place(root: Node, path: Path, details: ErrorDetails) -> Place:
    is_key = details["type"] == "extra_forbidden" or details["loc"][-1:] == ("[key]",)
    *above, last = path or ("",)
    around = root
    for part in above:
        around = around.child(part) or around
    node = around.child(last)
    if node is not None:
        return node.key_place or node.place if is_key else node.place
    return around.key_place or around.place


def _join(found: dict[Path, list[ErrorDetails]], root: Node, model: type[BaseModel]) -> Iterator[Mistake]:
    """Yield the mistakes of the attempts that came furthest, those of one place as one."""
    depth = max(map(len, found))
    for path, attempts in found.items():
        if len(path) == depth:
            whats = list(dict.fromkeys(_what(details, path, model) for details in attempts))
            yield Mistake(_place(root, path, attempts[0]), path, _alternatives(whats))


def _alternatives(whats: list[str]) -> str:
    parts = [re.fullmatch(r"must be (.+), not (.+)", what) for what in whats]
    if all(parts):
        wanted = dict.fromkeys(part[1] for part in parts if part)
        return f"must be {' or '.join(wanted)}, not {parts[0][2] if parts[0] else ''}"
    return "; or ".join(whats)


def _what(details: ErrorDetails, path: Path, model: type[BaseModel]) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return _unknown(str(path[-1]), _fields_at(model, path[:-1]))
    if kind in {"too_short", "too_long"}:
        return _count(kind, context)
    wanted = _wanted(kind, context)
    if wanted:
        return f"must be {wanted}, not {_shown(details['input'])}{_hint(details)}"
    if "error" in context:
        return str(context["error"])
    return re.sub(r"^\w+ should ", "must ", details["msg"])


def _wanted(kind: str, context: Mapping[str, Any]) -> str:
    if kind in _LIMITS:
        return f"{_LIMITS[kind]} {next(iter(context.values())):g}"
    if kind in {"literal_error", "enum"}:
        return f"one of {', '.join(_choices(context))}"
    return _WANTED.get(kind, "")


def _hint(details: ErrorDetails) -> str:
    if details["type"] in {"literal_error", "enum"}:
        return did_you_mean(str(details["input"]), _choices(details["ctx"]))
    is_number = isinstance(details["input"], (int, float))
    return " (text is put in quotes)" if details["type"] == "string_type" and is_number else ""


def _choices(context: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(context["expected"]))


def _count(kind: str, context: Mapping[str, Any]) -> str:
    few = kind == "too_short"
    wanted = context["min_length" if few else "max_length"]
    entries = "entry" if wanted == 1 else "entries"
    return f"needs at {'least' if few else 'most'} {wanted} {entries}, and has {context['actual_length']}"


def _unknown(key: str, known: list[str]) -> str:
    there_are = f" (there are: {', '.join(known)})" if known else ""
    return f"this key is not known{did_you_mean(key, known)}{there_are}"


def _fields_at(model: type[BaseModel], path: Path) -> list[str]:
    """Return the keys that a document may have at `path`."""
    kind: Any = model
    for part in path:
        kind = _inside(kind, part)
    return list(getattr(kind, "model_fields", {}))


def _inside(kind: Any, part: str | int) -> Any:
    if kind is Step:
        return filter_class(str(part))
    fields = getattr(kind, "model_fields", {})
    if part in fields:
        return fields[str(part)].annotation
    if get_origin(kind) in {dict, tuple}:
        return get_args(kind)[1 if get_origin(kind) is dict else 0]
    return None


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
