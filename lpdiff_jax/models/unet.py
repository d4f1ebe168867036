"""The denoiser of the residual condition diffusion (RCDM): a U-Net told the noise level."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.errors import check_choice
from lpdiff_jax.models.layers import (
    Dtype,
    GroupNorm,
    ResidualBlock,
    attend,
    conv,
    depth_to_space,
    space_to_depth,
    upsample_nearest,
)

# The published program's choices (92.0 M parameters).
RELEASED: dict[str, Any] = dict(
    features=64,
    multipliers=(1, 2, 4, 8, 8),
    blocks=2,
    norm_groups=32,
    nominal_resolution=128,
    attention_resolutions=(16,),
    dropout=0.1,
    embedding="level",
    patch=1,
)


class UNet(nn.Module):
    """Predicts noise, velocity or residual (the objective decides) from a noisy residual.

    Attributes:
      features: channels of the first level; level i has `features * multipliers[i]`.
      blocks: the residual blocks per level on the way down; on the way up there is one more.
      nominal_resolution: the name of the first level in `attention_resolutions`; each level halves
        it, whatever the true size of the image is.
      attends_in_the_middle: whether the block between going down and going up attends too, where
        its level does; the published one does not.
      embedding: 'log_snr' spreads the noise level over all of the embedding's frequencies; 'level'
        is the published one, of sqrt(alphas_cumprod) unscaled, where few channels move.
      patch: side of the pixel-unshuffled stem (1: full resolution, as published).
      remat: recompute each block's activations in the backward pass, to save memory.
    """

    features: int = 64
    multipliers: tuple[int, ...] = (1, 2, 3)
    blocks: int = 2
    norm_groups: int = 16
    nominal_resolution: int = 128
    attention_resolutions: tuple[int, ...] = (32,)
    attends_in_the_middle: bool = False
    dropout: float = 0.0
    embedding: str = "log_snr"
    patch: int = 2
    out_channels: int = 3
    remat: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        condition: jax.Array | None,
        x_t: jax.Array,
        noise_level: jax.Array | None,
        train: bool = False,
        stem: jax.Array | None = None,
    ) -> jax.Array:
        """Runs the denoiser.

        Args:
          condition: [B, H, W, C], what the diffusion is conditioned on (psi).
          x_t: [B, H, W, 3], the noisy residual.
          noise_level: [B], sqrt(alphas_cumprod) in [0, 1].
          train: whether dropout is active.
          stem: the condition's part of the stem's output, if `models.hoisting` has computed it;
            then there is no condition, and the noise level is in the biases.

        Returns:
          [B, H, W, out_channels], float32.

        Raises:
          ValueError: a height or width that the levels cannot halve.
        """
        self._check(x_t)
        x = x_t if condition is None else jnp.concatenate([condition, x_t], axis=-1)
        x = space_to_depth(x.astype(self.dtype), self.patch)
        embedding = None
        if noise_level is not None:
            embedding = NoiseEmbedding(self.features, self.embedding, self.dtype, name="embed")(
                noise_level
            )
        block_class = nn.remat(Block, static_argnums=(3,)) if self.remat else Block

        def block(width: int, level: int, name: str, attends: bool = True) -> Block:
            listed = self.nominal_resolution // 2**level in self.attention_resolutions
            return block_class(
                width, self.norm_groups, self.dropout, attends and listed, self.dtype, name=name
            )

        levels = len(self.multipliers)
        widths = [self.features * multiplier for multiplier in self.multipliers]
        x = conv(self.features, dtype=self.dtype, use_bias=stem is None, name="stem")(x)
        if stem is not None:
            x = x + stem
        skips = [x]
        for level, width in enumerate(widths):
            for i in range(self.blocks):
                x = block(width, level, f"down_{level}_{i}")(x, embedding, train)
                skips.append(x)
            if level < levels - 1:
                x = conv(width, stride=2, dtype=self.dtype, name=f"shrink_{level}")(x)
                skips.append(x)
        x = block(widths[-1], levels - 1, "mid", self.attends_in_the_middle)(x, embedding, train)
        for level in reversed(range(levels)):
            for i in range(self.blocks + 1):
                x = block(widths[level], level, f"up_{level}_{i}")(x, embedding, train, skips.pop())
            if level > 0:
                x = conv(widths[level], dtype=self.dtype, name=f"grow_{level}")(upsample_nearest(x))
        x = nn.swish(GroupNorm(self.norm_groups, self.dtype, name="head_norm")(x))
        x = conv(self.out_channels * self.patch**2, dtype=self.dtype, zero=True, name="head")(x)
        return depth_to_space(x, self.patch).astype(jnp.float32)

    def _check(self, x: jax.Array) -> None:
        factor = self.patch * 2 ** (len(self.multipliers) - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(
                f"height and width must be multiples of {factor}, not {x.shape[1]} x {x.shape[2]}"
            )


class Block(nn.Module):
    """A residual block, followed by self attention where the level has it."""

    features: int
    norm_groups: int
    dropout: float
    attend: bool
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        embedding: jax.Array | None,
        train: bool,
        skip: jax.Array | None = None,
    ) -> jax.Array:
        """Maps x [B, H, W, C], told embedding [B, E] if any, to [B, H, W, features].

        A skip [B, H, W, S] is taken beside x.
        """
        x = ResidualBlock(
            self.features, self.norm_groups, self.dropout, dtype=self.dtype, name="residual"
        )(x, embedding, train, skip)
        if self.attend:
            x = SelfAttention(self.norm_groups, self.dtype, name="attention")(x)
        return x


class SelfAttention(nn.Module):
    """One head of self attention over positions, on a residual path."""

    norm_groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        batch, *_, channels = x.shape
        h = GroupNorm(self.norm_groups, self.dtype, name="norm")(x).reshape(batch, -1, channels)
        qkv = nn.Dense(3 * channels, use_bias=False, dtype=self.dtype, name="qkv")(h)
        q, k, v = (part[:, :, None, :] for part in jnp.split(qkv, 3, axis=-1))
        h = attend(q, k, v, dtype=self.dtype)
        h = nn.Dense(channels, dtype=self.dtype, name="out")(h[:, :, 0])
        return x + h.reshape(x.shape)


class NoiseEmbedding(nn.Module):
    """Sinusoids of the noise level through a two-layer perceptron."""

    features: int
    kind: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, noise_level: jax.Array) -> jax.Array:
        """Maps noise_level [B] in [0, 1] to [B, features]."""
        check_choice("embedding", self.kind, ("level", "log_snr"))
        position = noise_level.astype(jnp.float32)
        if self.kind == "log_snr":
            position = scaled_log_snr(position)
        half = self.features // 2
        frequencies = jnp.exp(-math.log(1e4) * jnp.arange(half) / half)
        angles = position[:, None] * frequencies
        x = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        x = nn.Dense(4 * self.features, dtype=self.dtype, name="fc1")(x)
        return nn.Dense(self.features, dtype=self.dtype, name="fc2")(nn.swish(x))


def scaled_log_snr(noise_level: jax.Array, bound: float = 15.0) -> jax.Array:
    """log(l^2 / (1 - l^2)) of a level l in [0, 1], clipped to +-bound, mapped onto [0, 1000]."""
    squared = jnp.square(noise_level)
    log_snr = jnp.log(jnp.maximum(squared, 1e-12)) - jnp.log(jnp.maximum(1 - squared, 1e-12))
    return (jnp.clip(log_snr, -bound, bound) + bound) * (1000 / (2 * bound))
