"""Plate texts: what may stand in each place of a plate, and how often it does.

A pattern has one symbol a character: `p` province, `l` letter without I and O, `a` any letter,
`d` digit, a style's own classes; every other symbol stands for itself.
"""

import functools
import string
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data_pipeline.synthetic.styles import PlateStyle

# Civil vehicles of each province in millions, rounded from the China Statistical Yearbook 2023
# (table 16-21): the chance to meet a plate goes with the number of vehicles.
PROVINCES = {
    "粤": 29.0, "鲁": 27.6, "苏": 22.5, "浙": 20.6, "豫": 19.3, "冀": 19.1, "川": 14.4, "皖": 11.0,
    "湘": 10.8, "辽": 10.3, "鄂": 10.2, "云": 8.9, "桂": 8.8, "陕": 8.6, "晋": 8.3, "闽": 8.2,
    "赣": 7.4, "京": 6.9, "蒙": 6.8, "贵": 6.2, "黑": 6.1, "渝": 5.7, "吉": 5.3, "新": 5.2,
    "沪": 5.2, "甘": 4.4, "津": 3.9, "宁": 2.1, "琼": 1.9, "青": 1.5, "藏": 0.8,
}  # fmt: skip
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
# The letter after the province names its city, largest city first; the fall is a rough fit.
_CITY = {letter: 0.88**rank for rank, letter in enumerate(LETTERS)} | {"A": 3.0}
CLASSES: Mapping[str, Mapping[str, float]] = {
    "p": PROVINCES,
    "l": dict.fromkeys(LETTERS, 1.0),
    "a": dict.fromkeys(string.ascii_uppercase, 1.0),
    "d": dict.fromkeys(string.digits, 1.0),
}


def sample_text(style: PlateStyle, rng: np.random.Generator, uniform: bool = False) -> str:
    """Returns a text of the style.

    Args:
      style: the style, which gives the patterns.
      rng: the source of randomness.
      uniform: every pattern and character of a class equally often, instead of as in traffic.
    """
    pattern = _choose(_patterns(style), rng, uniform)
    return "".join(_choose(table, rng, uniform) for table in _places(style, pattern))


def matches(style: PlateStyle, text: str) -> bool:
    """Returns whether some pattern of the style allows the text."""
    return any(
        len(pattern) == len(text)
        and all(c in _class(style, s) for s, c in zip(pattern, text, strict=True))
        for pattern in style.patterns
    )


def alphabet(style: PlateStyle) -> str:
    """Every character that a plate of the style may have, sorted: the charset of a reading head."""
    symbols = {symbol for pattern in style.patterns for symbol in pattern}
    return "".join(sorted({c for symbol in symbols for c in _class(style, symbol)}))


@functools.lru_cache(maxsize=256)
def _patterns(style: PlateStyle) -> "_Table":
    return _Table.of(style.patterns)


@functools.lru_cache(maxsize=1024)
def _places(style: PlateStyle, pattern: str) -> list["_Table"]:
    """What each character of a pattern is drawn of."""
    classes = [_class(style, symbol) for symbol in pattern]
    for i in range(1, len(pattern)):
        # On Chinese plates the letter beside the province is the city's.
        if pattern[i - 1 : i + 1] == "pl":
            classes[i] = _CITY
    return [_Table.of(table) for table in classes]


@functools.lru_cache(maxsize=1024)
def _class(style: PlateStyle, symbol: str) -> Mapping[str, float]:
    """Returns the characters that a pattern's symbol stands for, with their frequencies."""
    if symbol in style.classes:
        return dict.fromkeys(style.classes[symbol], 1.0)
    return CLASSES.get(symbol, {symbol: 1.0})


class _Table(NamedTuple):
    """Keys to choose of, the sums of their frequencies up to each, and the sum of all."""

    keys: list[str]
    sums: np.ndarray
    total: float

    @classmethod
    def of(cls, table: Mapping[str, float]) -> "_Table":
        weights = np.fromiter(table.values(), float)
        return cls(list(table), np.cumsum(weights), float(weights.sum()))


def _choose(table: _Table, rng: np.random.Generator, uniform: bool) -> str:
    if uniform:
        return table.keys[rng.integers(len(table.keys))]
    return table.keys[table.sums.searchsorted(rng.random() * table.total, side="right")]
