"""A plate drawn from its text, face on and clean.

Sizes follow GA 36-2018, "Motor vehicle number plates of the People's Republic of China":
440 x 140 mm (480 x 140 mm for new energy) with characters of 45 x 90 mm. Its typeface is not
freely available; `lettering` says what stands for it.
"""

import functools
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from data_pipeline.errors import DataError
from data_pipeline.synthetic.lettering import Lettering, glyph, plain_lettering
from data_pipeline.synthetic.styles import PlateStyle
from data_pipeline.synthetic.texts import matches


def draw_plate(
    text: str,
    style: PlateStyle,
    pixels_per_mm: float = 1.0,
    lettering: Lettering | None = None,
) -> np.ndarray:
    """Draws a plate.

    Args:
      text: one character a box of the style.
      style: the style of the plate: size, boxes, colours.
      pixels_per_mm: resolution; 1 gives 140 x 440 pixels for a blue plate.
      lettering: how its characters are made; None makes them as the style says, in fresh paint.

    Returns:
      uint8 RGBA [H, W, 4]; alpha is 0 outside the rounded corners.

    Raises:
      DataError: the text is not one of the style, or there are no such letters.
    """
    if not matches(style, text):
        patterns = ", ".join(style.patterns)
        raise DataError(f"{text!r} is no {style.name} plate; its patterns are {patterns}")
    lettering = lettering or plain_lettering(style.letters)
    ground, frame = _blank(style, pixels_per_mm)
    plate, height = ground.copy(), frame
    for colour, coverage in lettering.layers(text, style, height.shape, pixels_per_mm):
        _blend(plate, _rgb(colour), coverage)
        height = np.maximum(height, coverage)
    _emboss(plate, height, style.relief, pixels_per_mm)
    return plate


def _emboss(plate: np.ndarray, height: np.ndarray, relief: float, scale: float) -> None:
    """Lights raised strokes from above, in place: upper edges brighter, lower edges darker.

    GA 36 raises characters and frame by 1.0 to 1.5 mm on shoulders about as wide.
    """
    if relief == 0.0:
        return
    round_shoulders = cv2.GaussianBlur(height, (0, 0), 1.0 * scale)
    slope = cv2.Sobel(round_shoulders, cv2.CV_32F, 0, 1, ksize=3, scale=0.25)
    # Slopes lie at strokes' edges: everywhere else the plate stays as it is.
    edges = np.flatnonzero(np.abs(slope) > 1e-3)
    change = np.float32(relief) * slope.ravel()[edges]
    flat = plate.view(np.uint32).ravel()  # a pixel is one number, which is faster to take
    pixels = flat[edges]
    for level in pixels.view(np.uint8).reshape(-1, 4).T[:3]:
        lit = level * (1 + change) + 60 * change
        level[...] = np.clip(np.rint(lit), 0, 255)
    flat[edges] = pixels


@functools.lru_cache(maxsize=64)
def _blank(style: PlateStyle, pixels_per_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Draws what all plates of a style share: ground, frame line, marks.

    Returns:
      uint8 RGBA [H, W, 4], and the frame line's coverage, float32 [H, W] in 0..1.
    """
    width, height = (round(v * pixels_per_mm) for v in style.size)
    top, bottom = (np.asarray(_rgb(colour), np.float32) for colour in style.background)
    ramp = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    ground = np.broadcast_to(top + (bottom - top) * ramp, (height, width, 3))
    plate = np.zeros((height, width, 4), np.uint8)
    plate[..., :3] = np.round(ground)
    for mark in style.marks:
        _blend(plate, _rgb(mark["colour"]), _mark(mark, width, height, pixels_per_mm))
    line = np.zeros((height, width), np.float32)
    if style.frame:
        outer = _rounded(width, height, style.frame["inset"], style.corner_radius, pixels_per_mm)
        inset = style.frame["inset"] + style.frame["width"]
        inner = _rounded(width, height, inset, style.corner_radius, pixels_per_mm)
        line = outer - inner
        _blend(plate, _rgb(style.frame["colour"]), line)
    alpha = _rounded(width, height, 0.0, style.corner_radius, pixels_per_mm)
    plate[..., 3] = np.round(alpha * 255.0)
    return plate, line


def _mark(mark: Mapping[str, Any], width: int, height: int, scale: float) -> np.ndarray:
    """Returns the coverage of one mark, float32 [height, width] in 0..1."""
    over = 4  # supersampling, for smooth edges
    if mark["shape"] == "text":
        x, y, w, h = (round(v * scale) for v in mark["box"])
        coverage = np.zeros((height, width), np.float32)
        step = w / len(mark["text"])
        for i, character in enumerate(mark["text"]):
            left = x + round(i * step)
            cell = coverage[y : y + h, left : left + max(round(step * 0.8), 1)]
            if character != " ":
                cell[...] = glyph(character, cell.shape[1], cell.shape[0])
        return coverage
    canvas = np.zeros((height * over, width * over), np.uint8)
    unit = scale * over
    if mark["shape"] == "rectangle":
        x, y, w, h = (round(v * unit) for v in mark["box"])
        canvas[y : y + h, x : x + w] = 255
        return _shrink(canvas, width, height)
    centre = tuple(round(v * unit) for v in mark["centre"])
    radius = round(mark["radius"] * unit)
    if mark["shape"] == "stars":
        for k in range(12):
            angle = np.pi * k / 6
            star = (centre[0] + radius * np.sin(angle), centre[1] - radius * np.cos(angle))
            cv2.circle(canvas, (round(star[0]), round(star[1])), max(radius // 7, 1), 255, -1)
    else:
        thickness = round(mark["width"] * unit) if mark["shape"] == "ring" else -1
        cv2.circle(canvas, centre, radius, 255, thickness)
    return _shrink(canvas, width, height)


def _rounded(width: int, height: int, inset: float, radius: float, scale: float) -> np.ndarray:
    """Returns the coverage of a rounded rectangle inset (mm) from the plate's edge."""
    over = 4
    canvas = Image.new("L", (width * over, height * over))
    margin = inset * scale * over
    box = (margin, margin, width * over - 1 - margin, height * over - 1 - margin)
    corner = max(radius - inset, 0.0) * scale * over
    ImageDraw.Draw(canvas).rounded_rectangle(box, corner, fill=255)
    return _shrink(np.asarray(canvas), width, height)


def _shrink(canvas: np.ndarray, width: int, height: int) -> np.ndarray:
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255.0


def _blend(plate: np.ndarray, colour: tuple[int, int, int], coverage: np.ndarray) -> None:
    """Paints a colour into a uint8 plate [H, W, 4], in place."""
    # Marks and characters leave most of it free: what is not painted is not touched.
    painted = np.flatnonzero(coverage > 0)
    share = coverage.ravel()[painted]
    flat = plate.view(np.uint32).ravel()  # a pixel is one number, which is faster to take
    pixels = flat[painted]
    for level, wanted in zip(pixels.view(np.uint8).reshape(-1, 4).T, colour, strict=False):
        under = level.astype(np.float32)
        under += (np.float32(wanted) - under) * share
        level[...] = np.rint(under, out=under)
    flat[painted] = pixels


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
