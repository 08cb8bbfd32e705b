"""A workflow reads back from the YAML that it writes, and rubbish raises nothing but `InputError`."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from convolume.boundary import BoundaryMode
from convolume.errors import InputError
from convolume.filters import filter_class
from convolume.lengths import Length
from convolume.planning.models import DTYPES
from convolume.planning.spec import (
    Config,
    FigureSpec,
    InputSpec,
    OutputSpec,
    Panel,
    Step,
    Workflow,
    make_step,
    read_config,
    read_workflow,
    to_yaml,
)
from convolume.registry import member_names

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
# A path that begins with ~ is one in a home folder.
paths = words.filter(lambda path: path.strip() and "\0" not in path and not path.startswith("~"))
names = st.from_regex(r"\w[\w -]{0,6}", fullmatch=True).filter(lambda name: name != "input")
shapes = st.lists(st.integers(1, 300), min_size=1, max_size=5).map(tuple)
intervals = st.tuples(st.integers(0, 99), st.integers(1, 99)).map(lambda pair: (pair[0], pair[0] + pair[1]))
sizes = st.floats(min_value=1e-300, max_value=1e300)
lengths = st.builds(Length, sizes, st.sampled_from(["", "nanometer", "micrometer", "millimeter", "meter"]))
reals = st.floats(allow_nan=False, allow_infinity=False)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw from a strategy, or None."""
    return st.none() | strategy


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Draw a filter: one of its own examples, or a kernel of any numbers, with a boundary or without."""
    name = draw(st.sampled_from(member_names("filters")))
    parameters: dict[str, Any] = dict(draw(st.sampled_from(filter_class(name).examples())))
    if "kernel" in parameters and draw(st.booleans()):
        kernel = draw(st.lists(st.lists(reals, min_size=3, max_size=3), min_size=1, max_size=3) | paths)
        parameters = {"kernel": kernel}
    if name == "gaussian" and draw(st.booleans()):
        parameters = {"sigma": [draw(lengths), draw(lengths)]}
    extra = {"mode": draw(optional(st.sampled_from(BoundaryMode))), "cval": draw(optional(reals))}
    return make_step(name, parameters | {key: value for key, value in extra.items() if value is not None})


inputs = st.builds(
    InputSpec,
    path=paths,
    level=st.integers(0, 9),
    channel=optional(st.integers(0, 9) | words),
    time=optional(st.integers(0, 9)),
    region=st.dictionaries(words, intervals, max_size=2),
    axes=st.sampled_from([None, "zyx", "yx", "tczyx"]),
    spacing=optional(lengths | st.lists(lengths, min_size=1, max_size=3).map(tuple)),
)
outputs = st.builds(
    OutputSpec,
    path=paths,
    format=st.sampled_from(["ome-zarr", "ome-zarr-0.4", "zarr"]),
    steps=st.lists(steps(), max_size=3).map(tuple),
    dtype=st.sampled_from([None, *DTYPES]),
    overflow=st.sampled_from(["saturate", "error"]),
    pyramid=st.booleans(),
    chunks=optional(shapes),
    if_exists=st.sampled_from(["error", "overwrite"]),
)


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Draw any workflow that is right."""
    results = draw(st.dictionaries(names, outputs, min_size=1, max_size=3))
    image = st.sampled_from(["input", *results])
    shows = st.sampled_from(["plane", "histogram"])
    panel = st.builds(Panel, image=image, show=shows, title=optional(words), colormap=optional(words))
    figure = st.builds(
        FigureSpec,
        path=paths,
        plane=st.dictionaries(st.sampled_from("tcz"), st.integers(0, 99), max_size=2),
        crop=st.dictionaries(st.sampled_from("yx"), intervals, max_size=2),
        panels=st.lists(panel, min_size=1, max_size=4).map(tuple),
        columns=st.integers(1, 4),
        title=optional(words),
    )
    fields: dict[str, Any] = {
        "name": draw(optional(words)),
        "input": draw(inputs),
        "mode": draw(st.sampled_from(BoundaryMode)),
        "cval": draw(st.floats(allow_nan=False)),
        "strategy": draw(st.sampled_from(["auto", "windows", "overlap", "in_memory"])),
        "precision": draw(st.sampled_from(["single", "double"])),
        "block": draw(optional(shapes)),
        "measure": draw(st.booleans()),
    }
    figures = draw(st.lists(figure, max_size=2))
    # Whatever was drawn, no two parts share a path.
    numbered = {
        name: result.model_copy(update={"path": f"/{i}/{result.path}/{i}"})
        for i, (name, result) in enumerate(results.items())
    }
    drawn = tuple(f.model_copy(update={"path": f"/f{i}/{f.path}/f{i}"}) for i, f in enumerate(figures))
    return Workflow(outputs=numbered, figures=drawn, **fields)


wishes = optional(words | st.lists(words, min_size=1).map(tuple))
joining = st.builds(
    Config, cluster=st.just("address"), scheduler=st.integers(1, 65535).map("tcp://node7:{}".format), device=wishes
)
starting = st.builds(
    Config,
    cluster=st.sampled_from(sorted(set(member_names("clusters")) - {"address"})),
    workers=optional(st.integers(1, 99)),
    threads_per_worker=optional(st.integers(1, 99)),
    device=wishes,
    memory=optional(st.integers(1, 2**60)),
    dashboard=st.booleans(),
)
configs = starting | joining


@settings(max_examples=150, deadline=None)
@given(workflows())
def test_workflows_read_back(workflow: Workflow) -> None:
    """The YAML of a workflow is the workflow, and as a mapping it is the same again."""
    text = to_yaml(workflow)
    again = read_workflow(text).model
    assert again == workflow
    assert to_yaml(again) == text


@settings(deadline=None)
@given(configs)
def test_configurations_read_back(config: Config) -> None:
    """A configuration is written as a workflow is; the default one is an empty mapping."""
    assert read_config(to_yaml(config)).model == config


def test_what_is_written() -> None:
    """Defaults are left out, lengths stand as they were given, bare names stay bare."""
    text = (
        "input: {path: 'sample:mni152-t1', spacing: 0.5 um}\n"
        "outputs:\n"
        "  'no':\n"
        "    path: out.zarr\n"
        "    steps:\n"
        "    - gaussian:\n"
        "        sigma: [1.0, 1.5 um]\n"
        "    - laplace\n"
        "    - convolve:\n"
        "        kernel:\n"
        "        - [1, 2]\n"
        "        - [3, 4]\n"
        "figures:\n"
        "- path: f.png\n"
        "  panels:\n"
        "  - input\n"
        "  - {image: 'no', title: '010'}\n"
    )
    assert to_yaml(read_workflow(text).model) == text
    assert to_yaml(Config()) == "{}\n"


SEED = to_yaml(
    Workflow(
        input=InputSpec(path="a.zarr", region={"z": (1, 2)}, spacing=(Length(1.0), Length(0.5, "micrometer"))),
        outputs={
            "mean": OutputSpec(
                path="b.zarr",
                steps=(
                    make_step("gaussian", {"sigma": "1.5 um", "order": [0, 1]}),
                    make_step("convolve", {"kernel": [[1, 2], [3, 4]], "origin": [0, -1]}),
                    make_step("correlate", {"kernel": {"ball": 3}}),
                    make_step("laplace", {}),
                ),
                chunks=(64, 64),
                shards=(128, 128),
            )
        },
        figures=(FigureSpec(path="f.png", plane={"z": 3}, panels=(Panel(image="mean", title="Mean"),)),),
    )
)
rubbish = st.sampled_from(
    [
        *(
            "",
            "~",
            "{}",
            "[]",
            "[[]]",
            "{a: 1}",
            "[{}]",
            "- x",
            "no",
            "0",
            "-1",
            "1e999",
            ".nan",
            "9" * 500,
            "9" * 350,
            f"0x{'f' * 250}",
        ),
        *("x", "''", "'\\0'", '"\\0"', "&a", "*a", "<<", "!!int", "!x", "? ", ": ", "\n", "\t", "$NOPE_", "~/", "${"),
        *("[1, [2, 3]]", "[1, x]", "{gaussian: {sigma: {a: 1}}}", "{laplace: []}", "true", "2024-01-01", "laplace"),
        *("{kernel: []}", "{kernel: [[]]}", "{kernel: .inf}", "{ball: -1}", "{ball: 1e999}", "1 parsec", "\ud7ff", "|"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Draw a good document with words replaced by rubbish, and pieces cut out or doubled."""
    text = SEED
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["word", "word", "word", "cut", "double"]))
        word_spans = [match.span() for match in re.finditer(r"[^\s:,\[\]{}-]+", text)] or [(0, 0)]
        start, stop = draw(st.sampled_from(word_spans))
        if kind != "word":
            start = draw(st.integers(0, len(text)))
            stop = draw(st.integers(start, min(len(text), start + 12)))
        new = {"word": draw(rubbish), "cut": "", "double": text[start:stop] * 2}[kind]
        text = text[:start] + new + text[stop:]
    return text


def refusal(text: str, *overrides: str) -> str:
    """Return what is said against a text; nothing where it is read, and then its YAML reads too."""
    try:
        workflow = read_workflow(text, overrides).model
    except InputError as error:
        return str(error)
    assert repr(read_workflow(to_yaml(workflow)).model) == repr(workflow)
    return ""


@settings(max_examples=500, deadline=None)
@given(mutated())
def test_only_input_errors_leave(text: str) -> None:
    """A damaged document is read, or refused in the one form that all mistakes have."""
    said = refusal(f"{text}\n")
    heading, *lines = said.splitlines() or [""]
    assert bool(said) == heading.endswith(" in <workflow>:") == bool(lines)
    assert all(line.startswith("<workflow>:") for line in lines), lines


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [
            *("input", "input.region", "input.region.z", "input.spacing", "outputs", "outputs.mean", "figures", "mode"),
            *("outputs.mean.steps", "outputs.mean.steps[0]", "outputs.mean.steps[0].gaussian", "figures[0].panels"),
            *("outputs.mean.steps[0].gaussian.sigma", "outputs.mean.steps[1].convolve.kernel", "figures[0].plane"),
            *("outputs.mean.steps[1].convolve.origin", "outputs.mean.chunks", "block", "cval", "outputs.mean.path"),
        ]
    ),
    rubbish | words,
)
def test_only_input_errors_leave_overrides(key: str, value: str) -> None:
    """Any value at any key is taken, or refused."""
    said = refusal(SEED, f"{key}={value}")
    assert not said or "--set" in said
