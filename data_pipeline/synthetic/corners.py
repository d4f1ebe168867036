"""Where the plate stands in a picture whose text is known: a drawn plate is fitted to it.

The fit is that of Evangelidis and Psarakis, "Parametric image alignment using enhanced correlation
coefficient maximization" (IEEE TPAMI 2008), as OpenCV has it: it does not mind contrast and
brightness, and its coefficient tells how good the fit is.
"""

import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.images import read_image
from data_pipeline.synthetic.pictures import read_pictures
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.styles import PlateStyle, load_style
from data_pipeline.synthetic.texts import PROVINCES

# The coefficient from which on a fit is right, as it was for each of the 77 lowest above it, looked
# at, of 2,505 real plates.
GOOD_FIT = 0.65
# The styles that a text may be of, by the colour that is known of a plate.
STYLES = {
    "blue": ("cn-blue",),
    "yellow": ("cn-yellow",),
    "green": ("cn-green",),
    "": ("cn-blue", "cn-green"),
}
# Pixels a millimetre of the drawn plate, and its smoothing, first and second, in pixels.
_SCALE = 0.4
_FILTERS = (9, 3)
_STEPS = 40
# First guesses: margins around the plate, share of the picture's width (twice that of its height),
# and how far the plate falls from left to right, share of the height that it leaves.
_INSETS = (0.0, 0.04, 0.08)
_FALLS = (0.0, 0.3, -0.3, 0.6, -0.6, 1.0, -1.0)


def style_of(text: str, colour: str = "") -> PlateStyle | None:
    """The style of a plate of this text and colour; None: it is none of `STYLES`.

    A province and as many letters and digits as the style has boxes will do: not every pattern that
    is met in traffic is one of the style's.
    """
    civil = text[:1] in PROVINCES and text[1:].isascii() and text[1:].isalnum()
    styles = map(load_style, STYLES.get(colour, ()))
    return next((s for s in styles if civil and len(s.boxes) == len(text)), None)


def locate(
    image: np.ndarray, text: str, colour: str = "", box: np.ndarray | None = None
) -> tuple[np.ndarray, float] | None:
    """Finds the corners of a plate.

    Args:
      image: uint8 RGB [H, W, 3], roughly the plate's upright box.
      text: the plate's.
      colour: `blue`, `yellow`, `green` or "" where it is not known.
      box: a first guess of the corners, [4, 2] clockwise from the upper left, where there is one.

    Returns:
      Corners [4, 2] in pixels, clockwise from the upper left, and the correlation coefficient of
      the drawn plate with the picture within them; None where no plate can be fitted.
    """
    style = style_of(text, colour)
    if style is None:
        return None
    drawn = _template(text, style)
    # Red tells white from blue best, and black from yellow and from green as well as any.
    edge = round(0.15 * image.shape[1])
    red = cv2.copyMakeBorder(image[..., 0], edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    red = red.astype(np.float32)
    guesses = [_to_picture(q + edge, drawn.shape) for q in _guesses(image.shape, style, box)]
    guesses.sort(key=lambda warp: -_likeness(red, warp, drawn))
    fits = [fit for warp in guesses[:3] if (fit := _fit(red, warp, drawn)) is not None]
    if not fits:
        return None
    coefficient, warp = max(fits, key=lambda fit: fit[0])
    corners = cv2.perspectiveTransform(_outline(drawn.shape)[:, None], warp)[:, 0]
    return corners + 0.5 - edge, coefficient


@functools.lru_cache(maxsize=64)
def _template(text: str, style: PlateStyle) -> np.ndarray:
    """The red of a drawn plate, float32 [h, w]."""
    # A text is a pattern of its own: its characters stand for themselves.
    style = dataclasses.replace(style, patterns={text: 1.0})
    return draw_plate(text, style, _SCALE)[..., 0].astype(np.float32)


def _outline(shape: tuple[int, ...]) -> np.ndarray:
    """The corners of an image of `shape` from the middle of its first pixel, float32 [4, 2]."""
    height, width = shape[:2]
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5


def _to_picture(corners: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The map from a template of `shape` to the quadrangle `corners` of a picture."""
    return cv2.getPerspectiveTransform(_outline(shape), corners.astype(np.float32) - 0.5)


def _guesses(
    shape: tuple[int, ...], style: PlateStyle, box: np.ndarray | None
) -> Iterator[np.ndarray]:
    """Quadrangles [4, 2]: the whole picture, and plates that rise or fall from side to side."""
    height, width = shape[:2]
    if box is not None:
        yield np.asarray(box, float)
    for inset, fall in itertools.product(_INSETS, _FALLS):
        x, y = inset * width, 2.0 * inset * height
        wide, high = width - 2 * x, height - 2 * y
        spare = max(high - wide * style.size[1] / style.size[0], 0.0)
        left, right = max(-fall, 0.0) * spare, max(fall, 0.0) * spare
        corners = [[0, left], [wide, right], [wide, high - left], [0, high - right]]
        yield np.array(corners) + np.array([x, y])


def _likeness(red: np.ndarray, warp: np.ndarray, drawn: np.ndarray) -> float:
    """Correlation of smoothed pictures."""
    seen = cv2.warpPerspective(
        red, warp, drawn.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    first, second = (cv2.GaussianBlur(image, (0, 0), 3.0) for image in (seen, drawn))
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / max(first.std() * second.std() * first.size, 1e-6))


def _fit(red: np.ndarray, warp: np.ndarray, drawn: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Improves a map from the drawn plate to the picture; None where it goes astray."""
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, 1e-4)
    coefficient, warp = 0.0, warp.astype(np.float32)
    everywhere = np.full_like(red, 255, np.uint8)
    try:
        for size in _FILTERS:
            coefficient, warp = cv2.findTransformECC(
                drawn, red, warp, cv2.MOTION_HOMOGRAPHY, stop, everywhere, size
            )
    except cv2.error:  # it did not converge
        return None
    return float(coefficient), warp


def locate_all(folder: str | Path, output: Path) -> tuple[int, int]:
    """Finds the plates of a folder of pictures, and writes the corners of those that it finds.

    Args:
      folder: see `pictures`.
      output: the file: picture name -> `corners` and `fit`, the correlation coefficient.

    Returns:
      How many were found with a coefficient of `GOOD_FIT` at least, and how many were looked at.
    """
    known = read_pictures(folder)
    found = {}
    for picture in known:
        box = None if picture.corners is None else np.array(picture.corners)
        fit = locate(read_image(picture.path), picture.text, picture.colour, box)
        if fit is not None and fit[1] >= GOOD_FIT:
            corners = np.round(fit[0].astype(float), 2).tolist()
            found[picture.path.stem] = {"corners": corners, "fit": round(fit[1], 3)}
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    temporary.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(output)
    return len(found), len(known)
