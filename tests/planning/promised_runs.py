"""Draws a plan, runs it here, and prints what was promised beside what was measured.

``python tests/planning/promised_runs.py SEED [MIB]`` gives it so many MiB more than this process holds, or as many as
are drawn. Where it is refused, those that the refusal asks for are printed.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import convolume
from convolume.errors import InputError
from convolume.execution.footprint import resident_bytes

MIB = 2**20
DTYPES = ("uint8", "uint16", "int16", "float32", "float64")
RESULTS = ("uint8", "uint16", "float32", "float64")


def drawn_steps(generator: np.random.Generator) -> list[dict[str, Any]]:
    """Return a chain of one to three filters, dense kernels among them."""
    extent = int(generator.choice([3, 5, 7]))
    dense = {"convolve": {"kernel": generator.random((extent,) * 3).tolist()}}
    transformed = {"convolve": {"kernel": generator.random((9, 9, 9)).tolist(), "method": "fft"}}
    sigma = float(generator.uniform(0.6, 2.5))
    filters = (
        dense,
        transformed,
        {"gaussian": {"sigma": sigma}},
        {"laplace": {}},
        {"box": {"size": int(generator.integers(2, 9))}},
        {"sobel": {"axis": int(generator.integers(3))}},
        {"gradient_magnitude": {"sigma": sigma}},
        {"unsharp_mask": {"sigma": sigma}},
    )
    return [filters[i] for i in generator.integers(len(filters), size=generator.integers(1, 4))]


def drawn_run(generator: np.random.Generator, folder: Path) -> tuple[dict[str, Any], int, int]:
    """Return a workflow on a new image, the number of threads, and MiB."""
    shape = tuple(int(n) for n in generator.integers(64, 224, 3))
    dtype, chunk = str(generator.choice(DTYPES)), int(generator.choice([32, 48, 64, 128]))
    path = folder / "in.zarr"
    image = zarr.create_array(path, shape=shape, chunks=tuple(min(chunk, n) for n in shape), dtype=dtype)
    if generator.random() < 0.5:
        # Noise does not compress: what is encoded is as large as what is decoded.
        image[...] = (generator.random(shape, np.float32) * 200).astype(dtype)
    else:
        image[...] = np.broadcast_to(np.arange(shape[-1]) % 100, shape).astype(dtype)
    outputs = {
        f"output{number}": {
            "path": str(folder / f"{number}.ome.zarr"),
            "steps": drawn_steps(generator),
            "dtype": str(generator.choice(RESULTS)),
            "pyramid": bool(generator.random() < 0.5),
            "chunks": [int(generator.choice([32, 64, 128]))] * 3,
        }
        for number in range(generator.integers(1, 4))
    }
    workflow = {"input": {"path": str(path)}, "mode": "nearest", "outputs": outputs}
    return workflow, int(generator.integers(1, 4)), int(generator.integers(220, 700))


def facts_of(workflow: dict[str, Any], threads: int, free_mib: int) -> dict[str, int]:
    """Return what was promised and measured, or what was asked for."""
    held_mib = int(resident_bytes() / MIB)
    where = {"cluster": "in_process", "threads_per_worker": threads, "memory": f"{held_mib + free_mib} MiB"}
    try:
        record = convolume.run(workflow, config=where)
    except InputError as error:
        asked = re.search(r"`memory: ([\d,]+) MiB`", str(error))
        if asked is None:
            raise
        return {"asked_mib": int(asked[1].replace(",", "")) - held_mib}
    (peak,) = record.worker_peak_bytes.values()
    assert record.forecast is not None
    return {"promised": record.forecast.peak_host_bytes, "measured": peak}


def main() -> None:
    """Run the plan of a seed."""
    seed, *given_mib = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        workflow, threads, drawn_mib = drawn_run(np.random.default_rng(seed), Path(folder))
        facts = facts_of(workflow, threads, *(given_mib or [drawn_mib]))
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
