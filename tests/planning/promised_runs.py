"""Draws a plan, runs it here, and prints what was promised beside what was measured; null where it is refused.

``python tests/planning/promised_runs.py SEED``
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import suppress
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


def drawn_run(seed: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a workflow on a new image, and where it runs."""
    generator = np.random.default_rng(seed)
    shape = tuple(int(n) for n in generator.integers(64, 224, 3))
    dtype, chunk = str(generator.choice(DTYPES)), int(generator.choice([32, 48, 64, 128]))
    path = folder / f"{seed}.zarr"
    image = zarr.create_array(path, shape=shape, chunks=tuple(min(chunk, n) for n in shape), dtype=dtype)
    if generator.random() < 0.5:
        # Noise does not compress: what is encoded is as large as what is decoded.
        image[...] = (generator.random(shape, np.float32) * 200).astype(dtype)
    else:
        image[...] = np.broadcast_to(np.arange(shape[-1]) % 100, shape).astype(dtype)
    outputs = {
        f"output{number}": {
            "path": str(folder / f"{seed}-{number}.ome.zarr"),
            "steps": drawn_steps(generator),
            "dtype": str(generator.choice(RESULTS)),
            "pyramid": bool(generator.random() < 0.5),
            "chunks": [int(generator.choice([32, 64, 128]))] * 3,
        }
        for number in range(generator.integers(1, 4))
    }
    free = int(resident_bytes() / MIB + generator.integers(220, 700))
    where = {
        "cluster": "in_process",
        "threads_per_worker": int(generator.integers(1, 4)),
        "memory": f"{free} MiB",
        "dashboard": False,
    }
    return {"input": {"path": str(path)}, "mode": "nearest", "outputs": outputs}, where


def main() -> None:
    """Run the plan of a seed, the first that this process runs."""
    seed = int(sys.argv[1])
    facts = None
    with tempfile.TemporaryDirectory() as folder:
        workflow, where = drawn_run(seed, Path(folder))
        with suppress(InputError):
            record = convolume.run(workflow, config=where)
            (peak,) = record.worker_peak_bytes.values()
            assert record.forecast is not None
            facts = {"promised": record.forecast.peak_host_bytes, "measured": peak}
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
