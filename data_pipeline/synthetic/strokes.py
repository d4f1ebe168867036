"""Characters drawn as strokes, in the manner of Chinese plates.

`fonts/strokes.json` holds our own lines: for each alphabet and character, lines of
`[width, x, y, x, y, ...]` in quarter millimetres of a character of 45 x 90 mm. They were fitted to
the shapes of GA 36-2018 (`benchmarks/synthetic/fit_strokes.py`) and are measured against the
medians of real plates (`benchmarks/synthetic/lettering_shapes.py`).
"""

import functools
import json
from pathlib import Path

import cv2
import numpy as np

# Plates of one row, and the other alphabet of new-energy plates.
ROW, ENERGY = "140", "green"
_FILE = Path(__file__).parent / "fonts" / "strokes.json"
_WIDTH, _HEIGHT = 45.0, 90.0  # millimetres, of a character
_UNIT = 4.0  # steps a millimetre in the file
_SHARP = 4  # pixels a millimetre
_THINNEST = 2.0  # millimetres
# Not on plates of the standard's own, but on those of police and of other countries.
_LIKE = {"O": "0", "I": "1"}


@functools.lru_cache(maxsize=1)
def _alphabets() -> dict[str, dict[str, list[list[int]]]]:
    return dict(json.loads(_FILE.read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=1024)
def draw_letter(character: str, stroke: int = 0, alphabet: str = ROW) -> np.ndarray | None:
    """Draws a character that fills 45 x 90 mm; narrow ones are cut to their width.

    Args:
      character: A to Z, 0 to 9, a province or one of 警学港澳使领挂.
      stroke: by which strokes are wider, millimetres; the character stays as large.
      alphabet: `ROW` or `ENERGY`, which has letters, digits and provinces; else `ROW` is taken.

    Returns:
      uint8 [H, W], 255 where it is; or None where there is no such character.
    """
    alphabets = _alphabets()
    name = _LIKE.get(character, character)
    lines = alphabets[alphabet].get(name) or alphabets[ROW].get(name)
    if lines is None:
        return None
    canvas = np.zeros((round(_HEIGHT * _SHARP), round(_WIDTH * _SHARP)), np.uint8)
    for width, points in _moved(lines, float(stroke)):
        whole = np.round(points * _SHARP * 256).astype(np.int32)
        cv2.polylines(canvas, [whole], False, 255, max(round(width * _SHARP), 1), cv2.LINE_AA, 8)
    columns = np.flatnonzero(canvas.max(axis=0) > 127)
    return canvas[:, columns[0] : columns[-1] + 1]


def _moved(lines: list[list[int]], stroke: float) -> list[tuple[float, np.ndarray]]:
    """Returns widths and points in millimetres; wider strokes move inwards by half of that."""
    size = np.array([_WIDTH, _HEIGHT])
    usual = float(np.median([line[0] for line in lines])) / _UNIT
    shrink = (size - usual - stroke) / (size - usual)
    drawn = []
    for width, *numbers in lines:
        points = np.array(numbers, float).reshape(-1, 2) / _UNIT
        points = size / 2 + (points - size / 2) * shrink
        drawn.append((max(width / _UNIT + stroke, _THINNEST), points))
    return drawn
