"""Workflows are read whole: what is right becomes a model, what is wrong is told at once, in plain words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from convolume.boundary import BoundaryMode
from convolume.errors import InputError
from convolume.lengths import Length
from convolume.planning.spec import (
    Config,
    FigureSpec,
    InputSpec,
    OutputSpec,
    Panel,
    Workflow,
    make_step,
    read_config,
    read_workflow,
)
from convolume.registry import member_names

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
name: tour
input:
  path: sample:mni152-t1
  region: {z: [10, 60]}
  channel: DAPI
  spacing: [1, 0.5 um]
outputs:
  mean:
    path: memory:mean
    steps:
      - gaussian: {sigma: 1.5 um, mode: wrap}
      - laplace
      - convolve: {kernel: [[1, 2], [3, 4]]}
    dtype: uint8
  copy:
    path: memory:copy
mode: nearest
cval: 1
block: [64, 64, 64]
figures:
  - path: memory:figure.png
    plane: {z: 12}
    crop: {y: [10, 20]}
    panels: [input, {image: mean, title: Mean, colormap: gray}]
"""

MINIMAL: dict[str, Any] = {"input": {"path": "memory:a"}, "outputs": {"b": {"path": "memory:b"}}}

FILTERS = ", ".join(member_names("filters"))


def mistakes(written: Any, *overrides: str) -> list[str]:
    """Return the lines of the error, the heading left out."""
    with pytest.raises(InputError) as caught:
        read_workflow(written, overrides)
    heading, *lines = str(caught.value).splitlines()
    assert re.fullmatch(rf"{len(lines)} mistakes? in .+:", heading)
    return lines


def changed(path: str, text: str) -> list[str]:
    """Return the mistakes of a good workflow with one value replaced: what is said after the place."""
    prefix = f"--set {path}: "
    lines = mistakes(GOOD, f"{path}={text}")
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def test_a_workflow_is_a_model() -> None:
    """Every kind of value arrives in the model."""
    workflow = read_workflow(GOOD).model
    gaussian = make_step("gaussian", {"sigma": "1.5 um", "mode": "wrap"})
    assert workflow == Workflow(
        name="tour",
        input=InputSpec(
            path="sample:mni152-t1",
            region={"z": (10, 60)},
            channel="DAPI",
            spacing=(Length(1.0), Length(0.5, "micrometer")),
        ),
        outputs={
            "mean": OutputSpec(
                path="memory:mean",
                steps=(gaussian, make_step("laplace", {}), make_step("convolve", {"kernel": [[1, 2], [3, 4]]})),
                dtype="uint8",
            ),
            "copy": OutputSpec(path="memory:copy"),
        },
        mode=BoundaryMode.NEAREST,
        cval=1.0,
        block=(64, 64, 64),
        figures=(
            FigureSpec(
                path="memory:figure.png",
                plane={"z": 12},
                crop={"y": (10, 20)},
                panels=(Panel(image="input"), Panel(image="mean", title="Mean", colormap="gray")),
            ),
        ),
    )
    assert [step.name for step in workflow.outputs["mean"].steps] == ["gaussian", "laplace", "convolve"]


def test_one_spacing_for_all_axes() -> None:
    """A single length stays single."""
    assert read_workflow(GOOD, ["input.spacing=0.3 mm"]).model.input.spacing == Length(0.3, "millimeter")


def test_where_values_stand() -> None:
    """Later errors find the line and column of a value, or of the nearest thing around it."""
    document = read_workflow(GOOD, ["outputs.mean.dtype=uint16"])
    assert document.where(("outputs", "mean", "steps", 0, "gaussian", "sigma")) == "<workflow>:11:27"
    assert document.where(("outputs", "mean", "steps", 0, "gaussian", "order")) == "<workflow>:11:19"
    assert document.where(("outputs", "copy", "chunks", 3)) == "<workflow>:16:5"
    assert document.where(("outputs", "mean", "dtype")) == "--set outputs.mean.dtype"
    assert document.where(("block",)) == "<workflow>:19:8"
    assert str(document.mistake(("outputs", "mean", "steps", 1), "needs three axes")) == (
        "1 mistake in <workflow>:\n<workflow>:12:9: outputs.mean.steps[1]: needs three axes"
    )


def test_all_mistakes_at_once_in_order(tmp_path: Path) -> None:
    """A file with mistakes of many kinds is told whole, in the order of its lines."""
    file = tmp_path / "tour.yaml"
    file.write_text(
        "input:\n"
        "  pth: a.zarr\n"
        "mode: reflct\n"
        "outputs:\n"
        "  mean:\n"
        "    path: b.zarr\n"
        "    steps:\n"
        "      - gausian: {sigma: 2}\n"
        "      - gaussian: {sigma: 2, truncte: 3}\n"
        "    dtype: unit8\n"
        "    dtype: uint8\n"
        "figures:\n"
        "  - {path: f.png, panels: [men]}\n",
        encoding="utf-8",
    )
    modes = ", ".join(BoundaryMode)
    with pytest.raises(InputError) as caught:
        read_workflow(file, ["strategy=fast"])
    assert str(caught.value).splitlines() == [
        f"9 mistakes in {file}:",
        f"{file}:1:1: input.path: is missing",
        (
            f"{file}:2:3: input.pth: this key is not known; did you mean 'path'? "
            "(there are: path, level, channel, time, region, axes, spacing, dataset, missing)"
        ),
        f"{file}:3:7: mode: must be one of {modes}, not 'reflct'; did you mean 'reflect'?",
        (
            f"{file}:8:9: outputs.mean.steps[0]: there is no filter 'gausian'; did you mean 'gaussian'? "
            f"(there are: {FILTERS})"
        ),
        (
            f"{file}:9:30: outputs.mean.steps[1].gaussian.truncte: this key is not known; did you mean 'truncate'? "
            "(there are: mode, cval, sigma, order, truncate, radius)"
        ),
        (
            f"{file}:10:12: outputs.mean.dtype: 'unit8' is not a dtype of images; did you mean 'uint8'? "
            "(there are: uint8, uint16, uint32, uint64, int8, int16, int32, int64, float32, float64)"
        ),
        f"{file}:11:5: outputs.mean.dtype: is given twice (first on line 10)",
        f"{file}:13:28: figures[0].panels[0]: there is no output 'men'; did you mean 'mean'? (there are: input, mean)",
        "--set strategy: must be one of auto, windows, overlap, in_memory, not 'fast'",
    ]


@pytest.mark.parametrize(
    ("path", "text", "what"),
    [
        ("name", "2024", "must be text, not 2024 (text is put in quotes)"),
        ("input", "a.zarr", "must be a mapping of keys to values, not 'a.zarr'"),
        ("input.path", "", "must be text, not nothing"),
        ("input.path", "''", "a path is needed here, and this text is empty or holds a NUL character"),
        ("input.path", '"a\\0b"', "a path is needed here, and this text is empty or holds a NUL character"),
        ("input.level", "-1", "must be at least 0, not -1"),
        ("input.level", "1.5", "must be a whole number, not 1.5"),
        ("input.level", "true", "must be a whole number, not true"),
        ("input.level", "'1'", "must be a whole number, not '1'"),
        ("input.time", "first", "must be a whole number, not 'first'"),
        ("input.channel", "1.5", "write the channel's position, counted from 0, or its name"),
        ("input.channel", "true", "write the channel's position, counted from 0, or its name"),
        ("input.region.z", "[60, 10]", "60 to 10 holds no voxels: write [start, stop] with 0 <= start < stop"),
        ("input.region.z", "[-1, 10]", "-1 to 10 holds no voxels: write [start, stop] with 0 <= start < stop"),
        ("input.region.z", "[1, 2, 3]", "needs at most 2 entries, and has 3"),
        ("input.region", "[1, 2]", "must be a mapping of keys to values, not a list"),
        ("input.axes", "zzx", "'zzx' does not name axes: write each of t, c, z, y, x at most once, such as 'zyx'"),
        ("input.spacing", "0 um", "0 um is not the size of a voxel: it is larger than 0"),
        ("input.spacing", ".nan", "nan is not the size of a voxel: it is larger than 0"),
        ("input.spacing", "wide", "'wide' is not a length: write a number of voxels, or a number and a unit (1.5 um)"),
        ("outputs.mean.overflow", "wrap", "must be one of saturate, error, not 'wrap'"),
        ("outputs.mean.pyramid", "yes", "must be true or false, not 'yes'"),
        ("outputs.mean.steps", "laplace", "must be a list, not 'laplace'"),
        ("outputs.mean.steps[1]", "3", "a step is a filter's name, with its parameters under it: gaussian: {sigma: 2}"),
        (
            "outputs.mean.steps[1]",
            "{}",
            "a step is a filter's name, with its parameters under it: gaussian: {sigma: 2}",
        ),
        (
            "outputs.mean.steps[1]",
            "{gaussian: , sigma: 2}",
            "a step is one filter, and this one has 2 keys (gaussian, sigma): indent parameters under it",
        ),
        ("outputs.mean.steps[1].laplace", "3", "must be a mapping of keys to values, not 3"),
        ("outputs.mean.chunks", "64", "must be a list, not 64"),
        ("outputs.mean.chunks", "[]", "needs at least 1 entry, and has 0"),
        ("cval", "a lot", "must be a number, not 'a lot'"),
        ("block", "{z: 3}", "must be a list, not a mapping"),
        ("precision", "half", "must be one of single, double, not 'half'"),
        ("figures[0].panels", "[]", "needs at least 1 entry, and has 0"),
        ("figures[0].columns", "0", "must be at least 1, not 0"),
        ("figures[0].crop.y", "[9, 9]", "9 to 9 holds no voxels: write [start, stop] with 0 <= start < stop"),
        ("figures[0].crop", "{z: [1, 2]}", "axis 'z' is cropped, and the plane lies across it: keep one of the two"),
        ("figures[0].plane.z", "-3", "must be at least 0, not -3"),
    ],
)
def test_wrong_values(path: str, text: str, what: str) -> None:
    """Each wrong value has one mistake, without words of the library that found it."""
    assert changed(path, text) == [what]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("outputs.mean.chunks=[64, 0]", "--set outputs.mean.chunks: outputs.mean.chunks[1]: must be at least 1, not 0"),
        (
            "outputs.mean={path: 'memory:x', chunks: [64, 64], shards: [128, 100]}",
            "--set outputs.mean: outputs.mean.shards: a shard of [128, 100] is not made of whole chunks of [64, 64]",
        ),
        (
            "outputs.mean={path: 3}",
            "--set outputs.mean: outputs.mean.path: must be text, not 3 (text is put in quotes)",
        ),
        ("figures[0]={path: f.png}", "--set figures[0]: figures[0].panels: is missing"),
        ("figures[0].panels=[{title: x}]", "--set figures[0].panels: figures[0].panels[0].image: is missing"),
        ("outputs.mean.steps=[gaussian]", "--set outputs.mean.steps: outputs.mean.steps[0].gaussian.sigma: is missing"),
    ],
)
def test_wrong_values_inside(override: str, line: str) -> None:
    """A mistake inside a value that was given whole names the way to it."""
    assert mistakes(GOOD, override) == [line]


def test_contradictions() -> None:
    """Parts that do not go together are told where they stand, other mistakes or not."""
    text = (
        "input: {path: a.zarr, level: x}\n"
        "outputs:\n"
        "  one: {path: out.zarr}\n"
        "  two: {path: ./out.zarr}\n"
        "  three: {path: a.zarr}\n"
        "  input: {path: c.zarr}\n"
        "  a/b: {path: d.zarr}\n"
        "figures: [{path: d.zarr, panels: [on, one]}]\n"
    )
    assert mistakes(text) == [
        "<workflow>:1:30: input.level: must be a whole number, not 'x'",
        "<workflow>:4:15: outputs.two.path: ./out.zarr is the path of outputs.one too: each needs its own",
        "<workflow>:5:17: outputs.three.path: a.zarr is the path of the input too: each needs its own",
        "<workflow>:6:10: outputs.input: an output cannot be called 'input': figures use it for the input",
        "<workflow>:7:8: outputs.a/b: 'a/b' is not a name: use letters, digits, spaces, '-' and '_'",
        "<workflow>:8:18: figures[0].path: d.zarr is the path of outputs.a/b too: each needs its own",
        (
            "<workflow>:8:35: figures[0].panels[0]: there is no output 'on'; did you mean 'one'? "
            "(there are: input, one, two, three, input, a/b)"
        ),
    ]


def test_contradictions_of_models() -> None:
    """A model that is made in Python is held to the same."""
    output = OutputSpec(path="memory:b")
    with pytest.raises(ValidationError, match=r"memory:b is the path of outputs\.one too"):
        Workflow(input=InputSpec(path="memory:a"), outputs={"one": output, "two": output})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("input: {path: a}\n\toutputs: {}", "2:1: this is not YAML: a value cannot begin with '\\t' (tabs cannot"),
        ("input: path: a\n", "1:12: this is not YAML: a second ':' on one line, or wrong indentation"),
        ("input:\n  path: a\n level: 3\n", "3:2: this is not YAML: the indentation does not fit the lines above"),
        ("input: {path: a\n", "2:1: this is not YAML: a bracket that is not closed, or a comma that is missing"),
        ("input: 'a\n", "2:1: this is not YAML: a quote or bracket that is not closed"),
        ("name\ninput: a\n", "2:6: this is not YAML: a second ':' on one line, or wrong indentation"),
        ("a: 1\n---\nb: 2\n", "2:1: this is not YAML: a second document begins here (---), and there can be only one"),
        ("a: *b\n", "1:4: this is not YAML: found undefined alias 'b'"),
        ("a: \x07\n", "1:4: this is not YAML: a control character, which a text file cannot hold"),
        ("[1, 2]\n", "1:1: must be a mapping of keys to values, not a list"),
    ],
)
def test_not_yaml(text: str, line: str) -> None:
    """What is no YAML is told in the same form, by what it nearly always means."""
    (found,) = mistakes(text)
    assert found.startswith(f"<workflow>:{line}")


@pytest.mark.parametrize("text", ["", "# nothing\n", "~\n", "{}"])
def test_empty(text: str, tmp_path: Path) -> None:
    """An empty workflow lacks its input and outputs; an empty configuration is the defaults."""
    file = tmp_path / "empty.yaml"
    file.write_text(text, encoding="utf-8")
    assert mistakes(file) == [f"{file}:1:1: input: is missing", f"{file}:1:1: outputs: is missing"]
    assert read_config(file).model == Config()


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("<<: *a", "3:3: outputs: merge keys (<<) are not part of YAML 1.2: write the keys out"),
        ("? [x]\n  : 3", "3:5: outputs: a key is not a word"),
        ("'': 3", "3:3: outputs: a key is not a word"),
        ('b: {path: "\\ud800"}', "3:13: outputs.b.path: holds half of a character (a surrogate), which no text can"),
    ],
)
def test_yaml_that_no_workflow_needs(entry: str, what: str) -> None:
    """Merge keys, keys that are no words and half characters are mistakes."""
    found = mistakes(f"input: &a {{path: a}}\noutputs:\n  {entry}\n")
    assert f"<workflow>:{what}" in found


def test_no_outputs() -> None:
    """A workflow without outputs is none."""
    assert mistakes({**MINIMAL, "outputs": {}}) == ["outputs: needs at least 1 entry, and has 0"]


def test_keys_are_words() -> None:
    """A key is the text that is written, whatever it would mean as a value."""
    workflow = read_workflow("input: {path: a}\noutputs:\n  no: {path: b}\n  010: {path: c}\n").model
    assert list(workflow.outputs) == ["no", "010"]


def test_mappings() -> None:
    """A mapping that is made in Python is a workflow too; its mistakes have no place but their path."""
    assert list(read_workflow(MINIMAL).model.outputs) == ["b"]
    assert mistakes({**MINIMAL, "block": [1, 0], "mode": 3}) == [
        f"mode: must be one of {', '.join(BoundaryMode)}, not 3",
        "block[1]: must be at least 1, not 0",
    ]
    endless: dict[str, Any] = {}
    endless["input"] = endless
    assert mistakes(endless) == ["values are nested more than 64 deep"]


def test_steps_of_python() -> None:
    """One filter is checked as a workflow's are."""
    assert make_step("box", {"size": 5}) == make_step("box", {"size": 5})
    with pytest.raises(InputError) as caught:
        make_step("gaussian", {"sigma": -1, "truncte": 2})
    assert str(caught.value).splitlines() == [
        "2 mistakes in the filter 'gaussian':",
        "gaussian.sigma: -1 is not a length that a filter can have: it is at least 0",
        (
            "gaussian.truncte: this key is not known; did you mean 'truncate'? "
            "(there are: mode, cval, sigma, order, truncate, radius)"
        ),
    ]
    with pytest.raises(InputError, match="there is no filter 'gausian'; did you mean 'gaussian'"):
        make_step("gausian", {})


def test_models_are_frozen() -> None:
    """A document does not change once it is read."""
    workflow = read_workflow(GOOD).model
    with pytest.raises(ValidationError):
        workflow.cval = 3.0  # type: ignore[misc]  # that is the point
