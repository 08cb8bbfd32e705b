"""Workflows and configurations: from YAML to a frozen document, every mistake told at once, and back.

A document is data: nothing in it is imported or executed. Paths may hold ``~`` and environment variables
(``$NAME`` or ``${NAME}``; ``$$`` is a dollar sign), and are relative to the file that they stand in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from convolume.errors import InputError, did_you_mean
from convolume.planning.banks import expand_banks
from convolume.planning.config import Config
from convolume.planning.contradictions import contradictions, contradictions_of_config
from convolume.planning.document import Mistake, Node, Path, Place, compose, dotted, dump, from_python
from convolume.planning.mistakes import explain, input_error, place_of
from convolume.planning.models import (
    FigureSpec,
    InputSpec,
    OutputSpec,
    Panel,
    Step,
    Workflow,
)

__all__ = [
    "Config",
    "Document",
    "FigureSpec",
    "InputSpec",
    "OutputSpec",
    "Panel",
    "Step",
    "Workflow",
    "make_step",
    "read_config",
    "read_workflow",
    "to_yaml",
    "with_whole_paths",
]

Model = TypeVar("Model", bound=BaseModel)
Written = str | os.PathLike[str] | Mapping[str, Any]

MAX_FILE_BYTES = 10_000_000

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{([^{}]*)\})")
_OVERRIDE = re.compile(r"([^.\[\]=]+(?:\.[^.\[\]=]+|\[\d+\])*)=(.*)", re.DOTALL)
# `outputs.NAME.path` is long enough to mean an output that is there.
_INSIDE_OUTPUT = 3


@dataclass(frozen=True)
class Document(Generic[Model]):
    """A model, and where its values were written.

    Parameters
    ----------
    model : Workflow or Config
        What was read.
    name : str
        The file, or what stands in for its name.
    root : Node
        The values with their places.
    """

    model: Model
    name: str
    root: Node

    def where(self, path: Path) -> str:
        """Return ``file:line:column`` of the value at `path`, or of the nearest thing around it.

        An override's place is ``--set key``; values that were given in Python have no place and give ``""``.
        """
        return str(place_of(self.root, path))

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Give an `InputError` of what is done inside the place of `path`."""
        try:
            yield
        except InputError as error:
            raise self.mistake(path, str(error)) from None

    def mistake(self, path: Path, what: str) -> InputError:
        """Return the error of something that is wrong at `path`, as reading would tell it.

        Examples
        --------
        >>> document = read_workflow({"input": {"path": "a.zarr"}, "outputs": {"b": {"path": "b.zarr"}}})
        >>> print(document.mistake(("input", "level"), "there is no level 7"))
        1 mistake in the workflow:
        input.level: there is no level 7
        """
        return input_error([Mistake(place_of(self.root, path), path, what)], self.name)


def read_workflow(written: Written, overrides: Iterable[str] = ()) -> Document[Workflow]:
    """Read a workflow.

    Parameters
    ----------
    written : path, text or mapping
        A file's path; a YAML text, known by a line break in it or a ``{`` at its beginning; or the same as a mapping.
    overrides : iterable of str
        Such as ``outputs.mean.path=out.zarr``; the value is YAML.

    Raises
    ------
    InputError
        Lists every mistake with its place.

    Examples
    --------
    >>> document = read_workflow("{input: {path: a.zarr}, outputs: {copy: {path: b.zarr}}}", ["cval=1e-3"])
    >>> document.model.cval, document.where(("outputs", "copy", "path")), document.where(("cval",))
    (0.001, '<workflow>:1:48', '--set cval')
    """
    return _read(Workflow, "workflow", written, overrides)


def read_config(written: Written | None = None, overrides: Iterable[str] = ()) -> Document[Config]:
    """Read where a run happens; without a file, this machine.

    Parameters and errors are those of `read_workflow`.
    """
    return _read(Config, "configuration", {} if written is None else written, overrides)


def make_step(name: str, parameters: Mapping[str, Any]) -> Step:
    """Return one filter with its parameters, checked as a workflow's are.

    Parameters
    ----------
    name : str
        The filter.
    parameters : mapping
        As in a workflow; a kernel may be an array.

    Raises
    ------
    InputError
        There is no such filter, or its parameters are wrong.

    Examples
    --------
    >>> make_step("laplace", {"mode": "wrap"}).filter.mode.value
    'wrap'
    """
    written = {name: dict(parameters)}
    try:
        return Step.model_validate(written)
    except ValidationError as error:
        root = from_python(written, Place())
        raise input_error(explain(error, Step, root), f"the filter {name!r}") from None


def to_yaml(document: BaseModel) -> str:
    """Return a workflow or a configuration as YAML that reads back to an equal one; defaults are left out.

    Examples
    --------
    >>> document = read_workflow("{input: {path: a.zarr}, outputs: {copy: {path: b.zarr}}}")
    >>> print(to_yaml(document.model), end="")
    input: {path: a.zarr}
    outputs:
      copy: {path: b.zarr}
    """
    root = from_python(document.model_dump(exclude_defaults=True), Place())
    for _, node in _path_nodes(root):
        node.value = node.value.replace("$", "$$")
    return dump(root.plain())


def with_whole_paths(document: Document[Workflow]) -> Document[Workflow]:
    """Return a workflow whose input and outputs are found from every folder, as workers of other machines need it.

    Examples
    --------
    >>> document = read_workflow({"input": {"path": "sample:a"}, "outputs": {"b": {"path": "b.zarr"}}})
    >>> whole = with_whole_paths(document).model
    >>> whole.input.path, FilePath(whole.outputs["b"].path).is_absolute()
    ('sample:a', True)
    """
    model, here = document.model, FilePath.cwd()
    source = model.input.model_copy(update={"path": _located(model.input.path, here)})
    outputs = {
        name: spec.model_copy(update={"path": _located(spec.path, here)}) for name, spec in model.outputs.items()
    }
    return replace(document, model=model.model_copy(update={"input": source, "outputs": outputs}))


def _read(model: type[Model], kind: str, written: Written, overrides: Iterable[str]) -> Document[Model]:
    mistakes: list[Mistake] = []
    root, name, folder = _load(written, kind, mistakes)
    if root is None:
        raise input_error(mistakes, name)
    if root.value is None:
        root.value = {}
    _override(root, overrides, mistakes)
    for path, node in _path_nodes(root):
        _expand(node, path, folder if node.place.source == name else None, mistakes)
    made = _validate(model, root, mistakes)
    if made is None or mistakes:
        raise input_error(mistakes, name)
    return Document(made, name, root)


def _validate(model: type[Model], root: Node, mistakes: list[Mistake]) -> Model | None:
    plain = root.plain()
    found = contradictions if model is Workflow else contradictions_of_config
    mistakes.extend(Mistake(place_of(root, path), path, what) for path, what in found(plain))
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        mistakes.extend(explain(error, model, root))
        return None


def _load(written: Written, kind: str, mistakes: list[Mistake]) -> tuple[Node | None, str, FilePath | None]:
    """Return the tree, its name in messages and the folder that its paths are relative to."""
    if isinstance(written, Mapping):
        name = f"the {kind}"
        try:
            return from_python(written, Place()), name, None
        except RecursionError as error:
            mistakes.append(Mistake(Place(), (), str(error)))
            return None, name, None
    if isinstance(written, str) and ("\n" in written or written.lstrip().startswith("{")):
        return compose(written, f"<{kind}>", mistakes), f"<{kind}>", None
    path = FilePath(written)
    return compose(_text(path, kind), str(path), mistakes), str(path), path.absolute().parent


def _text(path: FilePath, kind: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except IsADirectoryError:
        message = f"{path}: this is a folder; name the {kind}'s file in it"
        raise InputError(message) from None
    except FileNotFoundError:
        message = f"{path}: there is no such file; a {kind} is a YAML file"
        raise InputError(message) from None
    except (OSError, ValueError) as error:
        message = f"{path}: this file cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InputError(message) from None
    if len(data) > MAX_FILE_BYTES:
        message = (
            f"{path}: this file is larger than {MAX_FILE_BYTES // 10**6} MB; keep large kernels in files of their own"
        )
        raise InputError(message)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        message = f"{path}: this file is not UTF-8 text (line {line}); save it as UTF-8"
        raise InputError(message) from None


def _override(root: Node, overrides: Iterable[str], mistakes: list[Mistake]) -> None:
    """Put the values of overrides into the tree, and between those of banks and of their outputs expand the banks."""
    of_members = []
    for path, value in filter(None, (_read_override(override, mistakes) for override in overrides)):
        if _new_output(root, path):
            of_members.append((path, value))
        elif what := _put(root, path, value):
            mistakes.append(Mistake(value.place, path, what))
    expand_banks(root, mistakes)
    for path, value in of_members:
        if what := _new_output(root, path) or _put(root, path, value):
            mistakes.append(Mistake(value.place, path, what))


def _read_override(override: str, mistakes: list[Mistake]) -> tuple[Path, Node] | None:
    match = _OVERRIDE.fullmatch(override)
    if match is None:
        what = "is not of the form key.sub=value or key[0].sub=value"
        mistakes.append(Mistake(Place(f"--set {override}"), (), what))
        return None
    path: Path = tuple(int(i) if i else key for key, i in re.findall(r"([^.\[\]]+)|\[(\d+)\]", match[1]) for i in [i])
    place = Place(f"--set {match[1]}")
    value = compose(match[2], place.source, mistakes, path)
    if value is None:
        return None
    value.key_place = place
    return path, value


def _new_output(root: Node, path: Path) -> str:
    outputs = root.child("outputs")
    is_known = len(path) < _INSIDE_OUTPUT or path[0] != "outputs" or not outputs or outputs.child(path[1])
    if is_known or not isinstance(outputs.value if outputs else None, dict):
        return ""
    known = [str(name) for name in outputs.value] if outputs else []
    return f"there is no output {path[1]!r}{did_you_mean(str(path[1]), known)} (there are: {', '.join(known)})"


def _put(node: Node, path: Path, value: Node) -> str:
    """Put a value into the tree, making the mappings that lead to it; return what is in the way."""
    for depth, part in enumerate(path):
        if isinstance(part, str) and (node.value is None or node.value == part):
            # A mapping that was left empty, or a bare name that now gets parameters.
            node.value = {} if node.value is None else {part: Node(None, value.place, value.place)}
        if not isinstance(node.value, list if isinstance(part, int) else dict):
            return f"{dotted(path[:depth]) or 'the document'} is not a {'list' if isinstance(part, int) else 'mapping'}"
        if isinstance(part, int) and part >= len(node.value):
            return f"{dotted(path[:depth])} has {len(node.value)} entries, counted from 0"
        if depth == len(path) - 1:
            node.set_child(part, value)
        node = node.child(part) or node.set_child(part, Node({}, value.place, value.place))
    return ""


def _path_nodes(root: Node) -> Iterator[tuple[Path, Node]]:
    """Yield the texts that are paths: of the input, outputs, figures, kernel files and certificates."""
    patterns: tuple[tuple[str, ...], ...] = (
        ("input", "path"),
        ("outputs", "*", "path"),
        ("outputs", "*", "steps", "*", "*", "kernel"),
        ("figures", "*", "path"),
        ("tls", "*"),
    )
    for pattern in patterns:
        for path, node in _matching(root, pattern, ()):
            if isinstance(node.value, str):
                yield path, node


def _matching(node: Node, pattern: tuple[str, ...], path: Path) -> Iterator[tuple[Path, Node]]:
    if not pattern:
        yield path, node
        return
    for key in _keys(node) if pattern[0] == "*" else pattern[:1]:
        child = node.child(key)
        if child is not None:
            yield from _matching(child, pattern[1:], (*path, key))


def _keys(node: Node) -> Iterable[str | int]:
    if isinstance(node.value, list):
        return range(len(node.value))
    return list(node.value) if isinstance(node.value, dict) else ()


def _expand(node: Node, path: Path, folder: FilePath | None, mistakes: list[Mistake]) -> None:
    def variable(match: re.Match[str]) -> str:
        dollar, name, braced = match.groups()
        if dollar:
            return "$"
        found = os.environ.get(name or braced)
        if found is None:
            mistakes.append(Mistake(node.place, path, f"the environment variable {name or braced!r} is not set"))
        return found or ""

    written: str = node.value
    if written.startswith("~"):
        try:
            written = str(FilePath(written).expanduser())
        except RuntimeError:
            mistakes.append(Mistake(node.place, path, f"the home folder of {written.split('/')[0]!r} is not known"))
    node.value = _located(_VARIABLE.sub(variable, written), folder)


def _located(path: str, folder: FilePath | None) -> str:
    if folder is None or not path or "\0" in path or _SCHEME.match(path):
        return path
    joined = str(folder / path)
    tidy = os.path.normpath(joined)
    # Behind a link, `..` is not the folder that is written before it.
    return tidy if os.path.realpath(tidy) == os.path.realpath(joined) else joined
