"""Noise that belongs to a plate, not to the batch that it is drawn in."""

from collections.abc import Callable

import jax


def noise_of(keys: jax.Array, shape: tuple[int, ...]) -> Callable[[jax.Array | int], jax.Array]:
    """Gaussian noise [B, *shape] by the index of a step, each plate's by its key [B]."""

    def draw(index: jax.Array | int) -> jax.Array:
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), shape))(keys)

    return draw


def sample_keys(key: jax.Array, position: jax.Array) -> jax.Array:
    """A key for each sample [B] by its place in the global batch, however that is spread."""
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(position)
