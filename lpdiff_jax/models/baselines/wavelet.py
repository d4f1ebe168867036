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
    odd_rows, odd_columns = x.shape[1] % 2, x.shape[2] % 2
    x = jnp.pad(x, ((0, 0), (0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
    a, b = x[:, ::2, ::2], x[:, ::2, 1::2]
    c, d = x[:, 1::2, ::2], x[:, 1::2, 1::2]
    bands = jnp.stack([a + b - c - d, a - b + c - d, a - b - c + d])
    return (a + b + c + d) / 2, bands / 2


def haar_bands(x: jax.Array, levels: int) -> list[jax.Array]:
    """The bands [3, B, H / 2^k, W / 2^k, C] of x [B, H, W, C] at levels k = 1, 2, ..."""
    result = []
    for _ in range(levels):
        x, bands = haar(x)
        result.append(bands)
    return result
