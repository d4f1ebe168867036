"""Between pixels (uint8, 0..255) and what models see (float32, [-1, 1])."""

from typing import overload

import jax
import jax.numpy as jnp
import numpy as np

# What comes as numpy's array goes as one: the same numbers, and nothing is compiled for them. XLA
# multiplies by the inverse, where a number is divided by.
_UNIT = np.float32(1) / np.float32(127.5)


@overload
def to_float(images: np.ndarray) -> np.ndarray: ...
@overload
def to_float(images: jax.Array) -> jax.Array: ...
def to_float(images: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """uint8 0..255 -> float32 [-1, 1]; `(x / 255 - 0.5) / 0.5` as published."""
    if isinstance(images, np.ndarray):
        return images.astype(np.float32) * _UNIT - np.float32(1)
    return jnp.asarray(images, jnp.float32) / 127.5 - 1.0


@overload
def to_uint8(images: np.ndarray) -> np.ndarray: ...
@overload
def to_uint8(images: jax.Array) -> jax.Array: ...
def to_uint8(images: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """float [-1, 1], clipped -> uint8 0..255, rounded."""
    if isinstance(images, np.ndarray):
        return np.round((np.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    return jnp.round((jnp.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(jnp.uint8)
