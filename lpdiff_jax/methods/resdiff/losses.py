"""What ResDiff's CNN minimises: differences of Fourier and of wavelet coefficients.

Shang et al., "ResDiff" (AAAI 2024), section 3.2.
"""

import jax
import jax.numpy as jnp

from lpdiff_jax.models.baselines.wavelet import haar_bands

FOURIER_WEIGHT = 0.2
WAVELET_WEIGHT = 0.1
_LEVELS = 4


def fourier_loss(image: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared difference of orthonormal Fourier coefficients of [B, H, W, C]: [B].

    By Parseval's theorem it is that of the pixels, and computed so.
    """
    return jnp.square(image - target).mean((1, 2, 3))


def wavelet_loss(image: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared difference of each Haar band of each of four levels, summed: [B]."""
    bands = haar_bands(image - target, _LEVELS)
    total = sum(jnp.square(band).mean((2, 3, 4)).sum(0) for band in bands)
    return jnp.asarray(total)


def frequency_loss(image: jax.Array, target: jax.Array) -> jax.Array:
    """The CNN's loss for images [B, H, W, C] in [-1, 1]: [B]."""
    fourier, wavelet = fourier_loss(image, target), wavelet_loss(image, target)
    return FOURIER_WEIGHT * fourier + WAVELET_WEIGHT * wavelet
