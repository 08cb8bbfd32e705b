"""Files, the paths that stand in them, and overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convolume.errors import InputError
from convolume.planning.spec import make_step, read_workflow, to_yaml

TEXT = """\
input: {path: IN}
outputs:
  a:
    path: results/a.zarr
    steps:
      - laplace
      - convolve: {kernel: kernels/k.npy}
figures:
  - {path: ./results/../f.png, panels: [a]}
"""


def workflow_file(folder: Path, source: str) -> Path:
    """Write a workflow that reads `source`."""
    file = folder / "w.yaml"
    file.write_text(TEXT.replace("IN", source), encoding="utf-8")
    return file


def input_path(written: Any, *overrides: str) -> str:
    """Return the input's path as it is read."""
    return read_workflow(written, overrides).model.input.path


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Input, outputs, kernels and figures are beside the YAML, wherever one stands."""
    workflow_file(tmp_path, "in.zarr")
    monkeypatch.chdir(tmp_path.parent)
    workflow = read_workflow(f"{tmp_path.name}/w.yaml").model
    assert workflow.input.path == str(tmp_path / "in.zarr")
    assert workflow.outputs["a"].path == str(tmp_path / "results/a.zarr")
    assert workflow.outputs["a"].steps[1] == make_step("convolve", {"kernel": str(tmp_path / "kernels/k.npy")})
    assert workflow.figures[0].path == str(tmp_path / "f.png")


def test_other_relative_paths_stay(tmp_path: Path) -> None:
    """Paths in a text, a mapping or an override are relative to the current directory: they stay as they are."""
    assert input_path(TEXT) == "IN"
    assert input_path({"input": {"path": Path("x.zarr")}, "outputs": {"b": {"path": "b"}}}) == "x.zarr"
    assert input_path(workflow_file(tmp_path, "in.zarr"), "input.path=other.zarr") == "other.zarr"


def test_parent_behind_a_link(tmp_path: Path) -> None:
    """Where ``..`` leaves a linked folder, the path is not shortened to another place."""
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    path = input_path(workflow_file(tmp_path, "link/../in.zarr"))
    assert Path(path).resolve() == tmp_path.resolve() / "far" / "in.zarr"


@pytest.mark.parametrize("path", ["sample:mni152-t1", "memory:a/../b", "s3://bucket/a.zarr", "/absolute/a.zarr"])
def test_schemes_and_absolute_paths_stay(path: str, tmp_path: Path) -> None:
    """A scheme is no file; an absolute path needs no folder."""
    assert input_path(workflow_file(tmp_path, path)) == path


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("~/a.zarr", "/home/me/a.zarr"),
        ("~", "/home/me"),
        ("$DATA/a.zarr", "/data/a.zarr"),
        ("${DATA}s/$STEM.zarr", "/datas/brain.zarr"),
        ("$BUCKET/a.zarr", "s3://bucket/a.zarr"),
        ("/a$$DATA", "/a$DATA"),
        ("/a$ b$", "/a$ b$"),
        ("/a~/b", "/a~/b"),
    ],
)
def test_home_and_variables(written: str, read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` and variables stand for what the environment says, before anything else is decided."""
    for name, value in {"HOME": "/home/me", "DATA": "/data", "STEM": "brain", "BUCKET": "s3://bucket"}.items():
        monkeypatch.setenv(name, value)
    assert input_path(workflow_file(tmp_path, f"'{written}'")) == read


def test_undefined_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set is a mistake, told beside the others."""
    monkeypatch.delenv("NOPE", raising=False)
    file = workflow_file(tmp_path, "'$NOPE/${}/a'")
    with pytest.raises(InputError) as caught:
        read_workflow(file, ["outputs.a.steps[1].convolve.kernel=$NOPE", "cval=x", "figures[0].path=~nobody-here/a"])
    assert str(caught.value).splitlines() == [
        f"5 mistakes in {file}:",
        f"{file}:1:15: input.path: the environment variable 'NOPE' is not set",
        f"{file}:1:15: input.path: the environment variable '' is not set",
        "--set outputs.a.steps[1].convolve.kernel: the environment variable 'NOPE' is not set",
        "--set figures[0].path: the home folder of '~nobody-here' is not known",
        "--set cval: must be a number, not 'x'",
    ]


def test_dollars_survive() -> None:
    """A path with a dollar sign in it reads back from YAML."""
    workflow = read_workflow(TEXT.replace("IN", "/a$$HOME")).model
    assert workflow.input.path == "/a$HOME"
    assert read_workflow(to_yaml(workflow)).model == workflow


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("cval=1e-3", 0.001),
        ("name=a = b", "a = b"),
        ("name='3'", "3"),
        ("outputs.a.chunks=[1, 2]", (1, 2)),
        ("outputs.a.steps[0]=sobel: {mode: wrap}", None),
        ("outputs.a.steps[0].laplace.mode=wrap", None),
        ("figures[0].crop.y=[1, 2]", (1, 2)),
        ("outputs.b={path: b.zarr}", None),
    ],
)
def test_overrides(override: str, value: Any) -> None:
    """Any value can be overridden, lists and values that the file leaves out included."""
    document = read_workflow(TEXT, [override])
    key = override.split("=", maxsplit=1)[0]
    again = read_workflow(to_yaml(document.model)).model
    assert again == document.model != read_workflow(TEXT).model
    if value is not None:
        found: Any = document.model
        for part in key.replace("[0]", ".0").split("."):
            found = found[part] if isinstance(found, dict) else found[0] if part == "0" else getattr(found, part)
        assert found == value


def test_the_last_override_wins() -> None:
    """One key twice on a command line is no mistake."""
    assert read_workflow(TEXT, ["cval=1", "cval=2"]).model.cval == 2.0


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("cval", "--set cval: is not of the form key.sub=value or key[0].sub=value"),
        ("=3", "--set =3: is not of the form key.sub=value or key[0].sub=value"),
        ("a..b=3", "--set a..b=3: is not of the form key.sub=value or key[0].sub=value"),
        ("cvla=3", "--set cvla: this key is not known; did you mean 'cval'? (there are: "),
        ("foo.bar=3", "--set foo.bar: foo: this key is not known (there are: "),
        ("outputs.a.pth=3", "--set outputs.a.pth: this key is not known; did you mean 'path'? (there are: "),
        ("outputs.b.path=x", "--set outputs.b.path: there is no output 'b' (there are: a)"),
        ("outputs.a.steps[2]=x", "--set outputs.a.steps[2]: outputs.a.steps has 2 entries, counted from 0"),
        ("outputs[0]=x", "--set outputs[0]: outputs is not a list"),
        ("input.path.x=3", "--set input.path.x: input.path is not a mapping"),
        ("figures.path=3", "--set figures.path: figures is not a mapping"),
        ("name=[", "--set name: this is not YAML: "),
        ("name={a: 1, a: 2}", "--set name: name.a: is given twice"),
        ("outputs.a.steps[0].laplace.kernal=3", "--set outputs.a.steps[0].laplace.kernal: this key is not known"),
    ],
)
def test_wrong_overrides(override: str, line: str) -> None:
    """An override that goes nowhere is a mistake with its own place."""
    with pytest.raises(InputError) as caught:
        read_workflow(TEXT, [override])
    assert any(found.startswith(line) for found in str(caught.value).splitlines()), str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    """Missing, a folder, too large, not UTF-8: each says what it is."""
    large, latin = tmp_path / "large.yaml", tmp_path / "latin.yaml"
    large.write_bytes(b"#" * 10_000_001)
    latin.write_bytes("a: 1\nname: é\n".encode("latin-1"))
    expected = {
        tmp_path / "no.yaml": "there is no such file; a workflow is a YAML file",
        tmp_path: "this is a folder; name the workflow's file in it",
        large: "this file is larger than 10 MB; keep large kernels in files of their own",
        latin: "this file is not UTF-8 text (line 2); save it as UTF-8",
        latin / "x.yaml": "this file cannot be read: Not a directory",
        Path("a\0b"): "this file cannot be read: embedded null byte",
    }
    for path, what in expected.items():
        with pytest.raises(InputError) as caught:
            read_workflow(path)
        assert str(caught.value) == f"{path}: {what}"


def test_byte_order_mark(tmp_path: Path) -> None:
    """A file that an editor has marked as UTF-8 reads, and its columns are right."""
    file = tmp_path / "w.yaml"
    file.write_text(TEXT, encoding="utf-8-sig")
    assert read_workflow(file).where(("input", "path")) == f"{file}:1:15"
