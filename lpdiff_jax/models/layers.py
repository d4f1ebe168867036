"""Layers that the condition network and the denoiser share. Feature maps are NHWC."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.convolution import conv_general_dilated

Dtype = Any
Initializer = Callable[..., Any]
NORM_EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's bookkeeping, for the published condition network.

    The running variance is the unbiased one and moves by `1 - momentum` of it, as in
    `torch.nn.BatchNorm2d`; flax keeps the biased one.
    """

    momentum: float = 0.9
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Normalises x [B, H, W, C]; with `train`, by the batch's own statistics."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        x = x.astype(jnp.float32)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            if not self.is_initializing():
                count = x.size // channels
                unbiased = var * (count / max(count - 1, 1))
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * unbiased
        y = (x - mean) * jax.lax.rsqrt(var + NORM_EPSILON) * scale + bias
        return y.astype(self.dtype)


class Norm(nn.Module):
    """A normalisation by name: 'batch' as published, 'group' for the mended model."""

    kind: str
    groups: int = 8
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Normalises x [B, H, W, C]."""
        if self.kind == "batch":
            return BatchNorm(dtype=self.dtype, name="batch")(x, train)
        if self.kind == "group":
            return GroupNorm(self.groups, self.dtype, name="group")(x)
        raise ValueError(f"norm is {self.kind!r}; allowed: 'batch', 'group'")


class GroupNorm(nn.Module):
    """Group normalisation with PyTorch's epsilon; statistics are float32 whatever `dtype` is.

    Written as one multiplication and one addition a channel, so that the compiler joins it with the
    activation that follows and the backward pass keeps nothing but the input: half the time of
    `flax.linen.GroupNorm` on a CPU.
    """

    groups: int
    dtype: Dtype = jnp.float32
    epsilon: float = NORM_EPSILON

    @nn.compact
    def __call__(self, x: jax.Array, parts: Sequence[jax.Array] = ()) -> jax.Array:
        """Normalises x [B, H, W, C] over each sample's positions and C / groups channels.

        Args:
          x: what is normalised.
          parts: what x was put together from along its channels. Their statistics are taken while
            each part is made, and x itself is not read for them.

        Raises:
          ValueError: C is not a multiple of the groups.
        """
        batch, *_, channels = x.shape
        if channels % self.groups:
            raise ValueError(f"{channels} channels do not divide into {self.groups} groups")
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        sources = [part.astype(jnp.float32) for part in parts or (x,)]
        x = x.astype(jnp.float32)

        def group_mean(values: list[jax.Array]) -> jax.Array:
            of_channels = [value.mean((1, 2)) for value in values]
            means = jnp.concatenate(of_channels, -1) if parts else of_channels[0]
            means = means.reshape(batch, self.groups, -1).mean(-1)
            return jnp.repeat(means, channels // self.groups, axis=1)[:, None, None]

        mean = group_mean(sources)
        squares = group_mean([jnp.square(source) for source in sources])
        var = jnp.maximum(squares - jnp.square(mean), 0)
        factor = jax.lax.rsqrt(var + self.epsilon) * scale
        return (x * factor + (bias - mean * factor)).astype(self.dtype)


def conv(
    features: int,
    kernel: int = 3,
    stride: int = 1,
    *,
    dtype: Dtype = jnp.float32,
    zero: bool = False,
    use_bias: bool = True,
    init: Initializer | None = None,
    name: str | None = None,
) -> nn.Conv:
    """A convolution padded by `kernel // 2` on each side (PyTorch's padding, not SAME).

    Its kernel starts as `init` says, else by LeCun's normal. With `zero` it starts at zero, so that
    a residual branch starts as the identity.
    """
    if init is None:
        init = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=kernel // 2,
        use_bias=use_bias,
        kernel_init=init,
        dtype=dtype,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


class ResidualBlock(nn.Module):
    """norm, swish, conv3x3 twice, on a residual path; optionally told a noise embedding.

    With an embedding [B, E] this is the denoiser's block (dropout before the second conv);
    without one it is the condition network's.
    """

    features: int
    norm_groups: int
    dropout: float = 0.0
    zero_init: bool = True
    dtype: Dtype = jnp.float32
    epsilon: float = NORM_EPSILON

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        embedding: jax.Array | None = None,
        train: bool = False,
        skip: jax.Array | None = None,
    ) -> jax.Array:
        """Maps x [B, H, W, C], with a skip [B, H, W, S] beside it, to [B, H, W, features]."""
        norm = functools.partial(GroupNorm, self.norm_groups, self.dtype, self.epsilon)
        parts = () if skip is None else (x, skip)
        if skip is not None:
            x = jnp.concatenate([x, skip], axis=-1)
        h = nn.swish(norm(name="norm1")(x, parts))
        h = conv(self.features, dtype=self.dtype, name="conv1")(h)
        if embedding is not None:
            shift = nn.Dense(self.features, dtype=self.dtype, name="embedding")(embedding)
            h = h + shift[:, None, None, :]
        h = nn.swish(norm(name="norm2")(h))
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = conv(self.features, dtype=self.dtype, zero=self.zero_init, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = conv(self.features, 1, dtype=self.dtype, name="shortcut")(x)
        return x + h


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None = None,
    *,
    dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Attention of query [B, T, heads, D] over key and value [B, S, heads, D], to query's shape.

    The softmax is in float32 and both products in `dtype`: flax would take the second one in
    float32, too. A mask [B, 1, 1 or T, S] says which keys there are.
    """
    weights = nn.dot_product_attention_weights(
        query, key, mask=mask, dtype=dtype, force_fp32_for_softmax=True
    )
    return jnp.einsum("...hqk,...khd->...qhd", weights.astype(dtype), value.astype(dtype))


def space_to_depth(x: jax.Array, patch: int) -> jax.Array:
    """[..., H, W, C] -> [..., H/patch, W/patch, patch*patch*C] (pixel unshuffle)."""
    if patch == 1:
        return x
    *lead, height, width, channels = x.shape
    x = x.reshape(*lead, height // patch, patch, width // patch, patch, channels)
    x = jnp.moveaxis(x, -4, -3)
    return x.reshape(*lead, height // patch, width // patch, patch * patch * channels)


def depth_to_space(x: jax.Array, patch: int) -> jax.Array:
    """[..., H, W, patch*patch*C] -> [..., H*patch, W*patch, C]; undoes `space_to_depth`."""
    if patch == 1:
        return x
    *lead, height, width, channels = x.shape
    x = x.reshape(*lead, height, width, patch, patch, channels // patch**2)
    x = jnp.moveaxis(x, -3, -4)
    return x.reshape(*lead, height * patch, width * patch, channels // patch**2)


def upsample_nearest(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2H, 2W, C], each pixel repeated."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def masked_mean(x: jax.Array, mask: jax.Array, axis: int = 1) -> jax.Array:
    """Mean of x [B, N, ...] over its frames where mask [B, N] is set."""
    weights = expand(mask, x.ndim)
    return (x * weights).sum(axis) / jnp.maximum(weights.sum(axis), 1)


def masked_softmax(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax of logits [B, N, ...] over N, in float32; masked frames get weight 0."""
    logits = jnp.where(expand(mask, logits.ndim), logits.astype(jnp.float32), -1e30)
    return jax.nn.softmax(logits, axis=1)


def expand(mask: jax.Array, ndim: int) -> jax.Array:
    """[B, N] -> [B, N, 1, ...] with `ndim` dimensions."""
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


def windows(columns: int, slots: int, count: int) -> jax.Array:
    """Logits [columns, slots] of windows on the columns, `count` of which divide them evenly."""
    places = (jnp.arange(columns) + 0.5) / columns
    offset = places[:, None] * count - (jnp.arange(slots) + 0.5)
    return -0.5 * jnp.square(offset / 0.6)
