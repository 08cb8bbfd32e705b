"""Convolume: filter images that are larger than memory."""
