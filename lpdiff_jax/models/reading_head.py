"""The reading head: the plate's text, straight from the condition network's features."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import Dtype, position_signal


class ReadingHead(nn.Module):
    """One character a slot: learned queries that attend to the features and to each other.

    The slots stand in reading order; those behind a text's end are empty.

    Attributes:
      classes: of a slot; class 0 means that it is empty.
      slots: characters at most.
      features: width of the queries.
      layers: of attention.
      heads: of each attention.
    """

    classes: int
    slots: int = 8
    features: int = 128
    layers: int = 2
    heads: int = 8
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Reads features [B, h, w, C]; returns logits [B, slots, classes], float32."""
        batch, height, width, _ = features.shape
        memory = nn.Dense(self.features, dtype=self.dtype, name="memory")(features)
        memory = memory + position_signal(height, width, self.features).astype(self.dtype)
        memory = self._norm("memory_norm")(memory.reshape(batch, -1, self.features))
        queries = self.param(
            "queries", nn.initializers.normal(1.0), (self.slots, self.features), jnp.float32
        )
        x = jnp.broadcast_to(queries.astype(self.dtype), (batch, *queries.shape))
        for i in range(self.layers):
            x = self._layer(x, memory, f"layer_{i}")
        logits = nn.Dense(self.classes, dtype=jnp.float32, name="classes")
        return logits(self._norm("norm")(x).astype(jnp.float32))

    def _layer(self, x: jax.Array, memory: jax.Array, name: str) -> jax.Array:
        """Asks the features, then the other slots, then thinks."""
        y = self._norm(f"{name}_norm1")(x)
        x = x + self._attention(f"{name}_features")(y, memory)
        y = self._norm(f"{name}_norm2")(x)
        x = x + self._attention(f"{name}_slots")(y, y)
        y = self._norm(f"{name}_norm3")(x)
        y = nn.Dense(4 * self.features, dtype=self.dtype, name=f"{name}_fc1")(y)
        return x + nn.Dense(self.features, dtype=self.dtype, name=f"{name}_fc2")(nn.gelu(y))

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(dtype=self.dtype, name=name)

    def _attention(self, name: str) -> nn.MultiHeadDotProductAttention:
        return nn.MultiHeadDotProductAttention(
            self.heads, dtype=self.dtype, force_fp32_for_softmax=True, name=name
        )
