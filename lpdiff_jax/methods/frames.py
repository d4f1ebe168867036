"""How the frames of a plate become the one input of a network that takes one picture."""

import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import masked_mean

# 'stacked': the nearest frames side by side in channels. 'mean': their mean. 'nearest': the last.
FRAMES = ("stacked", "mean", "nearest")


def as_input(frames: jax.Array, mask: jax.Array | None, how: str, count: int) -> jax.Array:
    """One input per plate from its frames.

    Args:
      frames: [B, N, H, W, 3], in order, far to near.
      mask: bool [B, N], False where a frame is padding; None means that all frames are real.
      how: how the frames become one input, one of `FRAMES`.
      count: K, the frames that 'stacked' puts side by side: the K nearest ones. The mean of the
        real frames stands for each one that a plate lacks.

    Returns:
      [B, H, W, 3], or with 'stacked' [B, H, W, 3 K], the nearest frame last.
    """
    real = jnp.ones(frames.shape[:2], bool) if mask is None else mask
    mean = masked_mean(frames, real)
    if how == "mean":
        return mean
    places = range(count if how == "stacked" else 1)
    chosen = [_nearest(frames, real, mean, place) for place in places]
    return jnp.concatenate(chosen[::-1], axis=-1)


def _nearest(frames: jax.Array, real: jax.Array, mean: jax.Array, place: int) -> jax.Array:
    """[B, H, W, 3]: the real frame that `place` real ones follow, or the mean without one."""
    # As a product, which every format that models are exported to knows.
    there = real.astype(frames.dtype)
    following = there @ jnp.tri(real.shape[1], k=-1, dtype=frames.dtype)
    weights = (there * (following == place))[..., None, None, None]
    return (frames * weights).sum(1) + mean * (1 - weights.sum(1))
