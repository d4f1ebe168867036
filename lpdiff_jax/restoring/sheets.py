"""Contact sheets: pictures of many plates, one a line, a title above each column."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.files import write_whole
from data_pipeline.fonts import FONTS, NOTO
from lpdiff_jax.plate_text import Reading

_GAP = 4
_HEADER = 24


def contact_sheet(lines: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> np.ndarray:
    """Draws a sheet.

    Args:
      lines: for each plate its uint8 images [H, W, 3], one a title, all of one size.
      titles: of the columns, ASCII.

    Returns:
      uint8 [height, width, 3], white where nothing is.
    """
    width = lines[0][0].shape[1] + _GAP
    header = np.full((_HEADER, width * len(titles), 3), 255, np.uint8)
    for i, title in enumerate(titles):
        scale = min(0.45, 0.45 * (width - _GAP) / max(_text_width(title), 1))
        place = (i * width + _GAP, _HEADER - 8)
        cv2.putText(
            header, title, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA
        )
    rows = [np.concatenate([_framed(image) for image in line], axis=1) for line in lines]
    return np.concatenate([header, *rows])


def text_image(text: str, note: str, size: tuple[int, int]) -> np.ndarray:
    """A cell of a sheet that shows a plate's text, with a note below.

    Args:
      text: characters of plates.
      note: anything in ASCII.
      size: (H, W).

    Returns:
      uint8 [H, W, 3].
    """
    height, width = size
    cell = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(cell)
    large = ImageFont.truetype(FONTS / NOTO, min(height // 3, width // 6))
    draw.text((width / 2, 0.38 * height), text, "black", large, anchor="mm")
    small = ImageFont.load_default(max(height // 6, 8))
    draw.text((width / 2, 0.78 * height), note, "black", small, anchor="mm")
    return np.asarray(cell)


def reading_cell(reading: Reading, sure: bool, size: tuple[int, int]) -> np.ndarray:
    """A cell of a sheet, uint8 [H, W, 3]: the text, its confidence, and whether to rely on it."""
    note = f"{reading.confidence:.2f}" + ("" if sure else ", not to rely on")
    return text_image(reading.text, note, size)


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 RGB image, whole or not at all; the suffix decides the format.

    Raises:
      DataError: it cannot be written.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, Image.registered_extensions()[path.suffix.lower()])
    write_whole(path, buffer.getvalue())


def _text_width(title: str) -> int:
    return cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0]


def _framed(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
