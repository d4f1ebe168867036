"""The reading head: the plate's text, straight from the condition network's features."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import Dtype, windows

ALIGNMENTS = ("slots", "ctc")


class ReadingHead(nn.Module):
    """One character per slot, in reading order; slots behind the text's end are empty.

    Each column of the features becomes a token. A slot starts from the columns where its character
    is to be expected, and then asks all columns, and the other slots, by attention. Or the columns
    ask each other, and name characters themselves (CTC, Graves et al. 2006).

    Attributes:
      classes: the classes of a slot or column; class 0 means that it is empty.
      slots: the most characters of a text.
      features: the width of tokens and slots.
      layers: the number of layers of attention.
      heads: the number of heads of each attention.
      alignment: 'slots', or 'ctc': the columns name the characters.
    """

    classes: int
    slots: int = 8
    features: int = 128
    layers: int = 2
    heads: int = 8
    alignment: str = "slots"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Reads features [B, h, w, C]; returns logits [B, slots, classes], float32.

        With 'ctc' they are of the columns, [B, w, classes], and `probabilities` finds the slots.
        """
        columns = self._columns(features)
        slots = self._slots(columns) if self.alignment == "slots" else None
        signal = self.param(
            "position", nn.initializers.normal(0.02), columns.shape[1:], jnp.float32
        )
        memory = self._norm("memory_norm")(columns) + signal.astype(self.dtype)
        x = memory if slots is None else slots
        for i in range(self.layers):
            x = self._layer(x, memory, f"layer_{i}")
        logits = nn.Dense(self.classes, dtype=jnp.float32, name="classes")
        return logits(self._norm("norm")(x).astype(jnp.float32))

    def probabilities(self, logits: jax.Array) -> jax.Array:
        """Of the slots' classes, [B, slots, classes], from the logits of `__call__`."""
        likely = jax.nn.softmax(logits)
        return collapse(likely, self.slots) if self.alignment == "ctc" else likely

    def _slots(self, columns: jax.Array) -> jax.Array:
        """What each slot begins with, [B, slots, features]."""
        shape = (self.slots, columns.shape[1])
        place = self.param("place", _expected, shape, jnp.float32)
        query = self.param(
            "query", nn.initializers.normal(0.02), (self.slots, self.features), jnp.float32
        )
        return jax.nn.softmax(place).astype(self.dtype) @ columns + query.astype(self.dtype)

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
        # A layer begins with nothing added, so that a trained head can be given more of them.
        last = nn.Dense(
            self.features,
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name=f"{name}_fc2",
        )
        return x + last(nn.gelu(y))

    def _norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(dtype=self.dtype, name=name)

    def _attention(self, name: str) -> nn.MultiHeadDotProductAttention:
        return nn.MultiHeadDotProductAttention(
            self.heads,
            dtype=self.dtype,
            out_kernel_init=nn.initializers.zeros,
            force_fp32_for_softmax=True,
            name=name,
        )


def collapse(columns: jax.Array, slots: int) -> jax.Array:
    """The best path of CTC: runs of columns that name the same character become its slot.

    Args:
      columns: [B, w, classes], probabilities.
      slots: S; characters behind the last are left out.

    Returns:
      [B, S, classes]: of each run, its surest column; slots behind the last run are surely empty.
    """
    named, sure = columns.argmax(-1), columns.max(-1)
    begins = (named != 0) & (named != jnp.pad(named, ((0, 0), (1, 0)))[:, :-1])
    run = jnp.where(named != 0, begins.cumsum(1) - 1, -1)
    member = run[:, None] == jnp.arange(slots)[:, None]  # [B, S, w]
    surest = jnp.where(member, sure[:, None], -1.0).argmax(-1)
    found = jnp.take_along_axis(columns, surest[..., None], axis=1)
    empty = jax.nn.one_hot(0, columns.shape[-1], dtype=columns.dtype)
    return jnp.where(member.any(-1, keepdims=True), found, empty)


def _expected(key: jax.Array, shape: tuple[int, int], dtype: Dtype) -> jax.Array:
    """Logits [slots, columns]: each slot expects its even share of the columns."""
    del key
    slots, columns = shape
    return windows(columns, slots, slots).T.astype(dtype)
