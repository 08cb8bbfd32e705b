"""Numbers as people read them, and labelled paragraphs of a given width; plain text, no control characters."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from convolume.regions import Halo

__all__ = [
    "NARROWEST",
    "WIDTH",
    "Rows",
    "bytes_text",
    "clock_text",
    "counted",
    "document",
    "halo_text",
    "labelled",
    "large",
    "printable",
    "seconds_text",
    "shape_text",
]

WIDTH = 80
# Columns of labels are as wide as the longest of them, within these.
NARROWEST, _WIDEST = 9, 18

Rows = list[tuple[str, list[str]]]

_THOUSAND = 1000
_KIBI = 1024
_MINUTE = 60


def bytes_text(size_bytes: float) -> str:
    """Return an amount of memory in binary units.

    Examples
    --------
    >>> bytes_text(512), bytes_text(8_675_667), bytes_text(2**34)
    ('512 B', '8.27 MiB', '16.0 GiB')
    """
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if size_bytes < _KIBI:
            break
        size_bytes, unit = size_bytes / _KIBI, larger
    return f"{size_bytes:.0f} B" if unit == "B" else f"{_three_digits(size_bytes)} {unit}"


def large(count: float) -> str:
    """Return a count with three digits and a word.

    Examples
    --------
    >>> large(950), large(26_025_321)
    ('950', '26.0 million')
    """
    word = ""
    for larger in (" thousand", " million", " billion", " trillion"):
        if count < _THOUSAND:
            break
        count, word = count / _THOUSAND, larger
    return f"{_three_digits(count) if word else f'{count:.0f}'}{word}"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0  # noqa: PLR2004 - where rounding adds a digit
    return f"{value:.{decimals}f}"


def seconds_text(seconds: float) -> str:
    """Return a duration with about three digits.

    Examples
    --------
    >>> seconds_text(0.0213), seconds_text(12.34), seconds_text(3725)
    ('0.021 s', '12.3 s', '1 h 02 min')
    """
    if seconds < 1:
        return f"{seconds:.3f} s"
    return f"{seconds:.1f} s" if seconds < _MINUTE - 0.05 else clock_text(seconds)


def clock_text(seconds: float) -> str:
    """Return a duration that is only known roughly.

    Examples
    --------
    >>> clock_text(7.4), clock_text(95), clock_text(3725)
    ('7 s', '1 min 35 s', '1 h 02 min')
    """
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    minutes, rest = divmod(whole, _MINUTE)
    return f"{minutes} min {rest:02d} s" if minutes < _MINUTE else f"{minutes // _MINUTE} h {minutes % _MINUTE:02d} min"


def shape_text(shape: Iterable[int]) -> str:
    """Return extents as people write them: ``189 x 233 x 197``."""
    return " x ".join(map(str, shape))


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "block"), counted(12_345, "block")
    ('1 block', '12,345 blocks')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def halo_text(halo: Halo, axes: tuple[str, ...]) -> str:
    """Return what is read around a block, axis by axis.

    Examples
    --------
    >>> from convolume.regions import Halo
    >>> halo_text(Halo((0, 1, 2), (0, 1, 1)), ("z", "y", "x"))
    'halo y 1, x 2 before and 1 after'
    """
    named = axes[len(axes) - len(halo.before) :]
    parts = [
        f"{axis} {before}" if before == after else f"{axis} {before} before and {after} after"
        for axis, before, after in zip(named, halo.before, halo.after, strict=True)
        if before or after
    ]
    return f"halo {', '.join(parts)}" if parts else "no halo"


def labelled(label: str, paragraphs: Iterable[str], indent: int, width: int = WIDTH) -> list[str]:
    """Return lines with `label` in a column of its own; a word with a slash (a path) is never broken.

    Examples
    --------
    >>> labelled("device", ["fast", "and cheap"], indent=8)
    ['device  fast', '        and cheap']
    """
    texts = [line for paragraph in paragraphs for line in _wrapped(printable(paragraph), width - indent)]
    labels = [printable(label), *[""] * len(texts)]
    if len(labels[0]) > indent - 2:
        texts = ["", *texts]
    return [f"{head:{indent}}{text}".rstrip() for head, text in zip(labels, texts, strict=False)]


def document(heading: str, first: Rows, second: Rows, notes: Iterable[str], width: int = WIDTH) -> str:
    """Return a heading and two blocks of labelled rows, then notes, with all labels in one column.

    Examples
    --------
    >>> print(document("done", [("device", ["NumPy"])], [], ["in a hurry"]))
    done
    <BLANKLINE>
    device   NumPy
    <BLANKLINE>
    note     in a hurry
    """
    longest = max((len(label) for label, _ in [*first, *second]), default=0)
    indent = min(max(longest + 2, NARROWEST), _WIDEST)
    noted: Rows = [("note", [note]) for note in notes]
    lines = [printable(heading)]
    for block in filter(None, (first, second, noted)):
        lines.append("")
        for label, paragraphs in block:
            lines += labelled(label, paragraphs, indent, width)
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for line in wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]:
        whole = len(line) <= width or "/" in line or "\\" in line
        lines += [line] if whole else wrap(line, width)
    return lines


def printable(text: str) -> str:
    r"""Return a text whose control characters, and what no terminal can show, are written out.

    Examples
    --------
    >>> print(printable("a\x1b[31mred"))
    a\x1b[31mred
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
