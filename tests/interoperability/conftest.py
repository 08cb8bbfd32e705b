"""Other programs are imported here first, where what they warn of does not count."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import napari_builtins.io
    import napari_ome_zarr
    import ngff_zarr
    import ome_zarr.reader
    import ome_zarr.writer

__all__ = ["napari_builtins", "napari_ome_zarr", "ngff_zarr", "ome_zarr"]
