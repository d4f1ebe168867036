"""RRDBNet, the generator of Real-ESRGAN: dense blocks within residual blocks.

Wang et al., "ESRGAN" (ECCV workshops 2018) and "Real-ESRGAN" (ICCV workshops 2021).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.baselines.blocks import TORCH_INIT, leaky_relu, pixel_unshuffle
from lpdiff_jax.models.layers import Dtype, conv, upsample_nearest

_RESIDUAL_SHARE = 0.2
# Kaiming's normal for ReLU times 0.1, which keeps dense blocks small at the start.
_DENSE_INIT = nn.initializers.variance_scaling(2 * 0.1**2, "fan_in", "normal")

_conv = functools.partial(conv, init=TORCH_INIT)


class RRDBNet(nn.Module):
    """Residual dense blocks on a coarse grid, then two enlargements by 2.

    Attributes:
      features: channels of the trunk.
      blocks: residual-in-residual dense blocks.
      growth: channels that each convolution of a dense block adds.
      scale: 4, 2 or 1. The body always works at a quarter of the output's size: for less than 4 the
        input is unshuffled first.
    """

    features: int = 64
    blocks: int = 23
    growth: int = 32
    scale: int = 1
    out_channels: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to [B, H scale, W scale, out_channels], not clipped.

        Raises:
          ValueError: another scale, or a size that cannot be unshuffled.
        """
        del train
        if self.scale not in (1, 2, 4):
            raise ValueError(f"scale is {self.scale}; allowed: 1, 2, 4")
        layer = functools.partial(_conv, self.features, dtype=self.dtype)
        x = pixel_unshuffle(x.astype(self.dtype), 4 // self.scale)
        x = layer(name="conv_first")(x)
        h = x
        for i in range(self.blocks):
            h = ResidualDenseBlocks(self.growth, self.dtype, name=f"body_{i}")(h)
        x = x + layer(name="conv_body")(h)
        x = leaky_relu(layer(name="conv_up1")(upsample_nearest(x)))
        x = leaky_relu(layer(name="conv_up2")(upsample_nearest(x)))
        x = leaky_relu(layer(name="conv_hr")(x))
        x = _conv(self.out_channels, dtype=self.dtype, name="conv_last")(x)
        return x.astype(jnp.float32)


class ResidualDenseBlocks(nn.Module):
    """Three dense blocks on a residual path (RRDB)."""

    growth: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        h = x
        for i in range(1, 4):
            h = DenseBlock(self.growth, self.dtype, name=f"dense_{i}")(h)
        return x + _RESIDUAL_SHARE * h


class DenseBlock(nn.Module):
    """Five convolutions, each on all that came before, on a residual path (RDB)."""

    growth: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        layer = functools.partial(conv, dtype=self.dtype, init=_DENSE_INIT)
        known = [x]
        for i in range(1, 5):
            h = layer(self.growth, name=f"conv{i}")(jnp.concatenate(known, axis=-1))
            known.append(leaky_relu(h))
        h = layer(x.shape[-1], name="conv5")(jnp.concatenate(known, axis=-1))
        return x + _RESIDUAL_SHARE * h
