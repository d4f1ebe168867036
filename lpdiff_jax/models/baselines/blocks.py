"""What the compared networks share: shuffles, resizing, and PyTorch's initial weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# What PyTorch's convolutions and Linear layers start from: uniform within 1 / sqrt(fan in).
TORCH_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
TRANSFORMER_INIT = nn.initializers.truncated_normal(0.02)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU of slope 0.2, which Real-ESRGAN uses throughout."""
    return nn.leaky_relu(x, 0.2)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, which PyTorch means; by the error function itself, which ONNX has."""
    return 0.5 * x * (1 + jax.lax.erf(x * np.float32(0.5**0.5)))


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
    """[B, H, W, C f f] -> [B, H f, W f, C], channels in PyTorch's order (channel, row, column)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, channels // factor**2, factor, factor)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, height * factor, width * factor, channels // factor**2)


def pixel_unshuffle(x: jax.Array, factor: int) -> jax.Array:
    """[B, H, W, C] -> [B, H / f, W / f, C f f]; undoes `pixel_shuffle`.

    Raises:
      ValueError: a height or width that the factor does not divide.
    """
    batch, height, width, channels = x.shape
    if height % factor or width % factor:
        raise ValueError(f"height and width must be multiples of {factor}, not {height} x {width}")
    x = x.reshape(batch, height // factor, factor, width // factor, factor, channels)
    x = x.transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(batch, height // factor, width // factor, channels * factor**2)


def enlarge_bilinear(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2H, 2W, C], half-pixel centres."""
    batch, height, width, channels = x.shape
    return jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")


def enlarge_bicubic(x: jax.Array, factor: int) -> jax.Array:
    """[B, H, W, C] -> [B, H f, W f, C] as PyTorch's bicubic, which differs from jax's.

    Its kernel has a = -0.75, and beyond the border it repeats the last pixel.
    """
    rows = jnp.asarray(_bicubic_matrix(x.shape[1], factor), x.dtype)
    columns = jnp.asarray(_bicubic_matrix(x.shape[2], factor), x.dtype)
    return jnp.einsum("hi,wj,bijc->bhwc", rows, columns, x, precision="highest")


def _bicubic_matrix(size: int, factor: int, a: float = -0.75) -> np.ndarray:
    """What each of `size * factor` places takes from each of `size`, float64."""
    source = (np.arange(size * factor) + 0.5) / factor - 0.5
    taps = np.floor(source)[:, None] + np.arange(-1, 3)
    d = np.abs(source[:, None] - taps)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    matrix = np.zeros((size * factor, size))
    places = np.clip(taps, 0, size - 1).astype(int)
    np.add.at(matrix, (np.arange(size * factor)[:, None], places), np.where(d <= 1, near, far))
    return matrix
