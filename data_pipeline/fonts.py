"""The fonts that come with the package: subsets that hold the characters of plates."""

from pathlib import Path

FONTS = Path(__file__).parent / "synthetic" / "fonts"
# Noto Sans CJK SC Bold: all plate characters.
NOTO = "NotoSansCJKsc-Bold-plates.otf"
