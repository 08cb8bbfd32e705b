"""Every device of this machine keeps the promises of the conformance suite."""

from convolume.testing.devices import TestEveryDevice

__all__ = ["TestEveryDevice"]
