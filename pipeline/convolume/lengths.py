"""Lengths as people write them: ``2`` is voxels, ``1.5 um`` and ``0.3 mm`` are lengths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from convolume.errors import InputError
from convolume.image import MICROMETRES_PER_UNIT

__all__ = ["Length"]

_SYMBOLS = {"nm": "nanometer", "um": "micrometer", "µm": "micrometer", "μm": "micrometer", "mm": "millimeter"}
_WRITTEN = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµμ]*)\s*")


@dataclass(frozen=True, slots=True)
class Length:
    """A length in voxels (`unit` empty) or in a unit of length, by its full name.

    Examples
    --------
    >>> Length.parse("1.5 um")
    Length(value=1.5, unit='micrometer')
    >>> Length.parse("1.5 um").in_voxels(0.5)
    3.0
    """

    value: float
    unit: str = ""

    @classmethod
    def parse(cls, written: Any) -> Length:
        """Read a number or a text such as ``1.5 um``, ``0.3 mm`` or ``2 micrometer``.

        Raises
        ------
        InputError
            It is no number, or the unit is not known.
        """
        if isinstance(written, Length):
            return written
        if isinstance(written, (int, float)) and not isinstance(written, bool):
            return cls(float(written))
        match = _WRITTEN.fullmatch(written) if isinstance(written, str) else None
        if match is None:
            message = f"{written!r} is not a length: write a number of voxels, or a number and a unit (1.5 um)"
            raise InputError(message)
        unit = _SYMBOLS.get(match[2], match[2])
        if unit and unit not in MICROMETRES_PER_UNIT:
            known = ", ".join(dict.fromkeys([*_SYMBOLS, *MICROMETRES_PER_UNIT]))
            message = f"the unit {match[2]!r} is not known (there are: {known})"
            raise InputError(message)
        return cls(float(match[1]), unit)

    def in_voxels(self, spacing_um: float | None) -> float:
        """Return the length in voxels of the given size.

        Raises
        ------
        InputError
            The length has a unit and the voxel size is not known.
        """
        if not self.unit:
            return self.value
        if spacing_um is None:
            message = f"{self} needs the voxel size, which this image does not tell: give `spacing:` with the input"
            raise InputError(message)
        return self.value * MICROMETRES_PER_UNIT[self.unit] / spacing_um

    def __str__(self) -> str:
        """Return the length as it is written in a workflow; `parse` reads the very same length back."""
        symbol = next((short for short, name in _SYMBOLS.items() if name == self.unit), self.unit)
        return f"{str(self.value).removesuffix('.0')} {symbol}".strip()
