"""YAML to a tree of values that remember their place, and back; the one door to PyYAML.

Scalars follow YAML 1.2's core schema: ``no`` is a word, ``1e-3`` a number, ``010`` ten. Nothing is ever
constructed: a document is mappings, lists and scalars. Merge keys (``<<``) are no part of YAML 1.2 and
are mistakes; anchors and aliases work, within a bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from os import PathLike, fspath
from typing import Any

import numpy as np
import yaml

__all__ = ["Mistake", "Node", "Path", "Place", "compose", "dotted", "dump", "from_python", "resolve_scalar"]

Path = tuple[str | int, ...]

MAX_DEPTH = 64
# Nodes that aliases may add: enough to share kernels, far from a bomb.
MAX_ALIASED_NODES = 100_000

_PLAIN, _QUOTED, _COLLECTION = "plain", "quoted", "collection"
_CORE = "tag:yaml.org,2002:"
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAGGED: dict[str, set[type]] = {"int": {int}, "float": {int, float}, "bool": {bool}, "null": {type(None)}}
_FIRST_SURROGATE = 0xD800
_SURROGATE = re.compile("[\ud800-\udfff]")
# Longer ones, hexadecimal ones included, would be too large for a float.
_MAX_DIGITS = 250


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands: a line and a column (both from 1) of `source`; line 0 is all of it."""

    source: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Return ``file:line:column``, or the source alone where it has no lines."""
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, where it is in the document and where that stands in the text."""

    place: Place
    path: Path
    what: str

    def __str__(self) -> str:
        """Return ``file:line:column: path: what is wrong``, without the parts that are not known."""
        place, name = str(self.place), dotted(self.path)
        return ": ".join(part for part in (place, "" if place == f"--set {name}" else name, self.what) if part)


@dataclass(slots=True)
class Node:
    """A value of a document: a scalar, a list of nodes, or a mapping of keys to nodes.

    `key_place` is where the key stands that leads here; a value in a list has none.
    """

    value: Any
    place: Place
    key_place: Place | None = None

    def plain(self) -> Any:
        """Return the value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, key: str | int) -> Node | None:
        """Return the node behind a key or at a position, None where there is none."""
        if isinstance(self.value, dict):
            found: Node | None = self.value.get(key)
            return found
        if isinstance(self.value, list) and isinstance(key, int) and 0 <= key < len(self.value):
            entry: Node = self.value[key]
            return entry
        return None

    def set_child(self, key: str | int, child: Node) -> Node:
        """Put a node behind a key or at a position, and return it."""
        self.value[key] = child
        return child


def dotted(path: Path) -> str:
    """Return a path as people write it.

    Examples
    --------
    >>> dotted(("outputs", "mean", "steps", 0, "gaussian"))
    'outputs.mean.steps[0].gaussian'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def resolve_scalar(text: str) -> Any:
    """Return what a plain scalar means in YAML 1.2's core schema.

    Examples
    --------
    >>> [resolve_scalar(text) for text in ("no", "1e-3", "010", "0o17", "~", "True")]
    ['no', 0.001, 10, 15, None, True]
    """
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text) and len(text) <= _MAX_DIGITS:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def compose(text: str, source: str, mistakes: list[Mistake], inside: Path = ()) -> Node | None:
    """Read a text as a tree; what is wrong with it goes to `mistakes`.

    Parameters
    ----------
    text : str
        One YAML document.
    source : str
        What places name: a file, or an override.
    mistakes : list
        Grows by what is wrong.
    inside : Path
        Where the value will stand in a document, for an override; its lines and columns mean nothing then.

    Returns
    -------
    Node or None
        None where the text is no YAML at all.
    """
    reader = _Reader(source, mistakes, has_lines=not inside)
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        reader.refuse(reader.place(*_position(error, text)), inside, f"this is not YAML: {_syntax(error)}")
        return None
    except RecursionError:
        reader.refuse(Place(source), inside, f"values are nested more than {MAX_DEPTH} deep")
        return None
    return reader.read(root, inside) if root else Node(None, reader.place(1, 1))


def from_python(value: Any, place: Place, depth: int = 0) -> Node:
    """Return the tree of a mapping that was made in Python; its values share one place, and arrays stay whole.

    Raises
    ------
    RecursionError
        The values are nested too deeply, or contain themselves.
    """
    if depth > MAX_DEPTH:
        message = f"values are nested more than {MAX_DEPTH} deep"
        raise RecursionError(message)
    if isinstance(value, Mapping):
        return Node({str(key): from_python(entry, place, depth + 1) for key, entry in value.items()}, place, place)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return Node([from_python(entry, place, depth + 1) for entry in value], place, place)
    if isinstance(value, PathLike):
        value = fspath(value)
    return Node(value.value if isinstance(value, Enum) else value, place, place)


def dump(value: Any) -> str:
    """Return mappings, lists and scalars as a YAML document that reads back to the same.

    Examples
    --------
    >>> print(dump({"input": {"path": "brain.zarr"}, "cval": 0.5, "name": "no"}), end="")
    input: {path: brain.zarr}
    cval: 0.5
    name: 'no'
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


class _Loader(yaml.SafeLoader):
    """Composes nodes and leaves the meaning of scalars open: PyYAML's own guesses are YAML 1.1's."""

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:  # noqa: ARG002 (PyYAML's signature)
        if kind is not yaml.ScalarNode:
            return _COLLECTION
        return _PLAIN if implicit[0] else _QUOTED


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and quotes what YAML 1.1 or 1.2 would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (PyYAML's signature)
        return True

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        found = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # PyYAML's stubs lack it
        is_plain_text = kind is yaml.ScalarNode and implicit[0] and found == _CORE + "str"
        return _PLAIN if is_plain_text and not isinstance(resolve_scalar(value), str) else found


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Only characters that every reader takes as they are may stand outside double quotes.
    is_usual = text.isprintable() and all(ord(character) < _FIRST_SURROGATE for character in text)
    return dumper.represent_scalar(_CORE + "str", text, style=None if is_usual else '"')


_Dumper.add_representer(str, _represent_text)


class _Reader:
    """Turns PyYAML's nodes into ours, and notes every mistake on the way."""

    def __init__(self, source: str, mistakes: list[Mistake], *, has_lines: bool) -> None:
        self.source, self.mistakes, self.has_lines = source, mistakes, has_lines
        self.seen: set[int] = set()
        self.aliased = 0

    def read(self, node: yaml.Node, path: Path) -> Node:
        place = self.place_of(node)
        if len(path) > MAX_DEPTH:
            return self.refuse(place, path, f"values are nested more than {MAX_DEPTH} deep, or contain themselves")
        if self.is_bomb(node):
            if self.aliased == MAX_ALIASED_NODES:
                self.refuse(place, path, f"aliases repeat more than {MAX_ALIASED_NODES:,} values")
            return Node(None, place)
        if isinstance(node, yaml.MappingNode):
            self.check_tag(node, "map", path)
            return Node(self.mapping(node, path), place)
        if isinstance(node, yaml.SequenceNode):
            self.check_tag(node, "seq", path)
            return Node([self.read(entry, (*path, i)) for i, entry in enumerate(node.value)], place)
        return Node(self.scalar(node, path), place)

    def place(self, line: int, column: int) -> Place:
        return Place(self.source, line, column) if self.has_lines else Place(self.source)

    def place_of(self, node: yaml.Node) -> Place:
        return self.place(node.start_mark.line + 1, node.start_mark.column + 1)

    def refuse(self, place: Place, path: Path, what: str) -> Node:
        # A path that goes round in circles is told by its beginning.
        self.mistakes.append(Mistake(place, path if len(path) <= MAX_DEPTH else path[:3], what))
        return Node(None, place)

    def is_bomb(self, node: yaml.Node) -> bool:
        if id(node) not in self.seen:
            self.seen.add(id(node))
            return False
        self.aliased += 1
        return self.aliased >= MAX_ALIASED_NODES

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, path)
            if key is None:
                continue
            value = self.read(value_node, (*path, key))
            value.key_place = self.place_of(key_node)
            if key in entries:
                self.refuse(value.key_place, (*path, key), f"is given twice{self.first(entries[key])}")
            else:
                entries[key] = value
        return entries

    def first(self, node: Node) -> str:
        return f" (first on line {node.key_place.line})" if self.has_lines and node.key_place else ""

    def key(self, node: yaml.Node, path: Path) -> str | None:
        place = self.place_of(node)
        if not isinstance(node, yaml.ScalarNode) or not node.value or _SURROGATE.search(node.value):
            self.refuse(place, path, "a key is not a word")
            return None
        if node.value == "<<" and node.tag == _PLAIN:
            self.refuse(place, path, "merge keys (<<) are not part of YAML 1.2: write the keys out")
            return None
        self.check_tag(node, "str", path)
        return str(node.value)

    def check_tag(self, node: yaml.Node, kind: str, path: Path) -> bool:
        fits = node.tag in {_PLAIN, _QUOTED, _COLLECTION, "!", _CORE + kind}
        if not fits:
            tag = node.tag.replace(_CORE, "!!")
            self.refuse(self.place_of(node), path, f"the tag {tag} is not known here: documents are data only")
        return fits

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        if _SURROGATE.search(text):
            self.refuse(self.place_of(node), path, "holds half of a character (a surrogate), which no text can")
            return None
        if node.tag == _PLAIN:
            return resolve_scalar(text)
        kind = node.tag.removeprefix(_CORE)
        if node.tag in {_QUOTED, "!"} or kind == "str":
            return text
        if kind not in _TAGGED:
            self.check_tag(node, "str", path)
            return None
        value = resolve_scalar(text)
        if type(value) not in _TAGGED[kind]:
            self.refuse(self.place_of(node), path, f"{text!r} does not fit its tag !!{kind}")
            return None
        return float(value) if kind == "float" else value


def _position(error: yaml.YAMLError, text: str) -> tuple[int, int]:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return mark.line + 1, mark.column + 1
    before = text[: getattr(error, "position", 0)]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


# What PyYAML says, and what it nearly always means.
_SYNTAX = (
    ("that cannot start any token", "a value cannot begin with {character} (tabs cannot indent; quote texts)"),
    ("mapping values are not allowed", "a second ':' on one line, or wrong indentation"),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("could not find expected ':'", "a key without its ':', or wrong indentation"),
    ("expected ',' or", "a bracket that is not closed, or a comma that is missing"),
    ("expected the node content", "a value or a closing bracket is missing"),
    ("found unexpected end of stream", "a quote or bracket that is not closed"),
    ("but found another document", "a second document begins here (---), and there can be only one"),
    ("second occurrence", "an anchor (&name) is given twice"),
    ("special characters", "a control character, which a text file cannot hold"),
)


def _syntax(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    character = re.search(r"character ('.+?')", problem)
    for sign, meaning in _SYNTAX:
        if sign in problem:
            return meaning.format(character=character[1] if character else "this character")
    return str(problem)
