"""PSNR and SSIM of 8-bit RGB images, batched, one figure per image.

Both are as in the published table: PSNR over all three channels together, SSIM (Wang et al.,
2004) with an 11 x 11 Gaussian window of sigma 1.5, the valid region only, the mean over
channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB; infinite for equal images.

    Args:
      images: uint8 [B, H, W, 3].
      targets: uint8 of the same shape.

    Returns:
      float64 [B].
    """
    _check_pair(images, targets)
    errors = np.asarray(_squared_error_by_line(images, targets), np.float64)
    mean = errors.sum(axis=1) / np.prod(images.shape[1:])
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / mean)


def ssim(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Structural similarity in [-1, 1]; 1 for equal images.

    Args:
      images: uint8 [B, H, W, 3], at least 11 x 11 pixels.
      targets: uint8 of the same shape.

    Returns:
      float64 [B].
    """
    _check_pair(images, targets)
    if min(images.shape[1:3]) < _WINDOW:
        raise ValueError(f"SSIM needs at least {_WINDOW} x {_WINDOW} pixels, got {images.shape}")
    return np.asarray(_ssim_by_line(images, targets), np.float64).mean(axis=1)


def _check_pair(images: np.ndarray, targets: np.ndarray) -> None:
    if images.dtype != np.uint8 or targets.dtype != np.uint8:
        raise ValueError(f"expected uint8 images, got {images.dtype} and {targets.dtype}")
    if images.shape != targets.shape or images.ndim != 4:
        raise ValueError(f"expected equal shapes [B, H, W, 3]: {images.shape}, {targets.shape}")


@jax.jit
def _squared_error_by_line(images: jax.Array, targets: jax.Array) -> jax.Array:
    """int32 [B, H]: exact, because a line of 11,000 RGB pixels still fits into 31 bits."""
    difference = images.astype(jnp.int32) - targets.astype(jnp.int32)
    return jnp.sum(difference**2, axis=(2, 3))


@jax.jit
def _ssim_by_line(images: jax.Array, targets: jax.Array) -> jax.Array:
    """float32 [B, H - 10]: short sums on the device, the long one in float64 on the host."""
    # Variances do not change with the origin: centring keeps float32 from cancelling.
    (x, x_mean), (y, y_mean) = _centred(images), _centred(targets)
    blur = functools.partial(_blur, rows=images.shape[1], columns=images.shape[2])
    mu_x, mu_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mu_x**2, blur(y * y) - mu_y**2
    covariance = blur(x * y) - mu_x * mu_y
    mu_x, mu_y = mu_x + x_mean, mu_y + y_mean
    luminance = (2 * mu_x * mu_y + _C1) / (mu_x**2 + mu_y**2 + _C1)
    structure = (2 * covariance + _C2) / (var_x + var_y + _C2)
    return jnp.mean(luminance * structure, axis=(2, 3))


def _centred(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    images = images.astype(jnp.float32)
    mean = jnp.mean(images, axis=(1, 2), keepdims=True)
    return images - mean, mean


def _blur(images: jax.Array, rows: int, columns: int) -> jax.Array:
    """Valid Gaussian filtering as two matrix products: fast on every kind of device."""
    return jnp.einsum(
        "ph,bhwc,qw->bpqc",
        _gaussian_bands(rows),
        images,
        _gaussian_bands(columns),
        precision=jax.lax.Precision.HIGHEST,
    )


def _gaussian_bands(size: int) -> np.ndarray:
    """float32 [size - 10, size]: each line is the window at one position."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window /= window.sum()
    bands = np.zeros((size - _WINDOW + 1, size), np.float32)
    for line in range(len(bands)):
        bands[line, line : line + _WINDOW] = window
    return bands
