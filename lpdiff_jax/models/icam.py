"""ICAM, the inter-frame cross attention of the condition network (paper section 3)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.errors import check_choice
from lpdiff_jax.models.layers import Dtype, attend


class ICAM(nn.Module):
    """Inter-frame cross attention: one frame's tokens ask those of others (paper section 3.1)."""

    heads: int = 8
    residual: str = "input"
    positions: str = "2d"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, query: jax.Array, keys: jax.Array, key_mask: jax.Array) -> jax.Array:
        """Attends.

        Args:
          query: [B, h, w, C], the frame that asks.
          keys: [B, M, h, w, C], the frames asked.
          key_mask: [B, M] bool, False for frames that are padding.

        Returns:
          [B, h, w, C].
        """
        check_choice("residual", self.residual, ("input", "projected_query"))
        check_choice("positions", self.positions, ("none", "2d"))
        batch, height, width, channels = query.shape
        if self.positions == "2d":
            signal = position_signal(height, width, channels).astype(query.dtype)
            query, keys = query + signal, keys + signal
        tokens = height * width
        query = query.reshape(batch, tokens, channels)
        keys = keys.reshape(batch, -1, channels)
        dense = lambda name, width=channels: nn.Dense(width, dtype=self.dtype, name=name)  # noqa: E731
        q = dense("query")(query)
        attended = self._attend(
            q, dense("key")(keys), dense("value")(keys), jnp.repeat(key_mask, tokens, axis=1)
        )
        residual = query if self.residual == "input" else q
        norm = lambda name: nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)  # noqa: E731
        y = norm("norm1")(dense("out")(attended) + residual)
        y = norm("norm2")(y + dense("fc2")(nn.relu(dense("fc1", 4 * channels)(y))))
        return y.reshape(batch, height, width, channels)

    def _attend(self, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
        """Multi-head attention of q [B, T, C] over k, v [B, S, C] where mask [B, S] is set."""
        split = lambda x: x.reshape(*x.shape[:2], self.heads, -1)  # noqa: E731
        attended = attend(split(q), split(k), split(v), mask[:, None, None, :], dtype=self.dtype)
        return attended.reshape(q.shape)


def position_signal(height: int, width: int, channels: int) -> jax.Array:
    """Sinusoids of row and column, half of the channels each: [height, width, channels]."""
    quarter = channels // 4
    frequencies = jnp.exp(-jnp.log(100.0) * jnp.arange(quarter) / quarter)

    def waves(length: int) -> jax.Array:
        angles = jnp.arange(length)[:, None] * frequencies
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)

    rows = jnp.broadcast_to(waves(height)[:, None], (height, width, 2 * quarter))
    columns = jnp.broadcast_to(waves(width)[None], (height, width, 2 * quarter))
    signal = jnp.concatenate([rows, columns], axis=-1)
    return jnp.pad(signal, ((0, 0), (0, 0), (0, channels - 4 * quarter)))
