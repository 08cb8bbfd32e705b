"""Types in the signatures of scipy's filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np
    import numpy.typing as npt

    Image = npt.ArrayLike | da.Array
    Output = npt.NDArray[Any] | npt.DTypeLike | None
    Number = float | np.number[Any]
