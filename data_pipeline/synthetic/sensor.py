"""The sensor and the camera's picture processing, from linear light to a picture.

Order in a camera: exposure, colour filter, noise, clipping, demosaicking, white balance, noise
reduction, tone curve, colour, sharpening.
"""

import cv2
import numpy as np


def expose(
    light: np.ndarray, electrons: float, read_noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Adds photon noise and read noise, and clips at the full well.

    The noise model of EMVA standard 1288: variance = signal + read noise squared, in electrons; the
    photon noise by its Gaussian limit. At unit gain a pixel of 3 micrometres holds some 10,000
    electrons; 24 dB of gain leave 600.

    Args:
      light: float32, 1 = white.
      electrons: the electrons of white, after the gain.
      read_noise: electrons, 2 to 8 with CMOS.
      rng: the generator of the noise.

    Returns:
      float32 of the same shape in [0, 1].
    """
    variance = np.maximum(light, 0.0) / np.float32(electrons)
    variance += np.float32((read_noise / electrons) ** 2)
    noise = rng.standard_normal(light.shape, dtype=np.float32) * np.sqrt(variance)
    return np.clip(light + noise, 0.0, 1.0)


def mosaic(light: np.ndarray) -> np.ndarray:
    """Samples RGB [H, W, 3] through an RGGB filter array (Bayer, US patent 3,971,065): [H, W]."""
    raw = light[..., 1].copy()
    raw[::2, ::2] = light[::2, ::2, 0]
    raw[1::2, 1::2] = light[1::2, 1::2, 2]
    return raw


def demosaic(raw: np.ndarray) -> np.ndarray:
    """Interpolates an RGGB picture in [0, 1], [H, W], to RGB: float32 [H, W, 3].

    Edge-aware (Hamilton and Adams, US patent 5,629,734), as OpenCV has it.
    """
    levels = np.round(np.clip(raw, 0.0, 1.0) * 65535.0).astype(np.uint16)
    padded = cv2.copyMakeBorder(levels, 2, 2, 2, 2, cv2.BORDER_REFLECT_101)
    # OpenCV names the pattern by the second row and column: RGGB is its BayerBG.
    colour = cv2.demosaicing(padded, cv2.COLOR_BayerBG2RGB_EA)[2:-2, 2:-2]
    return colour.astype(np.float32) / np.float32(65535.0)


def tone(light: np.ndarray, gamma: float = 2.2, contrast: float = 0.0) -> np.ndarray:
    """Applies the tone curve: light ** (1 / gamma), then an S-curve that keeps 0, 1/2 and 1.

    Args:
      light: float32, 1 = white.
      gamma: the inverse of the display's, ITU-R BT.1886 (2.4) or sRGB (about 2.2).
      contrast: share of the S-curve 3 x^2 - 2 x^3, 0 to 1; cameras' "vivid" settings use some 0.3.

    Returns:
      float32 in [0, 1].
    """
    image = np.power(np.clip(light, 0.0, 1.0), np.float32(1.0 / gamma))
    return image + np.float32(contrast) * (image * image * (3.0 - 2.0 * image) - image)


def denoise(image: np.ndarray, luma: float, chroma: float) -> np.ndarray:
    """Reduces noise as cameras do: luma by an edge-keeping filter, chroma by plain smoothing.

    Tomasi and Manduchi's bilateral filter (ICCV 1998), tonal width 0.1, on luma.

    Args:
      image: float32 RGB in [0, 1].
      luma: spread of the luma filter, pixels; 0 to 1.5.
      chroma: spread of the chroma filter, pixels; 0 to 3: cameras smooth colour far more.
    """
    ycc = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    y, colour = ycc[..., 0], ycc[..., 1:]
    if luma > 0.1:
        y = cv2.bilateralFilter(y, 5, 0.1, luma, borderType=cv2.BORDER_REPLICATE)
    if chroma > 0.1:
        colour = cv2.GaussianBlur(colour, (0, 0), chroma, borderType=cv2.BORDER_REPLICATE)
    return cv2.cvtColor(cv2.merge([y, colour]), cv2.COLOR_YCrCb2RGB)


def saturate(image: np.ndarray, amount: float) -> np.ndarray:
    """Multiplies the distance of every colour from its grey.

    The colour matrix of a camera in one number (ITU-R BT.601 luma is the grey).

    Args:
      image: float32 RGB in [0, 1].
      amount: 1 leaves it unchanged; cameras offer 0.5 to 1.6.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return grey + np.float32(amount) * (image - grey)


def sharpen(image: np.ndarray, amount: float, radius: float, limit: float = 0.2) -> np.ndarray:
    """Unsharp masking of luma, which leaves halos along edges.

    Polesel, Ramponi and Mathews, "Image enhancement via adaptive unsharp masking", IEEE TIP 2000.

    Args:
      image: float32 RGB in [0, 1].
      amount: 0.3 to 5 on surveillance cameras; a step of h overshoots by up to amount * h / 2.
      radius: the spread of the mask, pixels; 0.7 to 2.
      limit: the limit of the overshoot, share of white; picture processors call it overshoot
        control.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(luma, (0, 0), radius, borderType=cv2.BORDER_REPLICATE)
    halo = np.tanh((luma - smooth) * np.float32(amount / limit)) * np.float32(limit)
    return image + halo[..., None]
