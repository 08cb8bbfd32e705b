"""A filter that is added as one new file is taken by the YAML, by `Volume` and by the conformance suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import convolume

FILTER = '''
"""`central_slope`: how steep an image is, from central differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from convolume.filters import Filter, FilterContext
from convolume.operations import Combine, Correlate
from convolume.stencil import Stencil

if TYPE_CHECKING:
    import numpy.typing as npt

    from convolume.operations import Operation

__all__ = ["CentralSlope"]


class CentralSlope(Filter):
    """Take the root of the sum of squares of the differences along all filtered axes.

    Examples
    --------
    >>> CentralSlope(weight=2).weight
    2.0
    """

    weight: float = 0.5
    """What a difference of two voxels is multiplied with."""

    def operation(self, context: FilterContext) -> Operation:
        """Return the differences and their combination."""
        mode, cval = self.boundary(context)
        stencil = Stencil.correlate([-self.weight, 0.0, self.weight])
        return Combine(
            "magnitude",
            tuple(
                Correlate(stencil.on_axes((axis,), context.ndim), (mode,) * context.ndim, cval)
                for axis in context.axes
            ),
        )

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return the usual weight and a whole one."""
        return ({}, {"weight": 1.0})

    def reference(self, image: npt.NDArray[Any], context: FilterContext) -> npt.NDArray[Any]:
        """Return the same by scipy's one-dimensional correlations."""
        mode, cval = self.boundary(context)
        weights = [-self.weight, 0.0, self.weight]
        slopes = [ndimage.correlate1d(image, weights, axis, mode=mode.value, cval=cval) for axis in context.axes]
        return np.sqrt(np.sum(np.square(slopes), axis=0))
'''

# Run beside the copy: the API and the YAML give what the plain NumPy expression gives.
USE = """
import inspect, pathlib, sys
import numpy as np
import convolume
from convolume.stores import memory
assert pathlib.Path(convolume.__file__).parent == pathlib.Path(sys.argv[1]), convolume.__file__
image = np.random.default_rng(5).normal(size=(9, 12, 10)).astype(np.float32)
slopes = np.gradient(np.pad(image.astype(float), 1, "edge"))
expected = np.sqrt(sum(slope[1:-1, 1:-1, 1:-1] ** 2 for slope in slopes))
memory.put("image", image)
text = '''
input: {path: memory:image}
block: [4, 5, 6]
mode: nearest
outputs:
  edges: {path: memory:edges, chunks: [4, 5, 6], steps: [{central_slope: {weight: 0.5}}]}
  plain: {path: memory:plain, chunks: [4, 5, 6], steps: [central_slope]}
'''
for strategy in ("windows", "overlap", "in_memory"):
    again = ["outputs.edges.if_exists=overwrite", "outputs.plain.if_exists=overwrite", f"strategy={strategy}"]
    record = convolume.run(text, overrides=again)
    assert record.strategy == strategy
    for name in ("edges", "plain"):
        np.testing.assert_allclose(memory.get(name), expected, rtol=1e-5, atol=1e-6)
volume = convolume.Volume.from_array(image, mode="nearest")
assert "central_slope" in dir(volume)
assert list(inspect.signature(volume.central_slope).parameters) == ["weight", "mode", "cval"]
filtered = volume.central_slope(weight=0.5)
np.testing.assert_array_equal(filtered.compute(), memory.get("edges"))
np.testing.assert_array_equal(filtered.dask.compute(), memory.get("edges"))
assert "central_slope" in volume.central_slope(2).workflow()
try:
    convolume.run(text.replace("central_slope:", "central_slop:"))
except convolume.InputError as error:
    assert "did you mean 'central_slope'?" in str(error), error
else:
    raise AssertionError("a misspelled filter was taken")
print("taken")
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the package and add one file to it."""
    package = tmp_path / "source" / "convolume"
    shutil.copytree(convolume.__path__[0], package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "filters" / "central_slope.py").write_text(FILTER.lstrip(), encoding="utf-8")
    return package


def run(package: Path, *arguments: str) -> str:
    """Run Python where the copy stands before the installed package; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "CONVOLUME_DEVICE": "any"}
    command = [sys.executable, *arguments]
    done = subprocess.run(  # noqa: S603 (our own interpreter and texts)
        command, capture_output=True, text=True, check=False, env=environment, cwd=package.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_yaml_and_volume_take_it(copy: Path) -> None:
    """By its file's name, in every strategy."""
    assert run(copy, "-c", USE, str(copy)).strip() == "taken"


def test_conformance_suite_takes_it(copy: Path) -> None:
    """Its examples run in every mode."""
    suite = Path(__file__).parent / "filters" / "test_conformance.py"
    arguments = ("-m", "pytest", str(suite), "-q", "-rA", "-k", "central_slope", "-p", "no:cacheprovider")
    printed = run(copy, *arguments, "-c", str(Path(__file__).parents[1] / "pyproject.toml"))
    tests = [line for line in printed.splitlines() if line.startswith("PASSED")]
    assert sum("test_equals_scipy" in line for line in tests) == 2 * 8
    assert {"test_is_a_member", "test_travels", "test_equals_the_plainest_evaluation"} <= {
        line.rpartition("::")[2].partition("[")[0] for line in tests
    }
