"""Plate styles: the size, layout, colours and text patterns of one kind of plate, from a JSON file.

A style file holds millimetres and colours only, so that plates of another country need no code:
`styles/*.json` beside this module are the built-in ones, and any function that takes a style's
name takes a path to such a file too.
"""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.schema import Flag, Many, Map, Maybe, Number, Object, Text

STYLE_DIRECTORY = Path(__file__).parent / "styles"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
# Kinds of letters and digits that a style may ask for; `lettering` draws them.
LETTERS = ("noto", "roboto", "strokes", "energy")
_SHAPES = ("disc", "ring", "rectangle", "text", "stars")


_MM = Number(-2000, 2000, whole=False)
_POINT = Many(_MM, 2, 2)
_SHORT = Text(100)
# What a file of a style may say; what is drawn of it, `_check` and the drawing itself look at.
_STYLE = Object(
    {
        "description": Text(),
        "weight": Number(0, 1e6, whole=False),
        "size": Many(Number(10, 2000, whole=False), 2, 2),
        "background": Many(_SHORT, 2, 2),
        "foreground": _SHORT,
        "boxes": Many(Many(_MM, 4, 4), 1, 32),
        "patterns": Map(Number(0, 1e6, whole=False), most=1000),
    },
    optional={
        "letters": _SHORT,
        "corner_radius": Number(0, 500, whole=False),
        "frame": Maybe(Object({"inset": _MM, "width": _MM, "colour": _SHORT})),
        "marks": Many(Object({"shape": _SHORT, "colour": _SHORT}, open=True), most=100),
        "bolts": Many(_POINT, most=32),
        "bar_one": Flag(),
        "colours": Map(_SHORT, most=100),
        "classes": Map(_SHORT, most=100),
        "relief": Number(0, 1, whole=False),
    },
)


@dataclass(frozen=True, eq=False)  # compared and hashed by identity, so that drawings can be cached
class PlateStyle:
    """One kind of plate; lengths in millimetres from the plate's upper left corner.

    Attributes:
      name: the file's name without its suffix.
      description: the country, kind and standard.
      weight: frequency in the default mix; 0 keeps the style out of it.
      size: the size of the plate, (width, height).
      corner_radius: the corner radius of the plate's outline.
      background: colours at the top and at the bottom edge, `#rrggbb`.
      foreground: colour of the characters.
      letters: kind of the letters and digits, one of `LETTERS`.
      frame: `inset`, `width`, `colour` of the line along the edge, or None.
      boxes: (x, y, width, height) of each character, in reading order.
      patterns: text pattern -> frequency; see `data_pipeline.synthetic.texts`.
      marks: shapes drawn under the characters: the separator, a country band, printed words.
      bolts: centres of the bolt heads.
      bar_one: the digit 1 is a bare bar, as on embossed Chinese plates.
      colours: colours of single characters that differ from the foreground.
      classes: further pattern symbols of this style, symbol -> the characters it stands for.
      relief: strength of the embossing's light and shadow, 0 (printed flat) to 1.
    """

    name: str
    description: str
    weight: float
    size: tuple[float, float]
    background: tuple[str, str]
    foreground: str
    boxes: tuple[tuple[float, float, float, float], ...]
    patterns: Mapping[str, float]
    letters: str = "noto"
    corner_radius: float = 10.0
    frame: Mapping[str, Any] | None = None
    marks: tuple[Mapping[str, Any], ...] = ()
    bolts: tuple[tuple[float, float], ...] = ()
    bar_one: bool = False
    colours: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    relief: float = 0.35


def style_names() -> list[str]:
    """Returns the names of the built-in styles, sorted."""
    return sorted(path.stem for path in STYLE_DIRECTORY.glob("*.json"))


@functools.lru_cache(maxsize=256)
def load_style(name: str) -> PlateStyle:
    """Returns a built-in style by its name, or one read from a path that ends in `.json`.

    Raises:
      DataError: no such style, or a file that does not describe one.
    """
    path = Path(name) if name.endswith(".json") else STYLE_DIRECTORY / f"{name}.json"
    if not os.path.lexists(path):
        known = ", ".join(style_names())
        raise DataError(f"{name}: no such plate style; choose of {known}, or a .json file")
    try:
        fields = read_json(path)
    except DataError as error:
        raise DataError(f"{error}: not a plate style") from error
    return _parse(path, fields)


def _parse(path: Path, fields: Any) -> PlateStyle:
    if not isinstance(fields, dict):
        raise DataError(f"{path}: a plate style is a JSON object")
    fault = _STYLE.fault(fields, "")
    if fault:
        raise DataError(f"{path}: not a plate style: {fault}")
    try:
        style = PlateStyle(name=path.stem, **{key: _frozen(v) for key, v in fields.items()})
        _check(style)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a plate style: {error}") from error
    return style


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _check(style: PlateStyle) -> None:
    """Raises ValueError or the like where a style cannot be drawn."""
    width, height = style.size
    for x, y, w, h in style.boxes:
        if min(x, y) < 0 or min(w, h) <= 0 or x + w > width or y + h > height:
            raise ValueError(f"box {[x, y, w, h]} lies outside the plate of {width} x {height} mm")
    if not 0 <= style.relief <= 1 or not style.weight >= 0:
        raise ValueError("relief lies in 0..1, weight is at least 0")
    if style.letters not in LETTERS:
        raise ValueError(f"letters {style.letters!r} is none of {', '.join(LETTERS)}")
    if not style.patterns:
        raise ValueError("no patterns")
    for pattern, frequency in style.patterns.items():
        if len(pattern) != len(style.boxes) or not frequency > 0:
            raise ValueError(f"pattern {pattern!r} needs {len(style.boxes)} characters, weight > 0")
    marks = [mark["colour"] for mark in style.marks]
    frame = [style.frame["colour"]] if style.frame else []
    for colour in (*style.background, style.foreground, *style.colours.values(), *marks, *frame):
        if not _COLOUR.fullmatch(colour):
            raise ValueError(f"colour {colour!r} is not #rrggbb")
    for mark in style.marks:
        if mark["shape"] not in _SHAPES:
            raise ValueError(f"mark {mark['shape']!r} is none of {', '.join(_SHAPES)}")
