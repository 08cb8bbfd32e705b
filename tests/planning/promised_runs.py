"""Draws plans, and runs one; prints what was promised beside what was measured, null where it is refused.

``promised_runs.py plans COUNT`` prints seeds for ``promised_runs.py run SEED``.
"""

from __future__ import annotations

import itertools
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


def drawn_run(generator: np.random.Generator, folder: Path) -> tuple[dict[str, Any], dict[str, Any], zarr.Array[Any]]:
    """Return a workflow, where it runs, and the image that it reads, which is empty."""
    shape = tuple(int(n) for n in generator.integers(64, 224, 3))
    dtype, chunk = str(generator.choice(DTYPES)), int(generator.choice([32, 48, 64, 128]))
    path = folder / "in.zarr"
    chunks = tuple(min(chunk, n) for n in shape)
    image = zarr.create_array(path, shape=shape, chunks=chunks, dtype=dtype, overwrite=True)
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
    free = int(resident_bytes() / MIB + generator.integers(220, 700))
    where = {
        "cluster": "in_process",
        "threads_per_worker": int(generator.integers(1, 4)),
        "memory": f"{free} MiB",
        "dashboard": False,
    }
    return {"input": {"path": str(path), "missing": "fill"}, "mode": "nearest", "outputs": outputs}, where, image


def fill(image: zarr.Array[Any], generator: np.random.Generator) -> None:
    """Write its voxels."""
    if generator.random() < 0.5:
        # Noise does not compress: what is encoded is as large as what is decoded.
        image[...] = (generator.random(image.shape, np.float32) * 200).astype(image.dtype)
    else:
        image[...] = np.broadcast_to(np.arange(image.shape[-1]) % 100, image.shape).astype(image.dtype)


def plans(count: int) -> list[int]:
    """Return the first seeds whose plans are not refused; their images need no voxels for that."""
    found: list[int] = []
    for seed in itertools.count():
        with tempfile.TemporaryDirectory() as folder, suppress(InputError):
            workflow, where, _ = drawn_run(np.random.default_rng(seed), Path(folder))
            convolume.plan(workflow, config=where)
            found.append(seed)
        if len(found) == count:
            break
    return found


def run(seed: int) -> dict[str, int] | None:
    """Return what the plan of a seed promises and what was measured; None where it is refused after all."""
    generator = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        workflow, where, image = drawn_run(generator, Path(folder))
        fill(image, generator)
        with suppress(InputError):
            record = convolume.run(workflow, config=where)
            (peak,) = record.worker_peak_bytes.values()
            assert record.forecast is not None
            return {"promised": record.forecast.peak_host_bytes, "measured": peak}
    return None


if __name__ == "__main__":
    ask = {"plans": plans, "run": run}[sys.argv[1]]
    sys.stdout.write(json.dumps(ask(int(sys.argv[2]))) + "\n")
