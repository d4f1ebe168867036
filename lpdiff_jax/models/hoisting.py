"""The denoiser split in two: what depends on x_t, and what does not.

Sampling calls the denoiser many times with the same condition, at noise levels that are known
beforehand. The condition's half of the stem is then computed once. The noise level only adds a
constant to each channel of each block, so all levels' constants are computed at once and folded
into the biases.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import conv, space_to_depth
from lpdiff_jax.models.unet import NoiseEmbedding, UNet

Params = dict[str, Any]


class Hoisted(flax.struct.PyTreeNode):
    """What a denoiser needs besides x_t and a level's `biases`.

    Attributes:
      params: the denoiser's, of the stem only what x_t meets.
      stem: [B, h, w, features], what the condition adds to the stem's output.
    """

    params: Params
    stem: jax.Array


def hoist(unet: UNet, params: Params, condition: jax.Array) -> Hoisted:
    """Does the condition's [B, H, W, C] part of the work."""
    kernel = params["stem"]["kernel"]
    rows, columns, _, features = kernel.shape
    by_channel = kernel.reshape(rows, columns, unet.patch**2, -1, features)

    def part(channels: slice) -> jax.Array:
        return by_channel[:, :, :, channels].reshape(rows, columns, -1, features)

    known = condition.shape[-1]
    stem = conv(features, dtype=unet.dtype).apply(
        {"params": params["stem"] | {"kernel": part(slice(known))}},
        space_to_depth(condition.astype(unet.dtype), unet.patch),
    )
    return Hoisted(params | {"stem": {"kernel": part(slice(known, None))}}, jnp.asarray(stem))


def level_biases(unet: UNet, params: Params, noise_levels: jax.Array) -> dict[str, jax.Array]:
    """The bias of each block's first convolution at noise_levels [S]: [S, C] by block."""
    embedder = NoiseEmbedding(unet.features, unet.embedding, unet.dtype)
    embedding: Any = embedder.apply({"params": params["embed"]}, noise_levels)
    biases = {}
    for name, block in params.items():
        if "residual" in block:
            bias = block["residual"]["conv1"]["bias"]
            dense = nn.Dense(len(bias), dtype=unet.dtype)
            shift: Any = dense.apply({"params": block["residual"]["embedding"]}, embedding)
            biases[name] = bias + shift
    return biases


def apply_hoisted(
    unet: UNet, hoisted: Hoisted, x_t: jax.Array, biases: dict[str, jax.Array]
) -> jax.Array:
    """The denoiser's output at x_t [B, H, W, 3], with one level's `biases` [C] by block."""
    params = dict(hoisted.params)
    for name, bias in biases.items():
        residual = params[name]["residual"]
        residual = residual | {"conv1": residual["conv1"] | {"bias": bias}}
        params[name] = params[name] | {"residual": residual}
    output: Any = unet.apply({"params": params}, None, x_t, None, stem=hoisted.stem)
    return output
