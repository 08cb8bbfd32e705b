"""The documents: blocks of code run, every key is told with its default, links and pictures are there."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import nibabel
import numpy as np
import pytest

from convolume import cli
from convolume.boundary import OUTSIDE, BoundaryMode, source_indices
from convolume.errors import InputError, RunError
from convolume.filters import Filter, filter_class, make_filter
from convolume.image import MICROMETRES_PER_UNIT
from convolume.lengths import Length
from convolume.planning.config import Config
from convolume.planning.document import compose
from convolume.planning.models import FigureSpec, InputSpec, OutputSpec, Panel, Workflow
from convolume.planning.spec import read_config, read_workflow
from convolume.registry import load_member, member_names
from convolume.stores import formats_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
MOST_IMAGE_BYTES = 300_000
PNG = b"\x89PNG"

FENCE = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


def text_of(page: Path) -> str:
    """Return a page."""
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", text_of(page))


def blocks(kind: str) -> list[Any]:
    """Return every block of code of this kind as a test's parameter, named by its page and number."""
    return [
        pytest.param(page, match["code"], id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, match in enumerate(FENCE.finditer(text_of(page)), 1)
        if match["kind"] == kind
    ]


def commands() -> list[Any]:
    """Return every line of the pages that calls `convolume`, split into words."""
    found = []
    for page, code in (each.values for each in blocks("bash")):
        assert isinstance(page, Path)
        for line in re.split(r"\n|&&", str(code)):
            words = [a or b for a, b in re.findall(r'"([^"]*)"|(\S+)', line)]
            if words[:1] == ["convolume"]:
                found.append(pytest.param(page, words[1:], id=f"{page.relative_to(ROOT)}-{' '.join(words)}"))
    return found


def section(page: Path, title: str) -> str:
    """Return what stands under a heading, to the next heading of any level."""
    lines = iter(text_of(page).splitlines())
    for line in lines:
        if re.fullmatch(rf"#+ {re.escape(title)}", line):
            return "\n".join(takewhile(lambda each: not each.startswith("#"), lines))
    pytest.fail(f"{page.name} has no heading {title!r}")


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of the rows of all tables in a text, without headings."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    for line in lines:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not set(line) <= set("| -") and cells[0] not in {"key", "mode", "written as", "exit code"}:
            yield cells


def is_workflow(code: str) -> bool:
    """Say whether a block of YAML is a workflow, and not a configuration."""
    root = compose(code, "block", [])
    return root is not None and root.child("input") is not None


def test_there_are_pages() -> None:
    """The other tests cannot pass for want of pages or blocks."""
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {
        f"docs/{name}.md" for name in ("architecture", "decisions/README", "gallery", "guide", "workflows")
    } <= names
    assert len(blocks("python")) >= 4
    assert len(blocks("yaml")) >= 4
    assert len(commands()) >= 8


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_runs(page: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that holds a small image, each block by itself."""
    monkeypatch.chdir(tmp_path)
    voxels = np.random.default_rng(0).integers(0, 255, (9, 12, 10)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 1.0, 1.0])), tmp_path / "brain.nii.gz")
    exec(compile(code, str(page), "exec"), {"__name__": "page"})  # noqa: S102 - our own pages


@pytest.mark.parametrize(("page", "code"), blocks("python measurement"))
def test_measurements_compile(page: Path, code: str) -> None:
    """They run too long for a test."""
    compile(code, str(page), "exec")


@pytest.mark.parametrize(("page", "code"), blocks("yaml"))
def test_yaml_loads(page: Path, code: str) -> None:
    """As a workflow or a configuration."""
    document = read_workflow(code) if is_workflow(code) else read_config(code)
    assert document.model, page


@pytest.mark.parametrize(("page", "words"), commands())
def test_commands_exist(page: Path, words: list[str]) -> None:
    """Sub-command and options are there, files of the repository exist, and overrides fit the page's workflow."""
    context = cli.commands.commands[words[0]].make_context(words[0], words[1:])
    files = [word for word in words if word.startswith(("workflows/", "configs/"))]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    if config := context.params.get("config"):
        read_config(ROOT / config)
    overrides = [each for each in context.params.get("overrides", ()) if each.split("=")[0] not in Config.model_fields]
    read_config({}, [each for each in context.params.get("overrides", ()) if each not in overrides])
    if overrides:
        on_page = [code for other, code in (each.values for each in blocks("yaml")) if other == page]
        read_workflow(ROOT / files[0] if files else str(next(filter(is_workflow, map(str, on_page)))), overrides)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Files exist, and anchors are headings of their page."""
    broken = []
    for match in LINK.finditer(prose_of(page)):
        target, _, anchor = match["target"].partition("#")
        if target.startswith("http"):
            continue
        other = (page.parent / target).resolve() if target else page
        titles = [each["title"] for each in HEADING.finditer(prose_of(other))] if other.suffix == ".md" else []
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        if not other.exists() or (anchor and anchor not in anchors):
            broken.append(match["target"])
    assert broken == []


def test_pictures() -> None:
    """They are small, and each stands on a page."""
    pictures = sorted((DOCS / "images").iterdir())
    assert pictures
    shown = {
        (page.parent / match["target"]).resolve()
        for page in PAGES
        for match in LINK.finditer(text_of(page))
        if match["target"].endswith(".png")
    }
    assert set(pictures) == shown
    for picture in pictures:
        data = picture.read_bytes()
        assert data[:4] == PNG
        assert len(data) < MOST_IMAGE_BYTES, picture


def test_gallery_shows_every_workflow() -> None:
    """Each by the command that draws its figure."""
    shown = {words[-1] for page, words in (each.values for each in commands()) if page == DOCS / "gallery.md"}
    assert shown == {f"workflows/{file.name}" for file in (ROOT / "workflows").glob("*.yaml")}


def test_decisions_are_listed() -> None:
    """Every page, by its title; each tells context, decision, what was rejected and evidence."""
    pages = sorted(page for page in (DOCS / "decisions").glob("*.md") if page.name != "README.md")
    listed = re.findall(r"^- \[(\d{4})\]\((.+)\): (.+)$", text_of(DOCS / "decisions" / "README.md"), re.MULTILINE)
    assert listed == [(page.name[:4], page.name, text_of(page).splitlines()[0].removeprefix("# ")) for page in pages]
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        assert re.findall(r"^\*\*(.+?)\.\*\*", text_of(page), re.MULTILINE) == [
            "Context",
            "Decision",
            "Rejected",
            "Evidence",
        ]


PARTS: dict[str, type[BaseModel]] = {
    "Workflow": Workflow,
    "input": InputSpec,
    "outputs": OutputSpec,
    "figures": FigureSpec,
    "panels": Panel,
    "Configuration": Config,
    "steps": Filter,
    **{name: filter_class(name) for name in member_names("filters")},
}


def own_fields(part: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields that a part's table tells: those of a filter, without those that all filters have."""
    shared = Filter.model_fields if issubclass(part, Filter) and part is not Filter else {}
    return {name: field for name, field in part.model_fields.items() if name not in shared}


def written_default(field: FieldInfo) -> str:
    """Return what a table says of a field's default."""
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        return "needed"
    if default is None or default in ({}, ()):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize(("title", "part"), PARTS.items(), ids=PARTS)
def test_every_key_is_told(title: str, part: type[BaseModel]) -> None:
    """Every field in its table with its default and all its words, and no key that is not there."""
    table = {cells[0].strip("`"): cells for cells in rows(section(DOCS / "workflows.md", title))}
    fields = own_fields(part)
    assert set(table) == set(fields)
    for name, field in fields.items():
        assert table[name][2] == written_default(field), name
        assert table[name][3].endswith("."), name
        if get_origin(field.annotation) is Literal:
            assert re.findall(r"`([^`]+)`", table[name][1]) == list(get_args(field.annotation)), name


def test_members_are_told() -> None:
    """Every filter has its heading, and no other; every kind of cluster stands beside its key."""
    steps = text_of(DOCS / "workflows.md").partition("\n## steps\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (\w+)$", steps, re.MULTILINE)) == set(member_names("filters"))
    clusters = next(cells for cells in rows(section(DOCS / "workflows.md", "Configuration")) if cells[0] == "`cluster`")
    assert set(re.findall(r"`(\w+)`", clusters[1])) == set(member_names("clusters"))


def test_formats_are_told() -> None:
    """Each by its endings, where it has any, and every value of `format`, under the heading that it belongs to."""
    read, written = (section(DOCS / "formats.md", title) for title in ("Read", "Written"))
    members = {name: load_member("stores", name) for name in member_names("stores")}
    endings = {"ENDINGS", "SUFFIXES", "OWN_ENDINGS", "SHARED_ENDINGS"}
    for member in members.values():
        for ending in {each for name in endings & set(dir(member)) for each in getattr(member, name)}:
            if ending.startswith(".") and not ending.endswith(".zarr") and not ending.startswith(".ome."):
                assert f"`{ending}`" in read, ending
        if hasattr(member, "create_sink"):
            assert [each for each in member.SUFFIXES if f"`{each}" not in written] == []
            assert [each for each in formats_of(member)[1:] if f"`format: {each}`" not in written] == []


def test_kernels_are_told() -> None:
    """Every way to write a kernel is one, and every shape is among them."""
    written = [cells[0].strip("`") for cells in rows(section(DOCS / "workflows.md", "Kernels"))]
    kernels = []
    for text in written:
        root = compose(text, "cell", [])
        assert root is not None
        kernels.append(make_filter("convolve", kernel=root.plain()).model_dump()["kernel"])
    assert {next(iter(kernel)) for kernel in kernels if isinstance(kernel, dict)} == {"ball", "box", "gaussian"}
    with pytest.raises(InputError, match=r"there are: ball, box, gaussian\)"):
        make_filter("convolve", kernel={"cube": 3})


def test_units_are_told() -> None:
    """Every unit that the page names is read, and none is left out."""
    text = section(DOCS / "workflows.md", "Lengths").partition("Units are")[2]
    units = re.findall(r"`(\w+)`", text.partition("An image")[0])
    assert {Length.parse(f"2 {unit}").unit for unit in units} == set(MICROMETRES_PER_UNIT)


def test_boundary_modes_are_told() -> None:
    """The guide's table of modes is what the index maps say."""
    told = set()
    for names, pattern, _ in rows(section(DOCS / "guide.md", "Boundary modes")):
        before, _, after = (part.split() for part in pattern.strip("`").split("\\|"))
        for name in re.findall(r"`([\w-]+)`", names):
            told.add(name)
            indices = source_indices(-len(before), 4 + len(after), 4, BoundaryMode(name))
            letters = ["k" if index == OUTSIDE else "abcd"[index] for index in indices]
            assert letters == [*before, *"abcd", *after], name
    assert told == {mode.value for mode in BoundaryMode}


def test_exit_codes_are_told() -> None:
    """The guide's table holds those that the command line uses."""
    told = {int(cells[0]) for cells in rows(section(DOCS / "guide.md", "When something goes wrong"))}
    assert told == {0, InputError.exit_code, RunError.exit_code, cli.FAILED, cli.INTERRUPTED}
