"""Values that may be of several kinds: however many pydantic tried, a place has one mistake."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from convolume.planning.document import Mistake, Place, compose, dotted
from convolume.planning.mistakes import explain, input_error


class Bell(BaseModel):
    """A shape with a parameter."""

    model_config = ConfigDict(extra="forbid")
    width: Annotated[float, Field(gt=0)]


class Several(BaseModel):
    """A document of unions, as a filter might declare them."""

    size: StrictInt | tuple[StrictInt, ...] = 1
    shape: StrictStr | Bell | list[Bell] = "ball"
    by_name: dict[int, int] = {}
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    word: Annotated[str, Field(pattern="^a")] = "a"


def told(text: str) -> list[str]:
    """Return what is wrong with a text that is read as `Several`."""
    mistakes: list[Mistake] = []
    root = compose(text, "f", mistakes)
    assert root is not None
    with pytest.raises(ValidationError) as caught:
        Several.model_validate(root.plain())
    return [str(mistake) for mistake in [*mistakes, *explain(caught.value, Several, root)]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("size: x", "f:1:7: size: must be a whole number or a list, not 'x'"),
        ("size: [1, x]", "f:1:11: size[1]: must be a whole number, not 'x'"),
        ("shape: 3", "f:1:8: shape: must be text or a mapping of keys to values or a list, not 3"),
        ("shape: {width: 0}", "f:1:16: shape.width: must be more than 0, not 0"),
        ("shape: {widht: 1, width: 2}", "f:1:9: shape.widht: this key is not known"),
        ("shape: [{width: 1}, {}]", "f:1:21: shape[1].width: is missing"),
        ("by_name: {x: 1}", "f:1:11: by_name.x: must be a whole number, not 'x'"),
        ("share: 2", "f:1:8: share: must be at most 1, not 2"),
        ("word: b", "f:1:7: word: must match pattern '^a'"),
    ],
)
def test_one_mistake_a_place(text: str, line: str) -> None:
    """The attempt that came furthest is told; those of one place are told as one."""
    (found,) = told(text)
    assert found.startswith(line)


def test_order() -> None:
    """Lines and columns decide, not their spelling; overrides come last, and nothing twice."""
    places = [Place("f", 10, 1), Place("f", 9, 20), Place("f", 9, 3), Place("--set b"), Place("f", 9, 3)]
    mistakes = [Mistake(place, ("b",), "is wrong") for place in places]
    assert str(input_error(mistakes, "f")).splitlines() == [
        "4 mistakes in f:",
        "f:9:3: b: is wrong",
        "f:9:20: b: is wrong",
        "f:10:1: b: is wrong",
        "--set b: is wrong",
    ]


@pytest.mark.parametrize(("path", "text"), [((), ""), (("a", 0, 1, "b"), "a[0][1].b"), (("a.b",), "a.b")])
def test_dotted(path: Any, text: str) -> None:
    """Names are joined by dots, positions stand in brackets."""
    assert dotted(path) == text
