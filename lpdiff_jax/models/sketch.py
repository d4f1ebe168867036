"""The sketch: the text that the reading head reads, drawn where the plate has it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import Dtype, depth_to_space, space_to_depth


class Sketch(nn.Module):
    """Draws a text's probabilities onto the plate, column by column, for the denoiser to see.

    psi blurs what it is unsure of; the reading head, on the same features, names characters. A
    column of psi asks the slots by attention which of them is drawn there. The idea of a text
    prior is that of Ma et al. 2021 (TPGSR).

    Attributes:
      channels: of the drawing.
      features: width of tokens.
      layers: of attention.
      heads: of each attention.
      patch: columns of pixels that a token draws.
    """

    channels: int
    features: int = 128
    layers: int = 2
    heads: int = 4
    patch: int = 2
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, slots: jax.Array, psi: jax.Array) -> jax.Array:
        """Draws slots [B, S, classes], probabilities, on psi [B, H, W, 3]: [B, H, W, channels]."""
        image = space_to_depth(psi.astype(self.dtype), self.patch)
        batch, height, width, _ = image.shape
        image = image.swapaxes(1, 2).reshape(batch, width, -1)
        x = nn.Dense(self.features, dtype=self.dtype, name="columns")(image)
        x = x + self._positions("column_positions", width)
        text = nn.Dense(self.features, dtype=self.dtype, name="characters")(slots)
        text = text + self._positions("slot_positions", slots.shape[1])
        for i in range(self.layers):
            x = self._layer(x, text, f"layer_{i}")
        x = nn.Dense(height * self.patch**2 * self.channels, dtype=self.dtype, name="strokes")(
            self._norm("norm")(x)
        )
        x = x.reshape(batch, width, height, -1).swapaxes(1, 2)
        return depth_to_space(x, self.patch).astype(jnp.float32)

    def _layer(self, x: jax.Array, text: jax.Array, name: str) -> jax.Array:
        """Each column asks the slots, then thinks."""
        attention = nn.MultiHeadDotProductAttention(
            self.heads, dtype=self.dtype, force_fp32_for_softmax=True, name=f"{name}_slots"
        )
        x = x + attention(self._norm(f"{name}_norm1")(x), text)
        y = self._norm(f"{name}_norm2")(x)
        y = nn.Dense(4 * self.features, dtype=self.dtype, name=f"{name}_fc1")(y)
        return x + nn.Dense(self.features, dtype=self.dtype, name=f"{name}_fc2")(nn.gelu(y))

    def _positions(self, name: str, count: int) -> jax.Array:
        init = nn.initializers.normal(0.5)
        signal: jax.Array = self.param(name, init, (count, self.features), jnp.float32)
        return signal.astype(self.dtype)

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(dtype=self.dtype, name=name)
