"""The lens: diffraction and aberration, defocus, motion during the exposure.

All act on linear light, float32 RGB [H, W, 3]; `scale` is the number of samples a sensor pixel, so
that blur is computed finer than the sensor samples it.
"""

import cv2
import numpy as np


def diffraction(f_number: float, pixel: float, wavelength: float = 0.55) -> float:
    """Returns the Gaussian spread of a diffraction-limited lens, in pixels.

    0.42 wavelengths times the f-number: Zhang, Zerubia and Olivo-Marin, "Gaussian approximations of
    fluorescence microscope point-spread function models", Applied Optics 2007.

    Args:
      f_number: 2 to 8 on roadside cameras.
      pixel: pitch, micrometres.
      wavelength: micrometres.
    """
    return 0.42 * wavelength * f_number / pixel


def defocus(distance: float, focus: float, focal: float, f_number: float, pixel: float) -> float:
    """Returns the diameter of the circle of confusion, in pixels (thin lens).

    Hecht, "Optics", chapter 5. A traffic lens of 25 to 50 mm, focused at 20 to 50 m, leaves a plate
    at four times that distance a disc of 0.5 to 3 pixels.

    Args:
      distance: of the plate, metres.
      focus: distance at which the lens is focused, metres.
      focal: focal length, millimetres.
      f_number: focal length over aperture.
      pixel: pitch, micrometres.
    """
    focal_m = focal * 1e-3
    circle = focal_m**2 / f_number * abs(distance - focus) / (distance * (focus - focal_m))
    return circle / (pixel * 1e-6)


def point_spread(disc: float, motion: tuple[float, float], scale: int) -> np.ndarray:
    """Returns the kernel of defocus and motion, float32 [n, n], sum 1.

    A disc for an open round aperture; a straight, even line for constant motion with an open
    shutter (Potmesil and Chakravarty, "Modeling motion blur in computer-generated images",
    SIGGRAPH 1983).

    Args:
      disc: diameter, pixels; 0 to 3 on roadside cameras that are focused nearer than the frame.
      motion: displacement (x, y) during the exposure, pixels; 0 to 3 at 1/500 s.
      scale: samples a pixel.
    """
    reach = disc * scale / 2 + max(abs(v) for v in motion) * scale / 2
    half = int(np.ceil(reach)) + 1
    axis = np.arange(-half, half + 1, dtype=np.float32)
    steps = int(np.ceil(np.hypot(*motion) * scale)) + 1
    radius = max(disc * scale / 2, 0.5)
    along = (np.arange(steps, dtype=np.float32) + 0.5) / np.float32(steps) - np.float32(0.5)
    x, y = (axis - np.float32(v * scale) * along[:, None] for v in motion)
    distance = np.sqrt(x[:, None, :] ** 2 + y[:, :, None] ** 2)
    # A disc with a soft edge.
    kernel = np.clip(np.float32(radius + 0.5) - distance, 0.0, 1.0).sum(axis=0)
    return (kernel / kernel.sum()).astype(np.float32)


def blur(
    light: np.ndarray, sigma: float, disc: float, motion: tuple[float, float], scale: int
) -> np.ndarray:
    """Blurs light by the lens (Gaussian of `sigma` pixels), defocus and motion; see above."""
    edge = cv2.BORDER_REPLICATE
    light = cv2.GaussianBlur(light, (0, 0), max(sigma * scale, 0.3), borderType=edge)
    if max(disc, *(abs(v) for v in motion)) * scale < 0.5:
        return light
    return cv2.filter2D(light, -1, point_spread(disc, motion, scale), borderType=edge)


def sample(light: np.ndarray, scale: int) -> np.ndarray:
    """Integrates light over pixels of `scale` x `scale` samples: float32."""
    size = light.shape[1] // scale, light.shape[0] // scale
    return cv2.resize(light, size, interpolation=cv2.INTER_AREA)
