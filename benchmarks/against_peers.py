"""The same filters by other packages on the same processors, in one run; those that are not installed are left out.

    python benchmarks/against_peers.py [--device NAME] [--extent 256] [--repeats 7] [--only NAME] [--json FILE]

"x" is how many times longer a call takes than a whole call of `convolume.ndimage` on the NumPy array that makes its
output. dask-image filters chunks of half the extent (128^3 at most), in threads, from and to NumPy; "map_overlap" is
dask.array.map_overlap around scipy.ndimage, as many scripts have it; "convolume on dask" filters the same dask array.
pyclesperanto runs on the same OpenCL device: OCL_ICD_VENDORS must name a folder whose .icd file holds the path of
the PoCL wheel's libpocl, for its loader does not look into other packages. torch is conv3d, without the faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import scipy.ndimage
from side_by_side import Bench

import convolume

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

MOST_CHUNK = 128
SIGMA, TRUNCATE = 2, 4.0
PEERS = ("scipy", "dask-image", "map_overlap", "pyclesperanto", "torch")


@dataclass(frozen=True)
class Case:
    """A dense kernel, or a Gaussian where there are no weights."""

    name: str
    weights: npt.NDArray[np.float32] | None = None

    @property
    def radius(self) -> int:
        """Voxels that are read on each side."""
        return int(TRUNCATE * SIGMA) if self.weights is None else self.weights.shape[0] // 2

    def by_scipy(self, module: Any, image: Any) -> Any:
        """Filter with a module whose functions are scipy's."""
        if self.weights is None:
            return module.gaussian_filter(image, SIGMA)
        return module.convolve(image, self.weights)


def _kernel(extent: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(extent,) * 3).astype(np.float32)


CASES = (Case("convolve 3x3x3", _kernel(3)), Case("convolve 7x7x7", _kernel(7)), Case("gaussian sigma 2"))


def main() -> None:
    """Measure every filter by all packages that there are."""
    bench = Bench(__doc__)
    for case in CASES:
        if bench.is_wanted(case.name):
            _compare(bench, case)
    absent = [name for name in PEERS if not _is_installed(name)]
    print(f"\nnot installed: {', '.join(absent) or 'none'}")
    bench.close()


def _compare(bench: Bench, case: Case) -> None:
    image = bench.volume()
    ours, ours_on_dask = bench.time(
        partial(case.by_scipy, convolume.ndimage, image), partial(_chunked, case, convolume.ndimage, image)
    )
    table = bench.table(case.name, "ms", "x")
    table.add("convolume", 1e3 * ours.seconds, 1.0)
    table.add("convolume on dask", 1e3 * ours_on_dask.seconds, ours_on_dask.seconds / ours.seconds)
    for name in filter(_is_installed, PEERS):
        call = CALLS[name](case, image)
        if call is None:
            continue
        seconds, _ = bench.time_peer(call)
        table.add(name, 1e3 * seconds, seconds / ours.seconds)


def _is_installed(peer: str) -> bool:
    return find_spec({"dask-image": "dask_image", "map_overlap": "dask"}.get(peer, peer)) is not None


def _dask_array(image: npt.NDArray[np.float32]) -> da.Array:
    chunked: da.Array = da.from_array(image, chunks=min(MOST_CHUNK, -(-image.shape[0] // 2)), name=False)
    return chunked


def _chunked(case: Case, module: Any, image: npt.NDArray[np.float32]) -> Any:
    return case.by_scipy(module, _dask_array(image)).compute(scheduler="threads")


def _by_scipy(case: Case, image: npt.NDArray[np.float32]) -> Callable[[], Any]:
    return partial(case.by_scipy, scipy.ndimage, image)


def _by_dask_image(case: Case, image: npt.NDArray[np.float32]) -> Callable[[], Any]:
    return partial(_chunked, case, import_module("dask_image.ndfilters"), image)


def _by_map_overlap(case: Case, image: npt.NDArray[np.float32]) -> Callable[[], Any]:
    def call() -> Any:
        block = partial(case.by_scipy, scipy.ndimage)
        overlapped = _dask_array(image).map_overlap(block, depth=case.radius, boundary="reflect", dtype=np.float32)
        return overlapped.compute(scheduler="threads")

    return call


def _by_pyclesperanto(case: Case, image: npt.NDArray[np.float32]) -> Callable[[], Any] | None:
    cle = import_module("pyclesperanto")
    if not cle.list_available_devices():
        return None

    def call() -> Any:
        pushed = cle.push(image)
        if case.weights is None:
            return cle.pull(cle.gaussian_blur(pushed, sigma_x=SIGMA, sigma_y=SIGMA, sigma_z=SIGMA))
        return cle.pull(cle.convolve(pushed, cle.push(case.weights)))

    return call


def _by_torch(case: Case, image: npt.NDArray[np.float32]) -> Callable[[], Any] | None:
    if case.weights is None:
        return None
    torch = import_module("torch")
    kernel = torch.from_numpy(case.weights[::-1, ::-1, ::-1].copy())[None, None]
    return lambda: torch.nn.functional.conv3d(torch.from_numpy(image)[None, None], kernel).numpy()


CALLS: dict[str, Callable[[Case, npt.NDArray[np.float32]], Callable[[], Any] | None]] = {
    "scipy": _by_scipy,
    "dask-image": _by_dask_image,
    "map_overlap": _by_map_overlap,
    "pyclesperanto": _by_pyclesperanto,
    "torch": _by_torch,
}


if __name__ == "__main__":
    main()
