"""Dropout keyed by sample, so that it does not depend on how a batch is spread over devices."""

import contextlib
import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def per_sample_dropout(keys: jax.Array) -> contextlib.AbstractContextManager[Any]:
    """While entered, every `nn.Dropout` that is applied draws its mask from each sample's own key.

    flax draws one mask for the batch that a device holds: the first sample of every device would
    lose the same activations, and another number of devices would give another run.

    Args:
      keys: [B] keys, one per sample.
    """

    def drop(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        if not isinstance(layer, nn.Dropout) or layer.deterministic or not layer.rate:
            return call(*args, **kwargs)
        number = zlib.crc32("/".join(layer.path).encode())
        shape = args[0].shape[1:]
        keep = jax.vmap(
            lambda key: jax.random.bernoulli(jax.random.fold_in(key, number), 1 - layer.rate, shape)
        )(keys)
        return jnp.where(keep, args[0] / (1 - layer.rate), jnp.zeros_like(args[0]))

    return nn.intercept_methods(drop)
