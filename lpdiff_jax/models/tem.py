"""TEM, the texture enhancement of the condition network (paper section 3)."""

import jax
import jax.numpy as jnp

from lpdiff_jax.errors import check_choice


def texture_enhancement(x: jax.Array, curvature: str = "corrected") -> jax.Array:
    """TEM: weighs each channel by its gradient and isophote curvature (paper section 3.1).

    Args:
      x: [..., H, W, C].
      curvature: 'corrected', or 'published', where Kxy has the wrong sign and the curvature of a
        45-degree stroke vanishes.

    Returns:
      `x * (softmax_over_channels(G + C) + 1)`, of x's shape and dtype.
    """
    check_choice("curvature", curvature, ("corrected", "published"))
    dtype, x = x.dtype, x.astype(jnp.float32)
    row, column = x.ndim - 3, x.ndim - 2
    smooth, slope, bend = (1.0, 2.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0)
    gx = _correlate(_correlate(x, smooth, row), slope, column)
    gy = _correlate(_correlate(x, slope, row), smooth, column)
    ixx = _correlate(_correlate(x, smooth, row), bend, column)
    iyy = _correlate(_correlate(x, bend, row), smooth, column)
    ixy = _correlate(_correlate(x, slope, row), slope, column)
    if curvature == "published":
        ixy = -ixy
    squared = gx**2 + gy**2 + 1e-6
    bending = (gx**2 * iyy - 2 * gx * gy * ixy + gy**2 * ixx) / squared**1.5
    weights = jax.nn.softmax(jnp.sqrt(squared) + bending, axis=-1)
    return (x * (weights + 1)).astype(dtype)


def _correlate(x: jax.Array, taps: tuple[float, float, float], axis: int) -> jax.Array:
    """Cross-correlates x with three taps along one axis, zero padded to the same length."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (1, 1)
    padded = jnp.pad(x, padding)
    length = x.shape[axis]
    terms = [
        tap * jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
        for i, tap in enumerate(taps)
        if tap
    ]
    return sum(terms[1:], start=terms[0])
