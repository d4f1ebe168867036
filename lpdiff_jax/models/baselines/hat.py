"""HAT: window attention beside channel attention, and windows of keys that overlap.

Chen et al., "Activating More Pixels in Image Super-Resolution Transformer" (CVPR 2023).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.models.baselines.blocks import TORCH_INIT, TRANSFORMER_INIT, gelu, pixel_shuffle
from lpdiff_jax.models.baselines.windows import (
    WindowAttention,
    attend,
    merge,
    overlapping,
    overlapping_index,
    partition,
    window_attention,
)
from lpdiff_jax.models.layers import Dtype, conv

_COLOUR_MEAN = np.array([0.4488, 0.4371, 0.4040], np.float32)
_CHANNEL_SHARE = 0.01  # of the channel attention in a block's sum

_conv = functools.partial(conv, init=TORCH_INIT)


class HAT(nn.Module):
    """Shallow features, groups of hybrid attention blocks, reconstruction.

    Attributes:
      features: channels of the body.
      depths: hybrid attention blocks of each group.
      heads: the heads of every attention.
      window: side of its windows; images are padded to a multiple of it.
      compress: the factor by which a block's convolutions narrow the channels.
      squeeze: the factor by which the channel attention does.
      overlap: how much wider the windows of keys are, as a share of `window`.
      mlp_ratio: width of the hidden layers over `features`.
      scale: enlargement: 1, 3, or a power of two.
      nominal_size: image side that the released program reckons with; a window as large loses its
        shift.
      drop_path: chance that training skips a branch of the last block; the first is never skipped.
    """

    features: int = 180
    depths: tuple[int, ...] = (6,) * 6
    heads: int = 6
    window: int = 16
    compress: int = 3
    squeeze: int = 30
    overlap: float = 0.5
    mlp_ratio: float = 2.0
    scale: int = 1
    nominal_size: int = 64
    drop_path: float = 0.1
    out_channels: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to [B, H scale, W scale, out_channels], float32.

        Raises:
          ValueError: a scale, overlap or width that the network cannot have.
        """
        _, height, width, channels = x.shape
        mean = _COLOUR_MEAN if channels == 3 else np.zeros(1, np.float32)
        x = (_pad(x, self.window) - mean).astype(self.dtype)
        shallow = _conv(self.features, dtype=self.dtype, name="conv_first")(x)
        x = self.body(shallow, train)
        x = _conv(self.features, dtype=self.dtype, name="conv_after_body")(x) + shallow
        x = nn.leaky_relu(_conv(64, dtype=self.dtype, name="conv_before_upsample")(x), 0.01)
        for i, factor in enumerate(_factors(self.scale)):
            x = _conv(64 * factor**2, dtype=self.dtype, name=f"upsample_{i}")(x)
            x = pixel_shuffle(x, factor)
        x = _conv(self.out_channels, dtype=self.dtype, name="conv_last")(x).astype(jnp.float32)
        return x[:, : height * self.scale, : width * self.scale] + mean

    def body(self, x: jax.Array, train: bool) -> jax.Array:
        """The groups between their two norms, on x [B, H, W, features]."""
        rates = iter(np.linspace(0, self.drop_path, sum(self.depths)).tolist())
        x = nn.LayerNorm(1e-5, dtype=self.dtype, name="embed_norm")(x)
        for i, depth in enumerate(self.depths):
            group = Group(
                tuple(next(rates) for _ in range(depth)),
                self.heads, self.window, self.compress, self.squeeze, self.overlap,
                self.mlp_ratio, self.nominal_size > self.window, self.dtype, name=f"group_{i}",
            )  # fmt: skip
            x = x + group(x, train)
        return nn.LayerNorm(1e-5, dtype=self.dtype, name="norm")(x)


class Group(nn.Module):
    """Hybrid attention blocks, an overlapping attention, a convolution (the paper's RHAG)."""

    drop_rates: tuple[float, ...]
    heads: int
    window: int
    compress: int
    squeeze: int
    overlap: float
    mlp_ratio: float
    shifts: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps x [B, H, W, C] to what the group adds to it, of the same shape."""
        channels = x.shape[-1]
        for i, rate in enumerate(self.drop_rates):
            block = HybridBlock(
                self.heads, self.window, self.compress, self.squeeze, self.mlp_ratio,
                self.shifts and i % 2 == 1, rate, self.dtype, name=f"block_{i}",
            )  # fmt: skip
            x = block(x, train)
        overlapping_block = OverlappingBlock(
            self.heads, self.window, self.overlap, self.mlp_ratio, self.dtype, name="overlapping"
        )
        return _conv(channels, dtype=self.dtype, name="conv")(overlapping_block(x))


class HybridBlock(nn.Module):
    """Window attention and channel attention side by side, then a perceptron (HAB)."""

    heads: int
    window: int
    compress: int
    squeeze: int
    mlp_ratio: float
    shift: bool
    drop_path: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape; `train` drops branches of whole samples."""
        u = nn.LayerNorm(1e-5, dtype=self.dtype, name="norm1")(x)
        channel = ChannelAttention(self.compress, self.squeeze, self.dtype, name="channel")(u)
        attention = WindowAttention(self.heads, self.window, self.dtype, name="attention")
        windowed = window_attention(attention, u, self.shift)
        drop = functools.partial(_drop_path, rate=self.drop_path, train=train)
        x = x + drop(windowed) + _CHANNEL_SHARE * channel
        u = nn.LayerNorm(1e-5, dtype=self.dtype, name="norm2")(x)
        return x + drop(Perceptron(self.mlp_ratio, self.dtype, name="mlp")(u))


class ChannelAttention(nn.Module):
    """Two convolutions, then a gate for each channel (CAB)."""

    compress: int
    squeeze: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        channels = x.shape[-1]
        if channels < max(self.compress, self.squeeze):
            raise ValueError(
                f"compress {self.compress} and squeeze {self.squeeze} leave nothing of "
                f"{channels} channels; they are at most that"
            )
        z = _conv(channels // self.compress, dtype=self.dtype, name="narrow")(x)
        z = _conv(channels, dtype=self.dtype, name="widen")(gelu(z))
        mean = z.astype(jnp.float32).mean((1, 2), keepdims=True)
        gate = nn.Dense(channels // self.squeeze, dtype=self.dtype, name="squeeze")(mean)
        gate = nn.Dense(channels, dtype=self.dtype, name="excite")(nn.relu(gate))
        return z * nn.sigmoid(gate)


class OverlappingBlock(nn.Module):
    """Attention from each window to a larger one around it, then a perceptron (OCAB)."""

    heads: int
    window: int
    overlap: float
    mlp_ratio: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape.

        Raises:
          ValueError: the keys' windows cannot stand centred around the queries'.
        """
        _, height, width, channels = x.shape
        wider = int(self.overlap * self.window)
        if wider % 2:
            raise ValueError(
                f"a window of {self.window} with overlap {self.overlap} widens by {wider}, which "
                "must be even"
            )
        dense = dict(kernel_init=TRANSFORMER_INIT, dtype=self.dtype)
        u = nn.LayerNorm(1e-5, dtype=self.dtype, name="norm1")(x)
        q, k, v = jnp.split(nn.Dense(3 * channels, name="qkv", **dense)(u), 3, axis=-1)
        reach = self.window + wider
        table = self.param("table", TRANSFORMER_INIT, ((self.window + reach - 1) ** 2, self.heads))
        bias = jnp.take(table, overlapping_index(self.window, reach), axis=0)
        k, v = (overlapping(part, self.window, wider // 2) for part in (k, v))
        attended = attend(partition(q, self.window), k, v, self.heads, bias, None)
        attended = merge(attended, height, width, self.window)
        x = x + nn.Dense(channels, name="out", **dense)(attended)
        u = nn.LayerNorm(1e-5, dtype=self.dtype, name="norm2")(x)
        return x + Perceptron(self.mlp_ratio, self.dtype, name="mlp")(u)


class Perceptron(nn.Module):
    """Two dense layers with the exact GELU between them, at every position."""

    ratio: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [..., C] to the same shape."""
        dense = functools.partial(nn.Dense, kernel_init=TRANSFORMER_INIT, dtype=self.dtype)
        h = dense(int(self.ratio * x.shape[-1]), name="fc1")(x)
        return dense(x.shape[-1], name="fc2")(gelu(h))


def _drop_path(x: jax.Array, rate: float, train: bool) -> jax.Array:
    """Drops x of whole samples [B, ...] at random (stochastic depth).

    The mask is dropout of a one for each sample, so that `models.dropout` can key it by sample.
    """
    if not (rate and train):
        return x
    ones = jnp.ones((x.shape[0],) + (1,) * (x.ndim - 1), x.dtype)
    return x * nn.Dropout(rate, deterministic=False)(ones)


def _pad(x: jax.Array, window: int) -> jax.Array:
    """Reflects x [B, H, W, C] at the lower and right border up to multiples of the window."""
    rows, columns = (-size % window for size in x.shape[1:3])
    if not rows and not columns:
        return x
    return jnp.pad(x, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="reflect")


def _factors(scale: int) -> tuple[int, ...]:
    """The pixel shuffles that make an enlargement."""
    if scale == 3:
        return (3,)
    if scale < 1 or scale & (scale - 1):
        raise ValueError(f"scale is {scale}; allowed: 3 and powers of two")
    return (2,) * (scale.bit_length() - 1)
