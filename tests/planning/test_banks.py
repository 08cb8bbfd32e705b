"""A step that lists values under `each` stands for outputs with each of them, as if they had been written out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convolume.errors import InputError
from convolume.planning.spec import read_workflow, to_yaml

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
input: {path: in.zarr}
outputs:
  smooth:
    path: PATH
    dtype: uint8
    steps:
      - laplace
      - gaussian:
          truncate: 3
          each: EACH
      - sobel
figures:
  - {path: f.png, panels: [input, smooth-2]}
"""


def bank(each: str = "{sigma: [1, 2]}", path: str = "out/smooth.ome.zarr") -> str:
    """Return a workflow with a bank."""
    return TEXT.replace("EACH", each).replace("PATH", path)


def mistakes(text: str, *overrides: str) -> list[str]:
    """Return what is wrong with a text, line by line."""
    with pytest.raises(InputError) as told:
        read_workflow(text, overrides)
    return str(told.value).splitlines()[1:]


def test_every_value_makes_an_output() -> None:
    """The other steps and keys are the same in all of them; what is written reads back."""
    model = read_workflow(bank()).model
    step = [{"gaussian": {"sigma": float(sigma), "truncate": 3.0}} for sigma in (1, 2)]
    expected = {
        f"smooth-{sigma}": {
            "path": f"out/smooth-{sigma}.ome.zarr",
            "dtype": "uint8",
            "steps": ["laplace", step[sigma - 1], "sobel"],
        }
        for sigma in (1, 2)
    }
    assert model == read_workflow({**model.model_dump(), "outputs": expected}).model
    assert read_workflow(to_yaml(model)).model == model


@pytest.mark.parametrize(
    ("value", "name"), [("1.5 um", "1_5_um"), ("[1, 2.5, 3]", "1_2_5_3"), ("1e-3", "0_001"), ("'µ/m'", "µ_m")]
)
@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("out/a.ome.zarr", "out/a-{}.ome.zarr"),
        ("a.zarr", "a-{}.zarr"),
        ("a.zarr/", "a-{}.zarr/"),
        ("memory:a", "memory:a-{}"),
        ("a.b/c.d", "a.b/c.d-{}"),
    ],
)
def test_values_name_outputs_and_paths(value: str, name: str, path: str, there: str) -> None:
    """Signs that a name cannot have become one `_`; paths keep their ending."""
    step = "convolve: {each: {kernel: [VALUE]}}" if "m'" in value else "gaussian: {each: {sigma: [VALUE]}}"
    text = f"{{input: {{path: i}}, outputs: {{a: {{path: '{path}', steps: [{step.replace('VALUE', value)}]}}}}}}"
    outputs = read_workflow(text).model.outputs
    assert {key: output.path for key, output in outputs.items()} == {f"a-{name}": there.format(name)}


@given(st.lists(st.floats(0, 99) | st.integers(0, 99), min_size=1, max_size=5, unique_by=str))
def test_values_are_kept_in_their_order(values: list[Any]) -> None:
    """Of mappings made in Python too."""
    steps = [{"gaussian": {"each": {"sigma": values}}}]
    workflow = {"input": {"path": "i"}, "outputs": {"a": {"path": "a", "steps": steps}}}
    sigmas = [output.steps[0].filter.model_dump()["sigma"] for output in read_workflow(workflow).model.outputs.values()]
    assert sigmas == [float(value) for value in values]
    assert steps == [{"gaussian": {"each": {"sigma": values}}}]


def test_overrides_reach_a_bank_and_its_outputs() -> None:
    """Whichever comes first."""
    overrides = ["outputs.smooth-4.path=there.zarr", "outputs.smooth.steps[1].gaussian.each.sigma=[2, 4]", "figures=[]"]
    outputs = read_workflow(bank(), overrides).model.outputs
    assert {name: output.path for name, output in outputs.items()} == {
        "smooth-2": "out/smooth-2.ome.zarr",
        "smooth-4": "there.zarr",
    }
    (told,) = mistakes(bank(), "outputs.smooth-3.path=x.zarr")
    assert told.startswith("--set outputs.smooth-3.path: there is no output 'smooth-3'; did you mean 'smooth-2'?")


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    """As those of any output."""
    (tmp_path / "bank.yaml").write_text(bank(), encoding="utf-8")
    document = read_workflow(tmp_path / "bank.yaml")
    assert document.model.outputs["smooth-2"].path == str(tmp_path / "out" / "smooth-2.ome.zarr")
    assert document.where(("outputs", "smooth-2", "steps", 1, "gaussian", "sigma")) == f"{tmp_path}/bank.yaml:10:29"


GAUSSIAN = "outputs.smooth.steps[1].gaussian"


@pytest.mark.parametrize(
    ("each", "told"),
    [
        ("{sigma: [2, -1]}", "10:29: outputs.smooth--1.steps[1].gaussian.sigma: -1 is not a length that a filter can"),
        ("{sigma: [2, 2]}", "10:29: outputs.smooth: this makes an output 'smooth-2', and there is one already: give"),
        ("{sigma: [2, '2']}", "10:29: outputs.smooth: this makes an output 'smooth-2', and there is one already: give"),
        ("{sigma: 2}", f"10:17: {GAUSSIAN}.each: list the values of sigma: `each: {{sigma: [1, 2, 4]}}`"),
        ("{sigma: []}", f"10:17: {GAUSSIAN}.each: list the values of sigma: `each: {{sigma: [1, 2, 4]}}`"),
        ("[2, 4]", f"10:17: {GAUSSIAN}.each: name one parameter and its values: `each: {{sigma: [1, 2, 4]}}`"),
        ("{sigma: [2], order: [0]}", f"10:17: {GAUSSIAN}.each: name one parameter and its values"),
        ("{truncate: [2, 4]}", f"10:17: {GAUSSIAN}.each: truncate is given beside `each` too: keep one of the two"),
        ("{sigma: [2, {}]}", f"10:17: {GAUSSIAN}.each: a value of sigma names its output: write numbers, texts, or"),
        ("{sigma: [2, ~]}", f"10:17: {GAUSSIAN}.each: a value of sigma names its output: write numbers, texts, or"),
    ],
)
def test_mistakes_are_told_where_they_are(each: str, told: str) -> None:
    """Each once, and nothing that follows from it but a figure of an output that is not made."""
    lines = [line for line in mistakes(bank(each)) if "panels" not in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"<workflow>:{told}")


def test_an_output_has_one_bank() -> None:
    """Two would make a table of outputs."""
    text = bank().replace("- laplace", "- box: {each: {size: [3, 5]}}")
    assert [line for line in mistakes(text) if "panels" not in line] == [
        f"<workflow>:10:17: {GAUSSIAN}.each: an earlier step of this output has `each`, and one can have it"
    ]


@pytest.mark.parametrize("key", ["outputs:\n", "figures:\n"])
def test_the_name_of_another_output_is_taken(key: str) -> None:
    """Whichever comes first."""
    other = "  smooth-1: {path: x.zarr}\n"
    text = bank().replace(key, key + other if key.startswith("outputs") else other + key)
    (told,) = mistakes(text)
    assert "this makes an output 'smooth-1', and there is one already: give it another name or value" in told
