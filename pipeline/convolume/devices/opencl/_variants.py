"""Shapes in which a work item computes: which there are, and which a device takes for which stencils."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from convolume.devices._cache import recall, remember
from convolume.devices.opencl._arrangement import vector_width
from convolume.devices.opencl._jobs import Numbers, Traits
from convolume.numerics import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convolume.records import DeviceInfo
    from convolume.stencil import Stencil

__all__ = ["CASES", "Case", "Variant", "Variants", "candidates", "case_of", "default_variant"]

# Rows and vectors, that of devices that were not tuned first: its sums leave half of 16 registers free.
SHAPES = ((4, 2), (4, 4), (6, 4), (8, 2), (6, 2))
SHAPE_OF_HALF_VECTORS = (4, 4)
# With fewer sums a program of its own is hardly faster than the generic one.
LEAST_SUMS = 2
# Stencils of three axes and more, up to so many taps, are like these.
PLANE, LARGEST = (1, 7, 7), (7, 7, 7)
CUBES = ((64, (3, 3, 3)), (216, (5, 5, 5)))


@dataclass(frozen=True, slots=True)
class Variant:
    """The shape in which a work item computes; it changes the time, never the bits.

    Parameters
    ----------
    rows : int
        Neighbours along the stencil's last axis but x that are computed together.
    vectors : int
        Neighbouring vectors of a row that are computed together.
    vector_width : int
        Voxels of a vector.
    """

    rows: int
    vectors: int
    vector_width: int

    def __str__(self) -> str:
        """Return it as a table shows it.

        Examples
        --------
        >>> str(Variant(rows=4, vectors=2, vector_width=16))
        '4 rows x 2 vectors of 16'
        """
        return f"{self.rows} rows x {self.vectors} vector{'s' if self.vectors > 1 else ''} of {self.vector_width}"

    def fitted(self, rows: int, width: int) -> Variant:
        """Return what is left of it for an output of so many rows of two voxels or more: spans cover a row evenly.

        Examples
        --------
        >>> Variant(4, 4, 16).fitted(rows=3, width=80)
        Variant(rows=2, vectors=3, vector_width=16)
        >>> Variant(4, 4, 16).fitted(rows=4, width=7)
        Variant(rows=4, vectors=1, vector_width=4)
        """
        vector_width = min(self.vector_width, 2 ** (width.bit_length() - 1))
        needed = -(-width // vector_width)
        spans = -(-needed // self.vectors)
        vectors = min(-(-needed // spans), width // vector_width)
        return Variant(max(r for r in (1, 2, 4, self.rows) if r <= min(rows, self.rows)), vectors, vector_width)

    def smaller(self) -> Iterator[Variant]:
        """Yield it, and what needs ever smaller programs."""
        rows, vectors = self.rows, self.vectors
        yield self
        while rows * vectors > LEAST_SUMS:
            rows, vectors = (rows, vectors // 2) if vectors > rows // 2 else (rows // 2, vectors)
            yield Variant(rows, vectors, self.vector_width)


@dataclass(frozen=True, slots=True)
class Case:
    """A correlation that is timed for all that are like it."""

    extents: tuple[int, int, int]
    numbers: Numbers
    precision: Precision

    @property
    def label(self) -> str:
        """Its name on disk and in tables."""
        return f"{'x'.join(map(str, self.extents))} {self.numbers.sum}"


CASES = tuple(
    Case(extents, *numbers)
    for numbers in (
        (Numbers("float32", "float32", "float32", exact=False), Precision.SINGLE),
        # Integer outputs of `convolume.ndimage` are summed so.
        (Numbers("uint16", "float64", "uint16", exact=True), Precision.SCIPY),
    )
    for extents in ((3, 3, 3), (5, 5, 5), LARGEST, PLANE)
)
_CASES = {(case.extents, case.numbers.sum): case for case in CASES}


def case_of(stencil: Stencil, numbers: Numbers) -> Case:
    """Return the case that a stencil is like.

    Examples
    --------
    >>> from convolume.stencil import Stencil
    >>> case_of(Stencil.correlate([[1.0] * 9] * 5), Numbers("uint8", "float32", "float32", exact=False)).label
    '1x7x7 float32'
    """
    if sum(extent > 1 for extent in stencil.shape) < len(LARGEST):
        return _CASES[PLANE, numbers.sum]
    extents = next((extents for most, extents in CUBES if stencil.tap_count <= most), LARGEST)
    return _CASES[extents, numbers.sum]


def candidates(case: Case, traits: Traits) -> tuple[Variant, ...]:
    """Return the variants that are timed on a device, the one of devices that were not tuned first."""
    width = vector_width(case.numbers, traits)
    whole = tuple(Variant(*shape, width) for shape in SHAPES)
    return (*whole, Variant(*SHAPE_OF_HALF_VECTORS, width // 2)) if width > 1 else whole


def default_variant(case: Case, traits: Traits) -> Variant:
    """Return the variant of a device that was not tuned."""
    return candidates(case, traits)[0]


@dataclass
class Variants:
    """What is known of the variants of one device: the fastest of each case, and why some are not to be used.

    Parameters
    ----------
    traits : Traits
        Of the device.
    chosen : dict of str to Variant
        By label of the case.
    skipped : dict of str to dict
        For each label the reasons, by variant.
    """

    traits: Traits
    chosen: dict[str, Variant] = field(default_factory=dict)
    skipped: dict[str, dict[Variant, str]] = field(default_factory=dict)

    @classmethod
    def recalled(cls, info: DeviceInfo, traits: Traits) -> Self:
        """Return what was remembered of a device; what is no candidate of today is left out."""
        variants = cls(traits)
        found = recall("variants", info.name, info.driver)
        for case in CASES:
            entry = found.get(case.label) if isinstance(found, dict) else None
            if isinstance(entry, dict):
                variants._take(case, entry)
        return variants

    def remember(self, info: DeviceInfo) -> None:
        """Keep it on disk."""
        content = {
            label: {
                "chosen": str(self.chosen.get(label, "")),
                "skipped": {str(variant): reason for variant, reason in self.skipped.get(label, {}).items()},
            }
            for label in {**self.chosen, **self.skipped}
        }
        remember("variants", info.name, info.driver, content)

    def best(self, stencil: Stencil, numbers: Numbers, traits: Traits | None = None) -> Variant:
        """Return the variant for a stencil: the one that was timed, or the default of the device or of other traits."""
        case = case_of(stencil, numbers)
        return self.chosen.get(case.label) or default_variant(case, traits or self.traits)

    def _take(self, case: Case, entry: dict[str, object]) -> None:
        named = {str(variant): variant for variant in candidates(case, self.traits)}
        chosen, skipped = entry.get("chosen"), entry.get("skipped")
        if isinstance(chosen, str) and chosen in named:
            self.chosen[case.label] = named[chosen]
        if isinstance(skipped, dict):
            reasons = {named[name]: str(reason) for name, reason in skipped.items() if name in named}
            self.skipped[case.label] = reasons
