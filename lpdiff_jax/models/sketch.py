"""The sketch: what psi lacks of the text that the reading head reads, drawn where it stands."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import Dtype, depth_to_space, space_to_depth, windows

TEXTS = ("probabilities", "likeliest")


class Sketch(nn.Module):
    """Draws the residual of a plate that has a given text, column by column.

    psi blurs what it is unsure of; the reading head, on the same features, names characters. A
    column of psi asks the slots by attention which of them is drawn there, beginning with the one
    whose character is to be expected at its place. The idea of a text prior is that of Ma et al.
    2021 (TPGSR).

    Attributes:
      layers: the number of layers of attention.
      features: the width of tokens.
      heads: the number of heads of each attention.
      patch: the columns of pixels that a token draws.
      text: what is drawn: 'probabilities', those of the head as they are, so a mixture of
        characters where it is unsure; or 'likeliest', one text. It is trained with the true one
        then, and further samples of a plate suppose other texts, as likely as the head says.
    """

    layers: int
    features: int = 128
    heads: int = 4
    patch: int = 2
    text: str = "probabilities"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, text: jax.Array, psi: jax.Array) -> jax.Array:
        """Draws a text [B, S, classes] on psi [B, H, W, 3]: [B, H, W, 3], scaled."""
        image = space_to_depth(psi.astype(self.dtype), self.patch)
        batch, height, width, _ = image.shape
        x = self._columns(image.swapaxes(1, 2).reshape(batch, width, -1))
        asked = nn.Dense(self.features, dtype=self.dtype, name="characters")(text)
        asked = asked + self._positions("slot_positions", text.shape[1])
        for i in range(self.layers):
            x = self._layer(x, asked, f"layer_{i}")
        # It begins with nothing drawn.
        strokes = nn.Dense(
            height * self.patch**2 * 3,
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name="strokes",
        )
        x = strokes(self._norm("norm")(x)).reshape(batch, width, height, -1).swapaxes(1, 2)
        return depth_to_space(x, self.patch).astype(jnp.float32)

    def _columns(self, columns: jax.Array) -> jax.Array:
        """A token [B, w, features] of each column [B, w, C], told its neighbours."""
        x = nn.Dense(self.features, dtype=self.dtype, name="columns")(columns)
        x = x + self._positions("column_positions", columns.shape[1])
        for i in range(2):
            y = nn.gelu(self._norm(f"columns_norm{i}")(x))
            x = x + nn.Conv(self.features, (5,), dtype=self.dtype, name=f"columns_conv{i}")(y)
        return x

    def _layer(self, x: jax.Array, text: jax.Array, name: str) -> jax.Array:
        """Each column asks the slots, then thinks."""
        x = x + self._ask(self._norm(f"{name}_norm1")(x), text, name)
        y = self._norm(f"{name}_norm2")(x)
        y = nn.Dense(4 * self.features, dtype=self.dtype, name=f"{name}_fc1")(y)
        return x + nn.Dense(self.features, dtype=self.dtype, name=f"{name}_fc2")(nn.gelu(y))

    def _ask(self, columns: jax.Array, text: jax.Array, name: str) -> jax.Array:
        """Attention of columns [B, w, C] to slots [B, S, C], with a learnt bias of their places.

        Without the bias, columns take far longer to find their slots.
        """
        shape = (self.heads, self.features // self.heads)
        project = functools.partial(nn.DenseGeneral, shape, dtype=self.dtype)
        query = project(name=f"{name}_query")(columns)
        key, value = (project(name=f"{name}_{part}")(text) for part in ("key", "value"))
        place = self.param(
            f"{name}_place", _expected, (self.heads, columns.shape[1], text.shape[1]), jnp.float32
        )
        logits = jnp.einsum("bwhd,bshd->bhws", query, key) / shape[1] ** 0.5
        weights = jax.nn.softmax(logits.astype(jnp.float32) + place).astype(self.dtype)
        drawn = jnp.einsum("bhws,bshd->bwhd", weights, value)
        out = nn.DenseGeneral(self.features, (-2, -1), dtype=self.dtype, name=f"{name}_out")
        asked: jax.Array = out(drawn)
        return asked

    def _positions(self, name: str, count: int) -> jax.Array:
        init = nn.initializers.normal(0.5)
        signal: jax.Array = self.param(name, init, (count, self.features), jnp.float32)
        return signal.astype(self.dtype)

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(dtype=self.dtype, name=name)


def likeliest(slots: jax.Array) -> jax.Array:
    """Certainty of the likeliest class of each slot [B, S, classes]."""
    # Without argmax and one_hot, which fewer programs than comparisons can take over.
    return (slots == slots.max(-1, keepdims=True)).astype(slots.dtype)


def _expected(key: jax.Array, shape: tuple[int, int, int], dtype: Dtype) -> jax.Array:
    """Logits [heads, columns, slots]: every other head expects that the last slot is empty."""
    del key
    heads, columns, slots = shape
    full, shorter = (windows(columns, slots, count) for count in (slots, max(slots - 1, 1)))
    return jnp.stack([full if head % 2 else shorter for head in range(heads)]).astype(dtype)
