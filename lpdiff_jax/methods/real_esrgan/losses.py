"""What Real-ESRGAN's second stage minimises, and the sharpening of its targets.

Wang et al., "Real-ESRGAN" (ICCV workshops 2021), section 3; images here are in [0, 1].
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.models.baselines.vgg import VGG

Params = dict[str, Any]

# What the difference at the end of each of VGG's five blocks counts.
PERCEPTUAL_WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)
GAN_WEIGHT = 0.1


def feature_distances(network: VGG, params: Params, a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean absolute differences of VGG's features of images [B, H, W, 3] in [0, 1]: [B, 5]."""
    first, second = (network.apply({"params": params}, x) for x in (a, b))
    distances = jax.tree.map(lambda x, y: _mean(jnp.abs(x - y)), first, second)
    return jnp.stack(distances, axis=1)


def perceptual_loss(network: VGG, params: Params, a: jax.Array, b: jax.Array) -> jax.Array:
    """The weighted sum of `feature_distances`: [B]."""
    return feature_distances(network, params, a, b) @ jnp.asarray(PERCEPTUAL_WEIGHTS)


def adversarial_loss(logits: jax.Array, real: bool) -> jax.Array:
    """Cross entropy of a discriminator's logits [B, H, W, 1] against one answer: [B]."""
    return _mean(jax.nn.softplus(-logits if real else logits))


def _mean(x: jax.Array) -> jax.Array:
    """The mean of each sample of x [B, ...], in float32."""
    return x.astype(jnp.float32).mean(tuple(range(1, x.ndim)))


# --- sharpened targets ------------------------------------------------------------------------


def gaussian_row(size: int = 51, sigma: float = 8.0) -> np.ndarray:
    """A Gaussian of `size` places that sums to 1, float64."""
    places = np.arange(size) - size // 2
    row = np.exp(-(places**2) / (2 * sigma**2))
    return row / row.sum()


def sharpen(x: jax.Array, weight: float = 0.5, threshold: float = 10.0) -> jax.Array:
    """Unsharp masking of images [B, H, W, 3] in [0, 1], H and W over 25.

    Acts where a pixel differs from its surroundings by more than `threshold` grey levels. On
    lettering it draws dark rims along the strokes.
    """
    residual = x - _blur(x)
    mask = _blur((jnp.abs(residual) * 255 > threshold).astype(jnp.float32))
    sharp = jnp.clip(x + weight * residual, 0, 1)
    return mask * sharp + (1 - mask) * x


def _blur(x: jax.Array) -> jax.Array:
    """Blurs [B, H, W, C] by `gaussian_row` both ways, reflecting at the borders."""
    rows, columns = (jnp.asarray(_blur_matrix(size), jnp.float32) for size in x.shape[1:3])
    return jnp.einsum("hi,wj,bijc->bhwc", rows, columns, x, precision="highest")


def _blur_matrix(size: int) -> np.ndarray:
    """What each place takes from each of `size`, those beyond the border folded in."""
    row = gaussian_row()
    reach = len(row) // 2
    if size <= reach:
        raise ValueError(f"images of {size} pixels are too small to sharpen; more than {reach}")
    source = np.pad(np.arange(size), reach, mode="reflect")
    matrix = np.zeros((size, size))
    for offset, weight in enumerate(row):
        np.add.at(matrix, (np.arange(size), source[offset : offset + size]), weight)
    return matrix
