"""The rules of the house, checked in the source: who may import whom, and one door for each heavy dependency.

Rooms: every import counts, those inside functions and those for the type checker alone too. Doors: every import that
runs counts, inside functions too, and names given to a loader as text. Circles: imports that run when a module loads.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import convolume

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(convolume.__path__[0])
FAMILIES = ("clusters", "devices", "filters", "stores")
# From the words up; a room is a module or a folder of the package.
LINES = (
    frozenset(
        "addition_chain addresses arrays boundary errors image layouts lengths numerics operations ".split()  # noqa: SIM905
        + "records regions registry stages stencil".split()  # noqa: SIM905
    ),
    frozenset(FAMILIES),
    frozenset({"execution", "planning"}),
    frozenset(
        "cli completion conversion drafting fingerprint inspection ndimage preparation ".split()  # noqa: SIM905
        + "refusals report resume runner sites volume".split()  # noqa: SIM905
    ),
    # The front door and ``python -m`` open all of it; the conformance suites look at all of it.
    frozenset({"__init__", "__main__", "testing"}),
)
LOWEST, HIGHEST = 0, len(LINES) - 1
# Rooms of these lines may use their neighbours: the words, and the rooms where everything meets.
NEIGHBOURLY = (LOWEST, HIGHEST - 1)
DOORS = {
    "click": ("cli.py",),
    "dask.array": ("execution/overlap.py", "ndimage/", "stores/", "volume.py"),
    "dask_image": ("report/measurements.py", "stores/"),
    "distributed": ("clusters/", "execution/", "sites.py"),
    "h5py": ("stores/",),
    "hdf5plugin": ("stores/",),
    "imageio": ("stores/",),
    "jinja2": ("devices/", "report/"),
    "matplotlib": ("report/figures.py",),
    "mrcfile": ("stores/",),
    "nibabel": ("stores/",),
    "pyopencl": ("devices/",),
    "rich": ("report/",),
    "tensorstore": ("stores/",),
    "tifffile": ("stores/",),
    "yaml": ("planning/document.py",),
    "yaozarrs": ("stores/",),
    "zarr": ("stores/",),
}
LOADERS = {"import_module", "load_extra", "__import__"}
MOST_LINES_OF_A_MODULE = 400
MOST_LINES_OF_A_FUNCTION = 60


@dataclass(frozen=True)
class Import:
    """One name that a module imports, where, and when that runs."""

    module: str
    target: str
    line: int
    when: str

    def __str__(self) -> str:
        """Return it as a report of tests shows it."""
        return f"{self.module}:{self.line} imports {self.target}"


@cache
def modules() -> tuple[str, ...]:
    """Return every module of the package by its path in the house."""
    return tuple(sorted(str(file.relative_to(HOUSE)) for file in HOUSE.rglob("*.py")))


@cache
def tree_of(module: str) -> ast.Module:
    """Return the source of a module as a tree."""
    return ast.parse((HOUSE / module).read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    """Return all that a module imports; each imported name is a target of its own, for it may be a module."""
    return tuple(
        Import(module, target, node.lineno, when)
        for node, when in _walk(tree_of(module), "loading")
        for target in _targets(node)
    )


def _walk(node: ast.AST, when: str) -> Iterator[tuple[ast.stmt | ast.Call, str]]:
    """Yield what imports, with the time at which it does: ``loading``, ``calling`` or ``typing``."""
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.Call)):
        yield node, when
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        when = "calling"
    typing = isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
    for child in ast.iter_child_nodes(node):
        inside = typing and isinstance(node, ast.If) and child in node.body
        yield from _walk(child, "typing" if inside else when)


def _targets(node: ast.stmt | ast.Call) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import on line {node.lineno}: write the whole name"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in LOADERS:
        return [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return []


def room_of(target: str) -> str | None:
    """Return the room that an imported name or a module's path belongs to; None outside the package."""
    name = target.removesuffix(".py").replace("/", ".")
    parts = name.split(".") if target.endswith(".py") else name.split(".")[1:] or ["__init__"]
    if not target.endswith(".py") and name.split(".")[0] != "convolume":
        return None
    known = parts[0] in {room for line in LINES for room in line}
    return parts[0] if known or target.endswith(".py") else "__init__"


def line_of(room: str) -> int:
    """Return the number of a room's line, 0 the lowest."""
    return next(number for number, line in enumerate(LINES) if room in line)


def may_import(room: str, other: str) -> bool:
    """Say whether a room may use another one."""
    if room == other:
        return True
    here, there = line_of(room), line_of(other)
    if here == there:
        return here in NEIGHBOURLY
    return there < here


def all_imports() -> list[Import]:
    """Return every import of the package."""
    return [each for module in modules() for each in imports_of(module)]


def test_every_room_is_on_the_map() -> None:
    """A new room gets its line here, and none is named that is not there."""
    assert {room_of(module) for module in modules()} == {room for line in LINES for room in line}


def test_rooms_import_from_below_only() -> None:
    """The four families never import each other, and no room imports the conformance suites."""
    crossings = [(each, room_of(each.module), room_of(each.target)) for each in all_imports()]
    inside = [(each, room, other) for each, room, other in crossings if room is not None and other is not None]
    assert len(inside) > len(modules()), "hardly any import was found: this test looks in the wrong place"
    assert [str(each) for each, room, other in inside if not may_import(room, other)] == []


@pytest.mark.parametrize(
    ("room", "other", "allowed"),
    [
        ("filters", "stores", False),
        ("stores", "stores", True),
        ("planning", "filters", True),
        ("filters", "planning", False),
        ("planning", "execution", False),
        ("errors", "records", True),
        ("records", "stores", False),
        ("runner", "testing", False),
        ("runner", "__init__", False),
        ("testing", "stores", True),
    ],
)
def test_the_rule_itself(room: str, other: str, *, allowed: bool) -> None:
    """The rule can say no."""
    assert may_import(room, other) is allowed


def test_no_circles() -> None:
    """Modules can be loaded in some order."""
    graph = {module: {needed for each in imports_of(module) if (needed := _needed(each))} for module in modules()}
    assert sum(map(len, graph.values())) > len(graph)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' > '.join(error.args[1])}")


def _needed(each: Import) -> str | None:
    """Return the module that an import loads."""
    if each.when != "loading" or not each.target.startswith("convolume."):
        return None
    path = "/".join(each.target.split(".")[1:])
    parent = path.rpartition("/")[0]
    candidates = (f"{path}.py", f"{path}/__init__.py", f"{parent}.py", f"{parent}/__init__.py")
    return next((found for found in candidates if found in modules() and found != each.module), None)


@pytest.mark.parametrize("dependency", DOORS)
def test_one_door_for_each_heavy_dependency(dependency: str) -> None:
    """It is imported behind its door, and nowhere else."""
    found = [
        each
        for each in all_imports()
        if each.when != "typing"
        and f"{each.target}.".startswith(f"{dependency}.")
        and room_of(each.module) != "testing"
    ]
    assert [str(each) for each in found if not each.module.startswith(DOORS[dependency])] == []
    assert found, f"nothing imports {dependency} any more: close its door"


def test_front_door_is_light() -> None:
    """``import convolume`` loads none of the libraries behind it."""
    heavy = {name.partition(".")[0] for name in DOORS} | {"dask", "numpy", "pydantic", "scipy"}
    code = f"import convolume, sys; print(*sorted({heavy!r} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603 (a fixed text)
    assert printed.split() == []


@pytest.mark.parametrize("module", modules())
def test_modules_and_functions_are_short(module: str) -> None:
    """A module fits a mind, a function a screen, and each module says what it is for."""
    assert len((HOUSE / module).read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_A_MODULE
    assert ast.get_docstring(tree_of(module)), "a module opens with a line that says what it is for"
    functions = [
        node for node in ast.walk(tree_of(module)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == {}
