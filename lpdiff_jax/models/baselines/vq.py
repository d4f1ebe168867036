"""The autoencoder in whose latents ResShift works: a quarter of each side, a codebook.

Esser et al., "Taming Transformers for High-Resolution Image Synthesis" (CVPR 2021), as Rombach et
al., "High-Resolution Image Synthesis with Latent Diffusion Models" (CVPR 2022), use it.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.baselines.blocks import TORCH_INIT
from lpdiff_jax.models.convolution import conv_general_dilated
from lpdiff_jax.models.layers import (
    Dtype,
    GroupNorm,
    ResidualBlock,
    attend,
    conv,
    upsample_nearest,
)

_EPSILON = 1e-6  # of the norms; the other networks have 1e-5
# In the codebook's loss; the paper has it on the other term, the published weights were trained so.
COMMITMENT = 0.25

_norm = functools.partial(GroupNorm, epsilon=_EPSILON)
_conv = functools.partial(conv, init=TORCH_INIT)


class Quantized(NamedTuple):
    """Latents replaced by their nearest codes.

    Attributes:
      latents: [B, h, w, D], the codes; gradients go to what was quantised.
      indices: [B, h, w], which codes.
      loss: [B], draws codes and latents together.
    """

    latents: jax.Array
    indices: jax.Array
    loss: jax.Array


class VQAutoencoder(nn.Module):
    """Encoder, codebook, decoder.

    Attributes:
      features: channels of the finest level; level i has `features * multipliers[i]`.
      multipliers: between levels the sides are halved.
      blocks: the residual blocks per level on the way down; on the way up there is one more.
      codes: entries of the codebook.
      latent_channels: the channels of the latents, and of a code.
    """

    features: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 2
    norm_groups: int = 32
    codes: int = 8192
    latent_channels: int = 3
    out_channels: int = 3
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Makes the parts, which are called on their own."""
        shape = (self.features, self.multipliers, self.blocks, self.norm_groups)
        self.encoder = Encoder(*shape, self.latent_channels, self.dtype)
        self.decoder = Decoder(*shape, self.out_channels, self.dtype)
        self.to_latent = nn.Dense(self.latent_channels, dtype=self.dtype)
        self.from_latent = nn.Dense(self.latent_channels, dtype=self.dtype)
        spread = 1 / self.codes
        self.codebook = self.param(
            "codebook",
            lambda key, shape: jax.random.uniform(key, shape, minval=-spread, maxval=spread),
            (self.codes, self.latent_channels),
        )

    def __call__(self, x: jax.Array) -> tuple[jax.Array, Quantized]:
        """Images [B, H, W, C] in [-1, 1] -> (restored images, what was quantised)."""
        quantized = self.quantize(self.encode(x))
        return self.decode(quantized.latents, quantize=False), quantized

    def encode(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] in [-1, 1] -> latents [B, H / f, W / f, D], float32, not quantised."""
        return self.to_latent(self.encoder(x)).astype(jnp.float32)

    def quantize(self, z: jax.Array) -> Quantized:
        """Replaces latents [B, h, w, D] by their nearest codes."""
        flat = z.reshape(-1, z.shape[-1])
        # The nearest code is that of the largest product, less half its square.
        nearness = jnp.matmul(flat, self.codebook.T, precision="highest")
        indices = jnp.argmax(nearness - jnp.square(self.codebook).sum(1) / 2, axis=1)
        codes = jnp.take(self.codebook, indices, axis=0).reshape(z.shape)
        stop = jax.lax.stop_gradient
        loss = jnp.square(stop(codes) - z) + COMMITMENT * jnp.square(codes - stop(z))
        latents = z + stop(codes - z)
        return Quantized(latents, indices.reshape(z.shape[:3]), loss.mean((1, 2, 3)))

    def decode(self, z: jax.Array, quantize: bool = True) -> jax.Array:
        """Latents [B, h, w, D] -> images [B, h f, w f, out_channels], float32, not clipped."""
        if quantize:
            z = self.quantize(z).latents
        return self.decoder(self.from_latent(z)).astype(jnp.float32)


class Encoder(nn.Module):
    """Images to features on a coarse grid."""

    features: int
    multipliers: tuple[int, ...]
    blocks: int
    norm_groups: int
    out_channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / f, W / f, out_channels]."""
        x = _conv(self.features, dtype=self.dtype, name="stem")(x.astype(self.dtype))
        levels = len(self.multipliers)
        for level, multiplier in enumerate(self.multipliers):
            for i in range(self.blocks):
                block = _block(self, self.features * multiplier, f"down_{level}_{i}")
                x = block(x)
            if level < levels - 1:
                x = Shrink(self.dtype, name=f"shrink_{level}")(x)
        x = _middle(self, x)
        x = nn.swish(_norm(self.norm_groups, self.dtype, name="head_norm")(x))
        return _conv(self.out_channels, dtype=self.dtype, name="head")(x)


class Decoder(nn.Module):
    """Features on a coarse grid to images."""

    features: int
    multipliers: tuple[int, ...]
    blocks: int
    norm_groups: int
    out_channels: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, h, w, D] to [B, h f, w f, out_channels]."""
        widths = [self.features * multiplier for multiplier in self.multipliers]
        x = _conv(widths[-1], dtype=self.dtype, name="stem")(x.astype(self.dtype))
        x = _middle(self, x)
        for level in reversed(range(len(widths))):
            for i in range(self.blocks + 1):
                x = _block(self, widths[level], f"up_{level}_{i}")(x)
            if level > 0:
                grow = _conv(widths[level], dtype=self.dtype, name=f"grow_{level}")
                x = grow(upsample_nearest(x))
        x = nn.swish(_norm(self.norm_groups, self.dtype, name="head_norm")(x))
        return _conv(self.out_channels, dtype=self.dtype, name="head")(x)


def _block(owner: Encoder | Decoder, features: int, name: str) -> ResidualBlock:
    return ResidualBlock(
        features, owner.norm_groups, zero_init=False, dtype=owner.dtype, epsilon=_EPSILON, name=name
    )


def _middle(owner: Encoder | Decoder, x: jax.Array) -> jax.Array:
    x = _block(owner, x.shape[-1], "mid_0")(x)
    x = GridAttention(owner.norm_groups, owner.dtype, name="mid_attention")(x)
    return _block(owner, x.shape[-1], "mid_1")(x)


class Shrink(nn.Module):
    """A strided convolution that pads one row below and one column to the right alone."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H / 2, W / 2, C]."""
        layer = nn.Conv(
            x.shape[-1], (3, 3), (2, 2), padding=((0, 1), (0, 1)), kernel_init=TORCH_INIT,
            dtype=self.dtype, conv_general_dilated=conv_general_dilated, name="conv",
        )  # fmt: skip
        return layer(x)


class GridAttention(nn.Module):
    """One head of self attention over positions, on a residual path; all layers have biases."""

    norm_groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        batch, *_, channels = x.shape
        h = _norm(self.norm_groups, self.dtype, name="norm")(x).reshape(batch, -1, channels)
        dense = functools.partial(nn.Dense, channels, dtype=self.dtype)
        q, k, v = (dense(name=name)(h)[:, :, None] for name in ("query", "key", "value"))
        h = attend(q, k, v, dtype=self.dtype)
        return x + dense(name="out")(h[:, :, 0]).reshape(x.shape)
