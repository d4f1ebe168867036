"""The reading head: the plate's text, straight from the condition network's features."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import Dtype, windows


class ReadingHead(nn.Module):
    """One character a slot; the slots stand in reading order, those behind a text's end are empty.

    Each column of the features becomes a token. A slot starts from the columns where its character
    is to be expected, and then asks all columns, and the other slots, by attention.

    Attributes:
      classes: of a slot; class 0 means that it is empty.
      slots: characters at most.
      features: width of tokens and slots.
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
        columns = self._columns(features)
        width = columns.shape[1]
        place = self.param("place", _expected, (self.slots, width), jnp.float32)
        query = self.param(
            "query", nn.initializers.normal(0.02), (self.slots, self.features), jnp.float32
        )
        signal = self.param(
            "position", nn.initializers.normal(0.02), (width, self.features), jnp.float32
        )
        x = jax.nn.softmax(place).astype(self.dtype) @ columns + query.astype(self.dtype)
        memory = self._norm("memory_norm")(columns) + signal.astype(self.dtype)
        for i in range(self.layers):
            x = self._layer(x, memory, f"layer_{i}")
        logits = nn.Dense(self.classes, dtype=jnp.float32, name="classes")
        return logits(self._norm("norm")(x).astype(jnp.float32))

    def _columns(self, features: jax.Array) -> jax.Array:
        """A token [B, w, features] of each column of features [B, h, w, C], told its neighbours."""
        batch, height, width, channels = features.shape
        x = features.swapaxes(1, 2).reshape(batch, width, height * channels)
        x = nn.Dense(self.features, dtype=self.dtype, name="columns")(x)
        for i in range(2):
            y = nn.gelu(self._norm(f"columns_norm{i}")(x))
            x = x + nn.Conv(self.features, (3,), dtype=self.dtype, name=f"columns_conv{i}")(y)
        return x

    def _layer(self, x: jax.Array, memory: jax.Array, name: str) -> jax.Array:
        """Asks the columns, then the other slots, then thinks."""
        y = self._norm(f"{name}_norm1")(x)
        x = x + self._attention(f"{name}_columns")(y, memory)
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


def _expected(key: jax.Array, shape: tuple[int, int], dtype: Dtype) -> jax.Array:
    """Logits [slots, columns]: each slot expects its even share of the columns."""
    del key
    slots, columns = shape
    return windows(columns, slots, slots).T.astype(dtype)
