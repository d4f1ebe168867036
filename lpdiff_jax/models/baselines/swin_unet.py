"""The network of ResShift: a U-Net with Swin transformer layers that predicts the plate.

Yue et al., "ResShift: Efficient Diffusion Model for Image Super-resolution by Residual Shifting"
(NeurIPS 2023; journal version 2024).
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.baselines.blocks import TORCH_INIT, gelu
from lpdiff_jax.models.baselines.windows import WindowAttention, window_attention
from lpdiff_jax.models.layers import Dtype, GroupNorm, conv, upsample_nearest

_conv = functools.partial(conv, init=TORCH_INIT)


class SwinUNet(nn.Module):
    """Predicts x_0 from x_t, told the low-resolution picture and the time.

    Attributes:
      features: channels of the first level; level i has `features * multipliers[i]`.
      blocks: the residual blocks per level on the way down; on the way up there is one more.
      attention_levels: levels whose first block is followed by a Swin layer, 0 is the finest; the
        middle always has one.
      nominal_size: side of the first level as the windows reckon with it, halved each level,
        whatever the image's true size is: a level as small as the window is one unshifted window.
      swin_features: channels within a Swin layer.
      swin_depth: blocks of a Swin layer; every second is shifted.
      head_features: channels of one head.
      condition_halvings: how often the low-resolution picture is halved until it has x_t's size.
      mask: 'regions' keeps pixels of opposite borders apart in shifted windows; 'released' is the
        mask that the published weights were trained with, see `windows.shift_mask`.
    """

    features: int = 160
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    blocks: int = 2
    norm_groups: int = 32
    attention_levels: tuple[int, ...] = (0, 1, 2, 3)
    nominal_size: int = 64
    window: int = 8
    swin_features: int = 192
    swin_depth: int = 2
    head_features: int = 32
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    condition_halvings: int = 0
    mask: str = "regions"
    out_channels: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, condition: jax.Array, x_t: jax.Array, time: jax.Array, train: bool = False
    ) -> jax.Array:
        """Runs the network.

        Args:
          condition: [B, h, w, C], the low-resolution picture(s) in [-1, 1]; of x_t's size, or
            larger by 2 to the power of `condition_halvings`.
          x_t: [B, H, W, C'], scaled to about unit variance.
          time: [B], the step's number as it was trained, 0 is the least noisy.
          train: whether dropout is active.

        Returns:
          [B, H, W, out_channels], float32.

        Raises:
          ValueError: a size that the levels or the windows do not divide.
        """
        embedding = TimeEmbedding(self.features, self.dtype, name="embed")(time)
        for i in range(self.condition_halvings):
            width = 16 * 2**i
            condition = nn.swish(self._conv(width, name=f"condition_{i}")(condition))
            shrink = self._conv(2 * width, stride=2, name=f"condition_shrink_{i}")
            condition = shrink(condition)
        x = jnp.concatenate([x_t, condition], axis=-1)
        widths = [self.features * multiplier for multiplier in self.multipliers]
        levels = len(widths)

        def block(level: int, name: str) -> ScaledBlock:
            return ScaledBlock(widths[level], self.norm_groups, self.dropout, self.dtype, name=name)

        def swin(level: int, name: str) -> SwinLayer:
            nominal = self.nominal_size // 2**level
            return SwinLayer(
                self.swin_features, self.swin_depth, self.swin_features // self.head_features,
                min(self.window, nominal), nominal > self.window, self.mlp_ratio,
                self.norm_groups, self.mask, self.dtype, name=name,
            )  # fmt: skip

        x = self._conv(self.features, name="stem")(x)
        skips = [x]
        for level in range(levels):
            for i in range(self.blocks):
                x = block(level, f"down_{level}_{i}")(x, embedding, train)
                if i == 0 and level in self.attention_levels:
                    x = swin(level, f"down_{level}_swin")(x)
                skips.append(x)
            if level < levels - 1:
                x = self._conv(widths[level], stride=2, name=f"shrink_{level}")(x)
                skips.append(x)
        x = block(levels - 1, "mid_0")(x, embedding, train)
        x = swin(levels - 1, "mid_swin")(x)
        x = block(levels - 1, "mid_1")(x, embedding, train)
        for level in reversed(range(levels)):
            for i in range(self.blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = block(level, f"up_{level}_{i}")(x, embedding, train)
                if i == 0 and level in self.attention_levels:
                    x = swin(level, f"up_{level}_swin")(x)
            if level > 0:
                x = self._conv(widths[level], name=f"grow_{level}")(upsample_nearest(x))
        x = nn.swish(GroupNorm(self.norm_groups, self.dtype, name="head_norm")(x))
        return self._conv(self.out_channels, name="head")(x).astype(jnp.float32)

    def _conv(self, features: int, stride: int = 1, name: str | None = None) -> nn.Conv:
        return _conv(features, stride=stride, dtype=self.dtype, name=name)


class TimeEmbedding(nn.Module):
    """Sinusoids of the step's number through a two-layer perceptron."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, time: jax.Array) -> jax.Array:
        """Maps time [B] to [B, 4 features]."""
        x = sinusoids(time, self.features)
        x = nn.Dense(4 * self.features, dtype=self.dtype, name="fc1")(x)
        return nn.Dense(4 * self.features, dtype=self.dtype, name="fc2")(nn.swish(x))


def sinusoids(time: jax.Array, features: int) -> jax.Array:
    """Cosines, then sines, of time [B]: [B, features]."""
    half = features // 2
    frequencies = jnp.exp(-math.log(1e4) * jnp.arange(half) / half)
    angles = time.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class ScaledBlock(nn.Module):
    """norm, swish, conv3x3 twice on a residual path; the time scales and shifts the second norm."""

    features: int
    norm_groups: int
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, train: bool = False) -> jax.Array:
        """Maps x [B, H, W, C], told embedding [B, E], to [B, H, W, features]."""
        h = nn.swish(GroupNorm(self.norm_groups, self.dtype, name="norm1")(x))
        h = _conv(self.features, dtype=self.dtype, name="conv1")(h)
        embed = nn.Dense(2 * self.features, dtype=self.dtype, name="embedding")
        told = embed(nn.swish(embedding))[:, None, None]
        scale, shift = jnp.split(told, 2, axis=-1)
        h = GroupNorm(self.norm_groups, self.dtype, name="norm2")(h) * (1 + scale) + shift
        h = nn.Dropout(self.dropout, deterministic=not train)(nn.swish(h))
        h = conv(self.features, dtype=self.dtype, zero=True, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = _conv(self.features, 1, dtype=self.dtype, name="shortcut")(x)
        return x + h


class SwinLayer(nn.Module):
    """Swin blocks between two 1x1 convolutions; nothing leads around the whole."""

    features: int
    depth: int
    heads: int
    window: int
    shifts: bool
    mlp_ratio: float
    norm_groups: int
    mask: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        channels = x.shape[-1]
        x = nn.Dense(self.features, dtype=self.dtype, name="embed")(x)
        for i in range(self.depth):
            block = SwinBlock(
                self.heads, self.window, self.shifts and i % 2 == 1, self.mlp_ratio,
                self.norm_groups, self.mask, self.dtype, name=f"block_{i}",
            )  # fmt: skip
            x = block(x)
        return nn.Dense(channels, dtype=self.dtype, name="unembed")(x)


class SwinBlock(nn.Module):
    """Window attention, then a perceptron; the norms are group norms of the whole image."""

    heads: int
    window: int
    shift: bool
    mlp_ratio: float
    norm_groups: int
    mask: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        channels = x.shape[-1]
        norm = functools.partial(GroupNorm, self.norm_groups, self.dtype)
        attention = WindowAttention(self.heads, self.window, self.dtype, name="attention")
        x = x + window_attention(attention, norm(name="norm1")(x), self.shift, self.mask)
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=TORCH_INIT)
        h = dense(int(self.mlp_ratio * channels), name="fc1")(norm(name="norm2")(x))
        return x + dense(channels, name="fc2")(gelu(h))
