"""Weights of a sampled Gaussian and of its derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["gaussian_radius", "gaussian_weights"]


def gaussian_radius(sigma_voxels: float, truncate: float) -> int:
    """Return the radius in voxels at which a Gaussian is cut: `truncate` times sigma, rounded."""
    return int(truncate * sigma_voxels + 0.5)


def gaussian_weights(sigma_voxels: float, radius: int, order: int = 0) -> npt.NDArray[np.float64]:
    r"""Return the weights of a correlation with a Gaussian, or with its derivative of this order.

    Parameters
    ----------
    sigma_voxels : float
        Standard deviation in voxels, above 0.
    radius : int
        There are ``2 * radius + 1`` weights.
    order : int
        Order of the derivative.

    Notes
    -----
    .. math:: g(x) = e^{-x^2 / 2\sigma^2} / \sum_i e^{-i^2 / 2\sigma^2}, \quad g^{(n)} = q_n g,
              \quad q_0 = 1, \quad q_{n+1} = q_n' - x q_n / \sigma^2

    The recurrence is the product rule: ``g' = -(x / variance) g``; its polynomials are the Hermite polynomials
    (Abramowitz & Stegun, *Handbook of Mathematical Functions*, 22.11). The sampled derivative is that of the
    normalised Gaussian, as in ``scipy.ndimage.gaussian_filter1d``. A correlation weighs the voxel at +x with the
    derivative at -x.

    Examples
    --------
    >>> gaussian_weights(1.0, 1).round(4).tolist()
    [0.2741, 0.4519, 0.2741]
    >>> gaussian_weights(1.0, 1, order=1).round(4).tolist()
    [-0.2741, 0.0, 0.2741]
    """
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    variance = sigma_voxels * sigma_voxels
    gaussian = np.exp(-0.5 / variance * x**2)
    gaussian /= gaussian.sum()
    if order:
        # As products of matrices, so that every bit is scipy's: they decide where whole numbers are cut off.
        powers = np.arange(1.0, order + 1)
        derive = np.diag(powers, 1) + np.diag(np.ones(order) / -variance, -1)
        coefficients = np.eye(1, order + 1)[0]
        for _ in range(order):
            coefficients = derive.dot(coefficients)
        gaussian = np.vander(x, order + 1, increasing=True).dot(coefficients) * gaussian
    # Adding zero turns -0.0 into 0.0.
    weights: npt.NDArray[np.float64] = gaussian[::-1] + 0.0
    return weights
