"""What is watched while any method trains."""

import jax
import jax.numpy as jnp
from clu.metrics import Average


def psnr(images: jax.Array, target: jax.Array) -> jax.Array:
    """PSNR [B] in dB of images in [-1, 1], not rounded to 8 bits: for watching, not reporting."""
    squared = jnp.square(jnp.clip(images, -1, 1) - target).mean((1, 2, 3))
    return 10 * jnp.log10(4 / jnp.maximum(squared, 1e-8))


def by_noise_level(losses: jax.Array, level: jax.Array, bins: int = 4) -> dict[str, Average]:
    """The losses of the samples in each quarter of the noise level.

    Args:
      losses: the losses of the samples, [B].
      level: their noise levels in [0, 1], [B].
      bins: the number of quarters.

    Returns:
      `loss_level_<quarter>`: totals and counts [B], whose quotient is the quarter's mean.
    """
    quarter = jnp.minimum((level * bins).astype(jnp.int32), bins - 1)
    member = [(quarter == i).astype(losses.dtype) for i in range(bins)]
    return {f"loss_level_{i}": Average(total=losses * m, count=m) for i, m in enumerate(member)}
