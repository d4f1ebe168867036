"""Between pixels (uint8, 0..255) and what models see (float32, [-1, 1])."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def to_float(images: ArrayLike) -> jax.Array:
    """uint8 0..255 -> float32 [-1, 1]; `(x / 255 - 0.5) / 0.5` as published."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1.0


def to_uint8(images: jax.Array) -> jax.Array:
    """float [-1, 1], clipped -> uint8 0..255, rounded."""
    return jnp.round((jnp.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)
