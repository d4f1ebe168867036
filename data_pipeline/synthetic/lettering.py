"""The characters of a plate: glyphs in the boxes of its style, and how they may differ.

The typeface of GA 36-2018 is not freely available: characters drawn as strokes of our own stand for
it (`strokes`), one alphabet for plates of one row, one for new energy; two fonts stand beside them.
What is trained on one typeface reads that typeface; `varied_lettering` draws another each time
(domain randomisation: Tobin et al., IROS 2017).
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.errors import DataError
from data_pipeline.fonts import FONTS, NOTO
from data_pipeline.synthetic import strokes
from data_pipeline.synthetic.styles import LETTERS, PlateStyle

ROBOTO = "Roboto-Bold-plates.ttf"
STROKES, ENERGY = "strokes", "energy"
_ALPHABETS = {STROKES: strokes.ROW, ENERGY: strokes.ENERGY}
# The files of the fonts of `LETTERS`, but for strokes, which are drawn.
LATIN = dict(zip(LETTERS, (NOTO, ROBOTO, STROKES, ENERGY), strict=True))
# What `letters` may be beside them: another lettering each time.
VARIED = "varied"
_FONT_SIZE = 320
# Squeezing 2:1 makes horizontal strokes twice as thick as vertical ones; the standard's are even.
_THINNING = 0.055
_BAR_WIDTH = 0.21
# Millimetres, of a character on a Chinese plate.
_LETTER_WIDTH, _LETTER_HEIGHT = 45.0, 90.0
# Millimetres, about a character: it is moved, turned and stretched rather than wrinkled.
_BEND_GRAIN = 40.0


@dataclass(frozen=True)
class Lettering:
    """How the characters of one plate are made.

    Attributes:
      stroke: by which strokes are wider than the font's, whole millimetres; negative: thinner.
      width, height: size of the characters, shares of their boxes (at most 1), in whose middles
        they stand.
      latin: `STROKES` or `ENERGY`, which draw Chinese characters too, or the file of the font of
        letters and digits, beside which they are Noto's.
      bend: by which outlines stray, millimetres root mean square, alike within a character.
      seed: of the bending.
      fade: share of the paint that has gone, 0 to 1: the ground shows through.
    """

    stroke: int = 0
    width: float = 1.0
    height: float = 1.0
    latin: str = NOTO
    bend: float = 0.0
    seed: int = 0
    fade: float = 0.0

    def layers(
        self, text: str, style: PlateStyle, shape: tuple[int, ...], scale: float
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Draws a text, a layer for each of its colours.

        Args:
          text: one character a box.
          style: boxes and colours.
          shape: (H, W) of the plate, pixels.
          scale: pixels a millimetre.

        Yields:
          The colour `#rrggbb`, and its coverage, float32 [H, W] in 0..1.
        """
        colours = [style.colours.get(character, style.foreground) for character in text]
        for colour in dict.fromkeys(colours):
            layer = np.zeros(shape[:2], np.float32)
            for character, box, its in zip(text, style.boxes, colours, strict=True):
                if its == colour:
                    x, y, w, h = (round(v * scale) for v in self._resized(box))
                    bar = style.bar_one and character == "1"
                    layer[y : y + h, x : x + w] = glyph(
                        character, w, h, bar, self.stroke, self.latin
                    )
            yield colour, self._bent(layer, scale) * (1.0 - self.fade)

    def _resized(self, box: tuple[float, float, float, float]) -> tuple[float, ...]:
        x, y, w, h = box
        return (
            x + w * (1 - self.width) / 2, y + h * (1 - self.height) / 2,
            w * self.width, h * self.height,
        )  # fmt: skip

    def _bent(self, layer: np.ndarray, scale: float) -> np.ndarray:
        """Moves the points of a layer [H, W] by a smooth random field."""
        if not self.bend:
            return layer
        rows, columns = layer.shape
        grain = _BEND_GRAIN * scale
        coarse = round(rows / grain) + 2, round(columns / grain) + 2, 2
        knots = np.random.default_rng(self.seed).normal(0.0, self.bend * scale, coarse)
        field = cv2.resize(knots, (columns, rows), interpolation=cv2.INTER_CUBIC)
        y, x = np.mgrid[:rows, :columns]
        at = (field + np.dstack([x, y])).astype(np.float32)
        return cv2.remap(layer, at[..., 0], at[..., 1], cv2.INTER_LINEAR)


def plain_lettering(letters: str) -> Lettering:
    """Returns the lettering of that name, one of `LETTERS`, fresh and of full size.

    Raises:
      DataError: there is no such lettering.
    """
    if letters not in LATIN:
        known = ", ".join([*LATIN, VARIED])
        raise DataError(f"{letters}: no such letters; choose of {known}")
    return Lettering(latin=LATIN[letters])


def varied_lettering(rng: np.random.Generator) -> Lettering:
    """Draws a lettering: strokes or one of two fonts, thin or wide, small or full, bent, pale."""
    return Lettering(
        stroke=int(rng.integers(-3, 2)),
        width=float(rng.uniform(0.86, 1.0)),
        height=float(rng.uniform(0.86, 1.0)),
        latin=str(rng.choice([STROKES, ENERGY, NOTO, ROBOTO], p=[0.5, 0.2, 0.15, 0.15])),
        bend=float(rng.uniform(0.0, 2.5)),
        seed=int(rng.integers(2**32)),
        fade=max(float(rng.uniform(-0.4, 0.55)), 0.0),
    )


@functools.lru_cache(maxsize=4096)
def glyph(
    character: str,
    width: int,
    height: int,
    bar: bool = False,
    stroke: int = 0,
    latin: str = NOTO,
) -> np.ndarray:
    """Returns a character stretched to its box: float32 [height, width] coverage in 0..1.

    Args:
      character: one that the font has.
      width: of the box in pixels.
      height: of the box in pixels.
      bar: draw a bare upright bar instead, the 1 of embossed Chinese plates.
      stroke: by which its strokes are wider, in millimetres of a character 90 mm high, before it
        is stretched to its box again.
      latin: `STROKES`, `ENERGY`, or the file of the font of letters and digits.

    Raises:
      DataError: the font lacks the character.
    """
    coverage = np.zeros((height, width), np.float32)
    if bar:
        half = max(round(width * (_BAR_WIDTH + stroke / _LETTER_WIDTH) / 2), 1)
        coverage[:, width // 2 - half : width // 2 + half] = 1.0
        return coverage
    chinese = ord(character) > 127
    font = NOTO if chinese and latin not in _ALPHABETS else latin
    ink = _ink(character, font, stroke)
    # Narrow characters (1, I, J) keep the squeeze of a full one instead of filling the box.
    full = ink.shape[1] if chinese else max(ink.shape[1], _ink("E", font, stroke).shape[1])
    ink_width = min(max(round(width * ink.shape[1] / full), 1), width)
    left = (width - ink_width) // 2
    coverage[:, left : left + ink_width] = cv2.resize(
        ink, (ink_width, height), interpolation=cv2.INTER_AREA
    )
    return coverage


@functools.lru_cache(maxsize=1024)
def _ink(character: str, font: str, stroke: int = 0) -> np.ndarray:
    """Returns a glyph cropped to its ink, strokes evened, float32 in 0..1; see `glyph`."""
    if font in _ALPHABETS:
        drawn = strokes.draw_letter(character, stroke, _ALPHABETS[font])
        return _ink(character, NOTO, stroke) if drawn is None else drawn.astype(np.float32) / 255.0
    face = _face(font)
    missing = bytes(face.getmask("\uffff"))
    if bytes(face.getmask(character)) == missing or not character.isprintable():
        raise DataError(f"{character!r}: the plate font has no such character")
    canvas = Image.new("L", (_FONT_SIZE * 2, _FONT_SIZE * 2))
    ImageDraw.Draw(canvas).text((_FONT_SIZE // 2, 0), character, font=face, fill=255)
    ink = np.asarray(canvas.crop(canvas.getbbox()))
    chinese = ord(character) > 127
    if not chinese:
        thickness = max(round(_FONT_SIZE * _THINNING), 1)
        ink = _crop(cv2.erode(ink, np.ones((thickness, 1), np.uint8), borderValue=(0,)))
    if stroke:
        # What the box of 45 x 90 mm will hold, before it is squeezed; see `glyph`.
        full = max(ink.shape[1], 0 if chinese else _ink("E", font).shape[1])
        sides = abs(stroke) * ink.shape[0] / _LETTER_HEIGHT, abs(stroke) * full / _LETTER_WIDTH
        kernel = np.ones([max(round(side), 1) for side in sides], np.uint8)
        change = cv2.dilate if stroke > 0 else cv2.erode
        margin = [(side, side) for side in kernel.shape]
        ink = _crop(change(np.pad(ink, margin), kernel, borderValue=(0,)))
    return ink.astype(np.float32) / 255.0


def _crop(ink: np.ndarray) -> np.ndarray:
    """Returns a uint8 glyph without its empty rows and columns."""
    rows, columns = (np.flatnonzero(ink.max(axis=axis) > 127) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@functools.lru_cache(maxsize=2)
def _face(font: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONTS / font), _FONT_SIZE)
