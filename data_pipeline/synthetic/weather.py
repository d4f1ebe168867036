"""Air and light between the car and the camera: haze, shimmer, rain, glare, night.

All act on linear light, float32.
"""

import cv2
import numpy as np

from data_pipeline.synthetic.surface import in_row


def transmission(distance: float, visibility: float) -> float:
    """Returns the share of light that crosses hazy air.

    Koschmieder's law: contrast falls to 2 % at the visibility (WMO: 5 %), exp(-3.912 d / V).

    Args:
      distance: the distance of the plate, metres.
      visibility: metres; above 10,000 is clear, 1,000 is fog by definition.
    """
    return float(np.exp(-3.912 * distance / visibility))


def haze(light: np.ndarray, passed: float, airlight: np.ndarray) -> np.ndarray:
    """Mixes the scene with the light scattered by the air.

    Narasimhan and Nayar, "Vision and the atmosphere", IJCV 2002: L * t + A * (1 - t).

    Args:
      light: linear light, [H, W, 3].
      passed: the `transmission`, 0..1.
      airlight: [3], the horizon's light, 0.4 to 1.
    """
    hazy = light * np.float32(passed)
    rows = hazy.reshape(len(hazy), -1)
    rows += in_row(airlight * (1.0 - passed), hazy.shape[1])
    return hazy


def shimmer(light: np.ndarray, shift: float, grain: float, rng: np.random.Generator) -> np.ndarray:
    """Moves the points of a picture by a smooth random field, as air over a hot road does.

    Roggemann and Welsh, "Imaging through turbulence", 1996: paths that are some centimetres apart
    are bent differently; 10 to 50 microradians are 0.1 to 0.6 pixels of a traffic camera.

    Args:
      light: linear light, [H, W, 3].
      shift: samples, root mean square in x and in y.
      grain: distance of independent shifts, samples.
      rng: the generator of the field.
    """
    height, width = light.shape[:2]
    coarse = round(height / grain) + 3, round(width / grain) + 3, 2
    knots = shift * rng.standard_normal(coarse, dtype=np.float32)
    field = cv2.resize(knots, (width, height), interpolation=cv2.INTER_LINEAR)
    across = field[..., 0] + np.arange(width, dtype=np.float32)
    down = field[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(light, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def rain(
    light: np.ndarray, rate: float, scale: float, exposure: float, rng: np.random.Generator
) -> np.ndarray:
    """Adds the streaks of falling drops.

    Garg and Nayar, "Vision and rain", IJCV 2007: drops fall at about 7 m/s, a streak is as long as
    the fall during the exposure and brighter than its background. The number of streaks is taken
    proportional to the rate (a simplification of Marshall and Palmer's drop-size law).

    Args:
      light: linear light, [H, W, 3].
      rate: millimetres per hour: 2.5 light, 10 heavy, 50 cloudburst.
      scale: samples a millimetre on the plate.
      exposure: the time of the exposure, seconds.
      rng: the generator that decides where the drops are.
    """
    height, width = light.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    count = rng.poisson(rate * 0.5)
    for x, y, depth in zip(
        rng.uniform(0, width, count), rng.uniform(0, height, count), rng.uniform(0.3, 1.0, count),
        strict=True,
    ):  # fmt: skip
        length = 7000.0 * exposure * scale / depth  # nearer drops leave longer streaks
        end = int(x + 0.1 * length), int(y + length)
        width_mm = 6.0 / depth  # a drop of 2 to 3 mm, out of focus
        thickness = max(round(width_mm * scale), 1)
        bright = float(rng.uniform(0.05, 0.3))
        cv2.line(streaks, (int(x), int(y)), end, bright, thickness, cv2.LINE_AA)
    return light + streaks[..., None]


def glare(light: np.ndarray, strength: float, centre: tuple[float, float]) -> np.ndarray:
    """Adds a reflected light source: a smooth bright patch and its veil.

    Sharp core and wide skirt as in Spencer, Shirley, Zimmerman and Greenberg, "Physically-based
    glare effects for digital images", SIGGRAPH 1995.

    Args:
      light: linear light, [H, W, 3].
      strength: the strength of the core in units of white, 0.3 to 2.
      centre: (x, y) as shares of width and height; may lie outside.
    """
    height, width = light.shape[:2]
    y, x = np.ogrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    square = ((x - centre[0]) * width / height) ** 2 + (y - centre[1]) ** 2
    patch = 0.8 * np.exp(-square / 0.12) + 0.2 / (1.0 + square / 0.25)
    return light + (strength * patch[..., None]).astype(np.float32)
