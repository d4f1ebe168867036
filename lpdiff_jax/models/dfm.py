"""DFM, the dual-pathway fusion of the condition network (paper section 3); fusion of its skips."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.errors import check_choice
from lpdiff_jax.models.layers import Dtype, conv, expand, masked_mean, masked_softmax
from lpdiff_jax.models.median import lower_median


class DFM(nn.Module):
    """Dual-pathway fusion: weighs paths by channel and by position (paper section 3.1).

    With pairing 'consecutive' it is the published fusion of exactly two paths, each with a
    convolution of its own over both paths' statistics. With 'all' one convolution serves any
    number of paths: it sees a path's own statistics and the mean of all.
    """

    pairing: str = "all"
    channel_median: str = "true"
    channel_kernel: int = 3
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        check_choice("channel_median", self.channel_median, ("true", "max"))
        heads = 2 if self.pairing == "consecutive" else 1
        self.channel_convs = [_logit_conv((self.channel_kernel,)) for _ in range(heads)]
        self.spatial_convs = [_logit_conv((3, 3)) for _ in range(heads)]

    def __call__(self, paths: jax.Array, mask: jax.Array) -> jax.Array:
        """Fuses paths [B, P, h, w, C], of which mask [B, P] are real, into [B, h, w, C]."""
        channel = self.channel_weights(paths, mask)[:, :, None, None, :]
        spatial = self.spatial_weights(paths, mask)[..., None]
        # Published: w_i = channel_i + spatial_i + 1, a sum. For any number of paths the constant
        # part is their mean, so that the scale does not depend on how many there are.
        constant = 1.0 if self.pairing == "consecutive" else 1.0 / mask.sum(1)
        weights = channel + spatial + jnp.reshape(constant, (-1, 1, 1, 1, 1))
        weights = weights * expand(mask, weights.ndim)
        return (weights * paths.astype(jnp.float32)).sum(1).astype(self.dtype)

    def channel_weights(self, paths: jax.Array, mask: jax.Array) -> jax.Array:
        """Softmax over the paths of each channel's logit: [B, P, C]."""
        flat = paths.astype(jnp.float32).reshape(*paths.shape[:2], -1, paths.shape[-1])
        maximum = flat.max(2)
        median = maximum if self.channel_median == "max" else lower_median(flat, 2)
        statistics = jnp.stack([flat.mean(2), maximum, median], axis=-1)
        return masked_softmax(_path_logits(self.channel_convs, statistics, mask), mask)

    def spatial_weights(self, paths: jax.Array, mask: jax.Array) -> jax.Array:
        """Softmax over the paths of each position's logit: [B, P, h, w]."""
        x = paths.astype(jnp.float32)
        statistics = jnp.stack([x.mean(-1), x.max(-1), lower_median(x, -1)], axis=-1)
        return masked_softmax(_path_logits(self.spatial_convs, statistics, mask), mask)


def _logit_conv(kernel: tuple[int, ...]) -> nn.Conv:
    return nn.Conv(1, kernel, padding=[(k // 2, k // 2) for k in kernel])


def _path_logits(convs: list[nn.Conv], statistics: jax.Array, mask: jax.Array) -> jax.Array:
    """A logit for each path from statistics [B, P, ..., 3]: [B, P, ...]."""
    if len(convs) == 2:
        both = jnp.concatenate([statistics[:, 0], statistics[:, 1]], axis=-1)
        return jnp.stack([convolve(both)[..., 0] for convolve in convs], axis=1)
    context = jnp.broadcast_to(masked_mean(statistics, mask)[:, None], statistics.shape)
    own_and_context = jnp.concatenate([statistics, context], axis=-1)
    merged = own_and_context.reshape(-1, *own_and_context.shape[2:])
    return convs[0](merged)[..., 0].reshape(statistics.shape[:-1])


class FrameFusion(nn.Module):
    """A side branch: one encoder stage fused over the frames, for the decoder.

    It hands on the mean and the maximum over the real frames and the nearest (last) one, which
    shows the plate largest; a 1x1 convolution weighs them.
    """

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stage: jax.Array, mask: jax.Array) -> jax.Array:
        """Fuses stage [B, N, h, w, C], of which mask [B, N] are real, into [B, h, w, features]."""
        real = expand(mask, stage.ndim)
        # Not `max(1)`: its gradient asks whether an element equals the maximum, and counts those.
        # XLA may compute the stage anew for each, rounded otherwise; then it is wrong, or 0 / 0.
        seen = jnp.where(real, stage, -jnp.inf)
        maximum = functools.reduce(jnp.maximum, [seen[:, i] for i in range(seen.shape[1])])
        last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
        nearest = jnp.take_along_axis(stage, last[:, None, None, None, None], axis=1)[:, 0]
        merged = jnp.concatenate([masked_mean(stage, mask), maximum, nearest], axis=-1)
        return conv(self.features, 1, dtype=self.dtype, name="merge")(merged)
