"""Blur kernels of the second-order degradation of Real-ESRGAN, and blurring by them.

Wang et al., "Real-ESRGAN" (ICCV workshops 2021), section 3.2. Kernels are float64 [size, size], sum
to 1, and lie on the grid (x along columns, y along rows) centred at 0.
"""

import cv2
import numpy as np

SHAPES = ("gaussian", "generalized", "plateau")


def anisotropic_kernel(
    shape: str,
    size: int,
    sigma_x: float,
    sigma_y: float,
    theta: float = 0.0,
    beta: float = 1.0,
) -> np.ndarray:
    """A kernel that falls off with the squared distance q of an ellipse.

    Args:
      shape: 'gaussian' (exp(-q/2)), 'generalized' (exp(-q^beta/2)) or 'plateau' (1/(1 + q^beta)).
      size: odd.
      sigma_x: the first axis of the ellipse, in pixels.
      sigma_y: the second.
      theta: radians by which the axes are turned.
      beta: the exponent; 'gaussian' has none.

    Raises:
      ValueError: another shape.
    """
    y, x = np.mgrid[:size, :size] - size // 2
    cosine, sine = np.cos(theta), np.sin(theta)
    along, across = cosine * x + sine * y, -sine * x + cosine * y
    q = (along / sigma_x) ** 2 + (across / sigma_y) ** 2
    if shape == "gaussian":
        kernel = np.exp(-q / 2)
    elif shape == "generalized":
        kernel = np.exp(-(q**beta) / 2)
    elif shape == "plateau":
        kernel = 1 / (1 + q**beta)
    else:
        raise ValueError(f"shape is {shape!r}; allowed: {', '.join(map(repr, SHAPES))}")
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> np.ndarray:
    """A disc in the frequencies: what rings like strong compression. `cutoff` is in radians."""
    y, x = np.mgrid[:size, :size] - size // 2
    radius = np.hypot(x, y)
    radius[size // 2, size // 2] = 1
    kernel = cutoff * bessel_j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return kernel / kernel.sum()


def bessel_j1(x: np.ndarray) -> np.ndarray:
    """The Bessel function of the first kind and order one, by its integral over half a period.

    The trapezoidal rule is exact to rounding here, as the integrand is smooth and periodic.
    """
    t = np.linspace(0, np.pi, 257)
    values = np.cos(t - np.asarray(x)[..., None] * np.sin(t))
    inner = values[..., 1:-1].sum(-1)
    return (inner + (values[..., 0] + values[..., -1]) / 2) / 256


def pad_kernel(kernel: np.ndarray, size: int = 21) -> np.ndarray:
    """A kernel amid zeros, [size, size]."""
    margin = (size - len(kernel)) // 2
    return np.pad(kernel, margin)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Cross-correlates an image [H, W, C] with a kernel, reflecting at the borders."""
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
