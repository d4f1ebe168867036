"""Is a picture the crop of one plate? Measures that tell crops from photographs of scenes."""

import math

import cv2
import numpy as np

# No plate looks higher than wide, or ten times as wide as high, unless it is seen from the side.
_NARROWEST, _WIDEST = 1.0, 8.0
# Too small a picture to tell; nobody keeps scenes at that size.
_SMALL = 200
# A picture without edges shows no scene, and no plate either: the reading will say so.
_EDGES = 0.005
# Logistic regression of crops against photographs, `benchmarks.studies.plate_crops`.
_WEIGHTS = {"aspect": 15.8, "pixels": -0.46, "edges": 2.35, "upright": 0.39, "fine": -17.4}
_BIAS = -0.45
# Of the crops that it was fitted to half a percent lie below.
_LEAST = -0.70
_CANVAS = (192, 64)
# The largest of 2,900 real crops has 209,000 pixels.
_MOST_PIXELS = 700_000


def fault_of_crop(image: np.ndarray) -> str | None:
    """Why a picture cannot be the crop of one plate; None where it can.

    Args:
      image: uint8 RGB [H, W, 3].

    Returns:
      A clause that names size and reason, such as "1280 x 720 pixels look like a scene".
    """
    height, width = image.shape[:2]
    size = f"{width} x {height} pixels"
    if not _NARROWEST <= width / height <= _WIDEST:
        return f"{size} have not the shape of a plate"
    if width <= _SMALL:
        return None
    features = measure(image)
    if features["edges"] < _EDGES:
        return None
    if width * height <= _MOST_PIXELS and likeness(features) >= _LEAST:
        return None
    return f"{size} look like a scene, not like the crop of one plate"


def likeness(features: dict[str, float]) -> float:
    """How much a picture is like a plate's crop, in log-odds; see `measure`."""
    return _BIAS + sum(
        weight * value
        for weight, value in (
            (_WEIGHTS["aspect"], math.log(features["aspect"])),
            (_WEIGHTS["pixels"], math.log(features["pixels"])),
            (_WEIGHTS["edges"], math.log(features["edges"] + 0.02)),
            (_WEIGHTS["upright"], math.log(features["upright"] + 0.05)),
            (_WEIGHTS["fine"], features["fine"]),
        )
    )


def measure(image: np.ndarray) -> dict[str, float]:
    """Measures of a picture, uint8 RGB [H, W, 3].

    Returns:
      aspect: width over height; pixels: their number; edges: mean step between neighbours of a
      line, in standard deviations, at 192 x 64; upright: the same over that between lines; fine:
      what is lost at a width of 192 pixels, relative to the standard deviation.
    """
    height, width = image.shape[:2]
    # Above that width only the pixels' number counts, and a photograph would take a second.
    grey = cv2.cvtColor(_at_most(image, 1280), cv2.COLOR_RGB2GRAY).astype(np.float32)
    shrink = cv2.INTER_AREA if width > _CANVAS[0] else cv2.INTER_LINEAR
    small = cv2.resize(grey, _CANVAS, interpolation=shrink)
    small = (small - small.mean()) / (small.std() + 8)
    along, across = (float(np.abs(np.diff(small, axis=axis)).mean()) for axis in (1, 0))
    return {
        "aspect": width / height,
        "pixels": float(width * height),
        "edges": along,
        "upright": along / (across + 1e-6),
        "fine": _lost(grey),
    }


def _lost(grey: np.ndarray) -> float:
    height, width = grey.shape
    if width <= _CANVAS[0]:
        return 0.0
    size = (_CANVAS[0], max(1, round(_CANVAS[0] * height / width)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    back = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return float(np.sqrt(((grey - back) ** 2).mean()) / (grey.std() + 4))


def _at_most(image: np.ndarray, width: int) -> np.ndarray:
    if image.shape[1] <= width:
        return image
    size = (width, max(1, round(width * image.shape[0] / image.shape[1])))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
