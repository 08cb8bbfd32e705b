"""Scalars mean what YAML 1.2's core schema says, and not what YAML 1.1 guessed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from convolume.planning.document import Mistake, compose, dump, resolve_scalar

CORE = [
    *((text, None) for text in ("", "~", "null", "Null", "NULL")),
    *((text, True) for text in ("true", "True", "TRUE")),
    *((text, False) for text in ("false", "False", "FALSE")),
    *[("0", 0), ("010", 10), ("-7", -7), ("+7", 7), ("0o17", 15), ("0xfF", 255)],
    *[("1e-3", 0.001), ("1E3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-1.5e+2", -150.0), ("0.0", 0.0)],
    *[(".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf)],
]
WORDS = [
    *("no", "No", "NO", "yes", "on", "off", "y", "n", "nULL", "tRUE", "none", "None"),
    *(
        "2024-01-31",
        "12:30:45",
        "1_000",
        "0b11",
        "0O17",
        "-0o17",
        "-0xff",
        "1e",
        "e3",
        ".",
        "-",
        "1.5 um",
        "nan",
        "inf",
    ),
    *("٣", "1e3.5", "-.nan", "<<x", "="),
]


def read(text: str) -> tuple[Any, list[str]]:
    """Return the plain values of a text, and what is wrong with it."""
    mistakes: list[Mistake] = []
    root = compose(text, "f", mistakes)
    return (root.plain() if root else None), list(map(str, mistakes))


@pytest.mark.parametrize(("text", "value"), CORE)
def test_core_schema(text: str, value: Any) -> None:
    """Null, booleans, integers and floats: type and value."""
    found, mistakes = read(f"a: {text}")
    assert not mistakes
    assert (found["a"], type(found["a"])) == (value, type(value))


def test_nan() -> None:
    """NaN is written with a dot."""
    assert all(math.isnan(resolve_scalar(text)) for text in (".nan", ".NaN", ".NAN"))


@pytest.mark.parametrize("text", WORDS)
def test_everything_else_is_text(text: str) -> None:
    """Words of YAML 1.1, dates and half numbers stay as they are written."""
    assert resolve_scalar(text) == text


@pytest.mark.parametrize(("text", "value"), CORE)
def test_quoted_is_text(text: str, value: Any) -> None:
    """Quotes make text of anything."""
    assert value != text
    assert read(f"[ \"{text}\", '{text}' ]") == ([text, text], [])


@pytest.mark.parametrize(
    ("written", "value"),
    [("!!str 1", "1"), ("!!int '3'", 3), ("!!float 3", 3.0), ("!!bool 'true'", True), ("!!null ''", None)],
)
def test_core_tags(written: str, value: Any) -> None:
    """The core schema's own tags say what a scalar is."""
    assert read(f"a: {written}") == ({"a": value}, [])


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("!!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system is not known here"),
        ("!mine 3", "the tag !mine is not known here"),
        ("!!binary aGVsbG8=", "the tag !!binary is not known here"),
        ("!!set {a: }", "the tag !!set is not known here"),
    ],
)
def test_other_tags_are_mistakes(written: str, what: str) -> None:
    """Nothing is constructed from a tag."""
    assert read(f"a: {written}")[1] == [f"f:1:4: a: {what}: documents are data only"]


def test_wrong_tag() -> None:
    """A tag that does not fit its text is told."""
    assert read("a: !!int 1.5")[1] == ["f:1:4: a: '1.5' does not fit its tag !!int"]


def test_aliases_share_values() -> None:
    """Anchors and aliases work; each copy stands where its anchor does."""
    assert read("a: &k [1, 2]\nb: *k") == ({"a": [1, 2], "b": [1, 2]}, [])


def test_alias_bomb_is_a_mistake() -> None:
    """Ten to the ninth values in nine lines are refused, once and quickly."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    mistakes = read("\n".join(lines))[1]
    assert len(mistakes) == 1
    assert mistakes[0].endswith("aliases repeat more than 100,000 values")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: " + "[" * 70 + "]" * 70])
def test_depth_is_bounded(text: str) -> None:
    """Values that contain themselves, or are nested absurdly, are mistakes."""
    mistakes = read(text)[1]
    assert len(mistakes) == 1
    assert mistakes[0].endswith("values are nested more than 64 deep, or contain themselves")


def test_very_deep() -> None:
    """So deep that PyYAML gives up: still one mistake."""
    assert read("[" * 5000)[1] == ["f: values are nested more than 64 deep"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner),
        max_leaves=12,
    ).filter(lambda value: not isinstance(value, str))
)
def test_dump_reads_back(value: Any) -> None:
    """Whatever is written reads back to the same values of the same types, by our rules."""
    found, mistakes = read(dump(value))
    assert (repr(found), mistakes) == (repr(value), [])


@given(st.text(alphabet="0123456789eExXoO+-._:~ nulltruefasNULTRFAS#&*!|>'\"%@`{}[],?\n\t\x85\u2028é", max_size=12))
def test_text_stays_text(text: str) -> None:
    """No text turns into a number, a word of the schema, or another text, on its way to YAML and back."""
    assert read(dump({"a": text, "b": [text]})) == ({"a": text, "b": [text]}, [])


@given(st.floats(allow_nan=False))
def test_floats_are_floats_to_yaml_1_1_too(value: float) -> None:
    """What is written means the same to PyYAML's own reader."""
    assert yaml.safe_load(dump({"a": value})) == {"a": value}
