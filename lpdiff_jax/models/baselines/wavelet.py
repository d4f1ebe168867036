"""The Haar wavelet transform of images, by which ResDiff looks at fine detail."""

import jax
import jax.numpy as jnp


def haar(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One level of the orthonormal Haar transform.

    Args:
      x: [B, H, W, C]; where H or W is odd, its last row or column is repeated.

    Returns:
      (low [B, h, w, C], bands [3, B, h, w, C]): rows, columns and diagonals, in this order, say how
      each 2 x 2 block varies from row to row, from column to column, and across.
    """
    if x.shape[1] % 2:
        x = _repeat_last(x, 1)
    if x.shape[2] % 2:
        x = _repeat_last(x, 2)
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    (a, b), (c, d) = (
        [
            part.reshape(batch, height // 2, width // 2, channels)
            for part in jnp.split(rows, 2, axis=4)
        ]
        for rows in jnp.split(x, 2, axis=2)
    )
    bands = jnp.stack([a + b - c - d, a - b + c - d, a - b - c + d])
    return (a + b + c + d) / 2, bands / 2


def haar_bands(x: jax.Array, levels: int) -> list[jax.Array]:
    """The bands [3, B, H / 2^k, W / 2^k, C] of x [B, H, W, C] at levels k = 1, 2, ..."""
    result = []
    for _ in range(levels):
        x, bands = haar(x)
        result.append(bands)
    return result


def _repeat_last(x: jax.Array, axis: int) -> jax.Array:
    last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, x.shape[axis], axis=axis)
    return jnp.concatenate([x, last], axis=axis)
