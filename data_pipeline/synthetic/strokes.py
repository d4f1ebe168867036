"""Letters and digits drawn as strokes of even width, in the manner of Chinese plates.

The letterforms are our own, after what GA 36-2018 asks and what plates in traffic show: strokes of
one width, a 3 with a flat top, a 6 and a 9 with straight stems, round ends of 0, C, D, G, Q and U.
"""

import functools

import cv2
import numpy as np

# A stroke is points (x, y) and arcs (centre x, y, radius x, y, from, to), joined by straight lines.
# x and y run from 0 to 1 between the middles of the outermost strokes, y down; degrees from the
# right, clockwise.
_Token = tuple[float, ...]
_TOP, _BOTTOM = (0.5, 0.22, 0.5, 0.22), (0.5, 0.78, 0.5, 0.22)
_BEND = (0.55, 0.26, 0.45, 0.26, -90, 90)
_ROUND: list[_Token] = [(*_TOP, -180, 0), (*_BOTTOM, 0, 180), (0, 0.22)]
_BAR: list[_Token] = [(0.5, 0), (0.5, 1)]
_LETTERS: dict[str, list[list[_Token]]] = {
    "0": [_ROUND],
    "1": [_BAR],
    "2": [[(*_TOP, -175, 30), (0, 1), (1, 1)]],
    "3": [[(0.05, 0), (0.95, 0), (0.42, 0.39), (0.45, 0.69, 0.55, 0.31, -85, 150)]],
    "4": [[(0.66, 0), (0, 0.74), (1, 0.74)], [(0.76, 0.46), (0.76, 1)]],
    "5": [[(0.93, 0), (0.15, 0), (0.08, 0.44), (0.47, 0.67, 0.53, 0.33, -140, 145)]],
    "6": [[(0.68, 0), (0.09, 0.53)], [(0.5, 0.7, 0.5, 0.3, 0, 360)]],
    "7": [[(0, 0), (1, 0), (0.4, 1)]],
    "8": [[(0.5, 0.235, 0.44, 0.235, 0, 360)], [(0.5, 0.735, 0.5, 0.265, 0, 360)]],
    "9": [[(0.32, 1), (0.91, 0.47)], [(0.5, 0.3, 0.5, 0.3, 0, 360)]],
    "A": [[(0, 1), (0.42, 0), (0.58, 0), (1, 1)], [(0.17, 0.66), (0.83, 0.66)]],
    "B": [
        [(0, 0), (0.56, 0.235, 0.38, 0.235, -90, 90), (0, 0.47)],
        [(0, 0), (0, 1), (0.55, 0.735, 0.45, 0.265, 90, -90)],
    ],
    "C": [[(*_TOP, 5, -180), (*_BOTTOM, 180, -5)]],
    "D": [[(0, 0), (*_TOP, -90, 0), (*_BOTTOM, 0, 90), (0, 1), (0, 0)]],
    "E": [[(1, 0), (0, 0), (0, 1), (1, 1)], [(0, 0.48), (0.85, 0.48)]],
    "F": [[(1, 0), (0, 0), (0, 1)], [(0, 0.48), (0.85, 0.48)]],
    "G": [[(*_TOP, 5, -180), (*_BOTTOM, 180, 0), (1, 0.55), (0.55, 0.55)]],
    "H": [[(0, 0), (0, 1)], [(1, 0), (1, 1)], [(0, 0.47), (1, 0.47)]],
    "I": [_BAR],
    "J": [[(0.4, 0), (0.9, 0), (0.45, 0.78, 0.45, 0.22, 0, 165)]],
    "K": [[(0, 0), (0, 1)], [(0.95, 0), (0, 0.62)], [(0.33, 0.42), (1, 1)]],
    "L": [[(0, 0), (0, 1), (1, 1)]],
    "M": [[(0, 1), (0, 0), (0.5, 0.62), (1, 0), (1, 1)]],
    "N": [[(0, 1), (0, 0), (1, 1), (1, 0)]],
    "O": [_ROUND],
    "P": [[(0, 1), (0, 0), _BEND, (0, 0.52)]],
    "Q": [_ROUND, [(0.55, 0.72), (1, 1)]],
    "R": [[(0, 1), (0, 0), _BEND, (0, 0.52)], [(0.5, 0.52), (1, 1)]],
    "S": [[(0.5, 0.235, 0.47, 0.235, -15, -235), (0.5, 0.735, 0.5, 0.265, -55, 165)]],
    "T": [[(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]],
    "U": [[(0, 0), (*_BOTTOM, 180, 0), (1, 0)]],
    "V": [[(0, 0), (0.5, 1), (1, 0)]],
    "W": [[(0, 0), (0.24, 1), (0.5, 0.25), (0.76, 1), (1, 0)]],
    "X": [[(0, 0), (1, 1)], [(1, 0), (0, 1)]],
    "Y": [[(0, 0), (0.5, 0.5), (1, 0)], [(0.5, 0.5), (0.5, 1)]],
    "Z": [[(0, 0), (1, 0), (0, 1), (1, 1)]],
}
_WIDTH, _HEIGHT = 45.0, 90.0  # millimetres, of a character
_STROKE = 10.0
_SHARP = 4  # pixels a millimetre


@functools.lru_cache(maxsize=1024)
def draw_letter(character: str, stroke: int = 0) -> np.ndarray | None:
    """Draws a letter or digit that fills 45 x 90 mm; narrow ones are cut to their width.

    Args:
      character: A to Z or 0 to 9.
      stroke: by which strokes are wider than 10 mm.

    Returns:
      uint8 [H, W], 255 where it is; or None where there is no such letter.
    """
    if character not in _LETTERS:
        return None
    thickness = _STROKE + stroke
    canvas = np.zeros((round(_HEIGHT * _SHARP), round(_WIDTH * _SHARP)), np.uint8)
    room = np.array([_WIDTH - thickness, _HEIGHT - thickness])
    for tokens in _LETTERS[character]:
        points = np.concatenate([_trace(token) for token in tokens]) * room + thickness / 2
        whole = np.round(points * _SHARP * 256).astype(np.int32)
        cv2.polylines(canvas, [whole], False, 255, round(thickness * _SHARP), cv2.LINE_AA, 8)
    columns = np.flatnonzero(canvas.max(axis=0) > 127)
    return canvas[:, columns[0] : columns[-1] + 1]


def _trace(token: _Token) -> np.ndarray:
    """Returns the points of a token, [n, 2]."""
    if len(token) == 2:
        return np.array([token])
    x, y, across, down, start, end = token
    angles = np.radians(np.linspace(start, end, 25))
    return np.column_stack([x + across * np.cos(angles), y + down * np.sin(angles)])
