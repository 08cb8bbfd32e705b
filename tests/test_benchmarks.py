"""The benchmarks run, on small cubes: they cannot rot. What they measure here says nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if "import Bench" in path.read_text(encoding="utf-8"))
WIDEST = 120
# Some 60 programs are compiled for each filter: one is enough here.
ONLY = {"gpu_shapes": ["--only", "laplace"]}


def test_there_are_scripts() -> None:
    """The other test cannot pass for want of them."""
    assert {"against_scipy", "against_peers", "cost_against_size", "odd_shapes"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_benchmark_runs(script: str, tmp_path: Path) -> None:
    """It prints its tables in 120 columns, and writes the same figures to a file."""
    figures = tmp_path / "figures.json"
    options = ["--extent", "24", "--repeats", "1", "--json", str(figures), *ONLY.get(script, [])]
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *options]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout  # noqa: S603 (our own scripts)
    assert max(map(len, printed.splitlines())) <= WIDEST
    tables = [table for table in json.loads(figures.read_text(encoding="utf-8")).values() if isinstance(table, list)]
    rows = [row for table in tables for row in table]
    assert len(rows) > 0
    assert all(math.isfinite(figure) for row in rows for figure in row.values() if isinstance(figure, float))
    assert [name for row in rows if (name := next(iter(row.values()))) not in printed] == []
