"""Attention within windows of an image, as Swin transformers have it.

Liu et al., "Swin Transformer" (ICCV 2021); with windows of keys that overlap, Chen et al.,
"Activating More Pixels in Image Super-Resolution Transformer" (CVPR 2023).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.errors import check_choice
from lpdiff_jax.models.baselines.blocks import TRANSFORMER_INIT
from lpdiff_jax.models.layers import Dtype

MASKS = ("regions", "released")
_APART = -100.0  # added to the logit of a pair that must not see each other; not infinite


def partition(x: jax.Array, window: int) -> jax.Array:
    """[B, H, W, C] -> [B, windows, window * window, C], windows and pixels row by row.

    Raises:
      ValueError: a height or width that the window does not divide.
    """
    batch, height, width, channels = x.shape
    if height % window or width % window:
        raise ValueError(
            f"height and width must be multiples of the window {window}, not {height} x {width}"
        )
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    windows = (height // window) * (width // window)
    return x.swapaxes(2, 3).reshape(batch, windows, window**2, channels)


def merge(x: jax.Array, height: int, width: int, window: int) -> jax.Array:
    """[B, windows, window * window, C] -> [B, H, W, C]; undoes `partition`."""
    batch, *_, channels = x.shape
    x = x.reshape(batch, height // window, width // window, window, window, channels)
    return x.swapaxes(2, 3).reshape(batch, height, width, channels)


def overlapping(x: jax.Array, window: int, margin: int) -> jax.Array:
    """[B, H, W, C] -> [B, windows, (window + 2 margin)^2, C]: windows that reach into others.

    Beyond the image stand zeros.
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    x = _extend(_extend(x, 1, margin), 3, margin)
    windows = (height // window) * (width // window)
    return x.swapaxes(2, 3).reshape(batch, windows, (window + 2 * margin) ** 2, channels)


def _extend(x: jax.Array, axis: int, margin: int) -> jax.Array:
    """Extends blocks, numbered along `axis` and lying along `axis + 1`, into their neighbours."""
    window = x.shape[axis + 1]
    if margin > window:
        raise ValueError(f"windows of {window} cannot reach {margin} pixels beyond themselves")

    def neighbours(start: int, stop: int, side: tuple[int, int]) -> jax.Array:
        edge = jax.lax.slice_in_dim(x, start, stop, axis=axis + 1)
        padding = [(0, 0)] * x.ndim
        padding[axis] = side
        kept = slice(1, None) if side[1] else slice(None, -1)
        return jnp.pad(edge, padding)[(slice(None),) * axis + (kept,)]

    before = neighbours(window - margin, window, (1, 0))
    after = neighbours(0, margin, (0, 1))
    return jnp.concatenate([before, x, after], axis=axis + 1)


def relative_index(window: int) -> np.ndarray:
    """Row of the bias table for each pair (query, key) of a window: [window^2, window^2]."""
    rows, columns = (axis.ravel() for axis in np.indices((window, window)))
    down = rows[:, None] - rows + window - 1
    across = columns[:, None] - columns + window - 1
    return down * (2 * window - 1) + across


def overlapping_index(window: int, reach: int) -> np.ndarray:
    """As `relative_index` for keys in windows of side `reach`: [window^2, reach^2].

    Offsets count from key to query and start below zero; they wrap around, as negative indices do
    in the published program, whose tables are ordered so.
    """
    rows, columns = (axis.ravel() for axis in np.indices((window, window)))
    key_rows, key_columns = (axis.ravel() for axis in np.indices((reach, reach)))
    side = window + reach - 1
    down = key_rows - rows[:, None] + window - reach + 1
    across = key_columns - columns[:, None] + window - reach + 1
    return (down * side + across) % side**2


def shift_mask(height: int, width: int, window: int, kind: str = "regions") -> np.ndarray:
    """What is added to the logits of a rolled image: float32 [windows, window^2, window^2].

    Rolling by half a window brings pixels of opposite borders together. 'regions' keeps them apart,
    by cutting the rolled image into nine regions. 'released' is what ResShift's program has: it
    acts in the last row of windows alone, and there separates left from right halves.
    """
    check_choice("mask", kind, MASKS)
    shift = window // 2
    labels = np.zeros((height, width), int)
    if kind == "regions":
        rows, columns = (
            (np.arange(size) >= size - window).astype(int) + (np.arange(size) >= size - shift)
            for size in (height, width)
        )
        labels = 3 * rows[:, None] + columns
    else:
        labels[height - window :] = np.arange(width) % window >= window - shift
    blocks = labels.reshape(height // window, window, width // window, window)
    cut = blocks.swapaxes(1, 2).reshape(-1, window**2)
    return np.where(cut[:, :, None] == cut[:, None], 0, _APART).astype(np.float32)


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, heads: int, bias: jax.Array, mask: jax.Array | None
) -> jax.Array:
    """Attention of several heads in every window; softmax in float32.

    Args:
      q: [B, windows, queries, C]; a head has consecutive channels.
      k: [B, windows, keys, C].
      v: values of the shape of k.
      heads: the number of heads, which divides C.
      bias: [queries, keys, heads], added to the logits.
      mask: [windows, queries, keys], added too.

    Returns:
      [B, windows, queries, C].
    """
    width = q.shape[-1] // heads
    q, k, v = (part.reshape(*part.shape[:-1], heads, width) for part in (q, k, v))
    logits = jnp.einsum("bnqhd,bnkhd->bnhqk", q * width**-0.5, k).astype(jnp.float32)
    logits = logits + bias.astype(jnp.float32).transpose(2, 0, 1)
    if mask is not None:
        logits = logits + mask[:, None]
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    attended = jnp.einsum("bnhqk,bnkhd->bnqhd", weights, v)
    return attended.reshape(*attended.shape[:-2], heads * width)


class WindowAttention(nn.Module):
    """Self attention of each window on its own, with a learned bias for each offset."""

    heads: int
    window: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Maps windows x [B, windows, window^2, C] to the same shape; mask as of `shift_mask`."""
        channels = x.shape[-1]
        dense = dict(kernel_init=TRANSFORMER_INIT, dtype=self.dtype)
        qkv = nn.Dense(3 * channels, name="qkv", **dense)(x)
        table = self.param("table", TRANSFORMER_INIT, ((2 * self.window - 1) ** 2, self.heads))
        bias = jnp.take(table, relative_index(self.window), axis=0)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        x = attend(q, k, v, self.heads, bias, mask)
        return nn.Dense(channels, name="out", **dense)(x)


def window_attention(
    attention: WindowAttention, x: jax.Array, shift: bool, mask: str = "regions"
) -> jax.Array:
    """Applies window attention to x [B, H, W, C]; with `shift`, moved by half a window."""
    _, height, width, _ = x.shape
    window, step = attention.window, attention.window // 2 if shift else 0
    keep_apart = jnp.asarray(shift_mask(height, width, window, mask)) if step else None
    if step:
        x = jnp.roll(x, (-step, -step), axis=(1, 2))
    x = merge(attention(partition(x, window), keep_apart), height, width, window)
    return jnp.roll(x, (step, step), axis=(1, 2)) if step else x
