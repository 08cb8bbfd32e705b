"""Every filter keeps the promises of the conformance suite."""

from convolume.testing.filters import TestEveryFilter

__all__ = ["TestEveryFilter"]
