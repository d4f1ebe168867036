"""How like the characters of real plates are those that are drawn?

    python benchmarks/synthetic/lettering_shapes.py REAL... [--glyphs GLYPHS] [--sheet FILE.png]

REAL are folders of pictures of plates with a `labels.json` (file name without suffix -> text); a
`meta.json` may give a picture's `plate_box` [x, y, w, h] and `colour`. Each picture is brought onto
a drawn plate of its text (affine, by correlation), cut into characters, and the pictures of one
character are aligned among themselves: their median is what a character looks like on the road.

A row a character: how many real ones there are, and the correlation with their median of the
character as drawn (`strokes`), as Noto Sans has it and, with --glyphs, as the pictures of the
typeface there have it (`140_<character>.jpg`). Each is shifted, stretched and blurred to its best
first, since pictures of plates are blurred and cut by hand. With --glyphs a column more has the
correlation of the drawn one with the typeface's, and --alphabet energy asks for new energy's.
"""

import argparse
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.synthetic.lettering import ENERGY, NOTO, STROKES, glyph
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.styles import load_style
from data_pipeline.synthetic.texts import PROVINCES, matches

CHARACTERS = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
# Pixels a character's picture is wide and high, 1 a millimetre, with what lies around it.
BOX, MARGIN = (45, 90), 8
_BLURS = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # millimetres
_MOST = 250  # pictures of a character
_LIKE = 0.55  # correlation with the drawn plate from which a picture is taken to be in place
_STYLES = {"blue": "cn-blue", "yellow": "cn-yellow"}


def grey(image: np.ndarray, style: str) -> np.ndarray:
    """Returns luma in 0..1, characters bright."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    return 1.0 - luma if style == "cn-yellow" else luma


def align(
    model: np.ndarray, image: np.ndarray, start: np.ndarray, motion: int = cv2.MOTION_AFFINE
) -> tuple[float, np.ndarray]:
    """Brings an image onto a model (Evangelidis and Psarakis, PAMI 2008).

    Args:
      model: [H, W], float32.
      image: what is moved, float32.
      start: [2, 3], from the model's pixels to the image's.
      motion: of OpenCV.

    Returns:
      The correlation, -1 where it does not converge, and the map.
    """
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    warp = start.astype(np.float32).copy()
    try:
        score, warp = cv2.findTransformECC(model, image, warp, motion, stop, None, 5)
    except cv2.error:
        return -1.0, start
    return float(score), np.asarray(warp)


def moved(image: np.ndarray, warp: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the image at the model's pixels, size (width, height)."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(image, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    )


def plates(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields text, luma and the plate's box [x, y, w, h] of plates of seven characters."""
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    about = folder / "meta.json"
    meta = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
    for name, text in labels.items():
        path = folder / f"{name}.jpg"
        image = cv2.imread(str(path)) if path.exists() else None
        if image is None or not matches(load_style("cn-blue"), text):
            continue
        own = meta.get(name, {})
        style = _STYLES.get(own.get("colour", "blue"))
        if style:
            box = own.get("plate_box") or [0, 0, image.shape[1], image.shape[0]]
            yield text, grey(image[..., ::-1], style), np.array(box, float)


@functools.lru_cache(maxsize=4096)
def drawn_plate(text: str) -> np.ndarray:
    """Returns a drawn plate's luma at half a pixel a millimetre, [70, 220]."""
    style = load_style("cn-blue")
    plate = grey(np.ascontiguousarray(draw_plate(text, style)[..., :3]), style.name)
    return cv2.GaussianBlur(cv2.resize(plate, (220, 70), interpolation=cv2.INTER_AREA), (0, 0), 1.0)


def cut(text: str, image: np.ndarray, box: np.ndarray) -> list[np.ndarray]:
    """Cuts the characters of a plate, or none where it cannot be brought into place."""
    x, y, w, h = box
    smooth = cv2.GaussianBlur(image, (0, 0), max(w / 440.0 * 2.0, 0.3))
    start = np.array([[w / 220.0, 0.0, x], [0.0, h / 70.0, y]])
    score, warp = align(drawn_plate(text), smooth, start)
    if score < _LIKE:
        return []
    size = BOX[0] + 2 * MARGIN, BOX[1] + 2 * MARGIN
    found = []
    for left, top, *_ in load_style("cn-blue").boxes:
        # From the character's millimetres to the half-scale plate, to the picture.
        half = np.array([[0.5, 0, (left - MARGIN) / 2], [0, 0.5, (top - MARGIN) / 2], [0, 0, 1]])
        found.append(normal(moved(image, warp @ half, size)))
    return found


def normal(patch: np.ndarray) -> np.ndarray:
    """Brings ground and paint of a patch to 0 and 1, roughly."""
    low, high = np.percentile(patch, (20, 95))
    return np.clip((patch - low) / max(high - low, 0.05), -0.3, 1.3).astype(np.float32)


def median(patches: Sequence[np.ndarray]) -> np.ndarray:
    """Aligns patches among themselves, three times, and returns their median."""
    mean = np.median(patches, axis=0).astype(np.float32)
    for _ in range(3):
        placed = []
        for patch in patches:
            score, warp = align(mean, patch, np.eye(2, 3))
            if score > 0.5 or len(patches) < 4:
                placed.append(moved(patch, warp, mean.shape[::-1]))
        if placed:
            mean = np.median(placed, axis=0).astype(np.float32)
    return mean


def padded(shape: np.ndarray) -> np.ndarray:
    return np.pad(shape, MARGIN).astype(np.float32)


def likeness(shape: np.ndarray, real: np.ndarray) -> float:
    """Correlation of a character, at its best place, size and blur, with a median [H, W]."""
    best = -1.0
    for blur in _BLURS:
        soft = cv2.GaussianBlur(shape, (0, 0), blur) if blur else shape
        _, warp = align(real, soft, np.eye(2, 3))
        # Stretched and shifted only as much as hand-made cuts differ.
        tame = bool(np.abs(warp - np.eye(2, 3))[:, :2].max() < 0.12)
        placed = moved(soft, warp, real.shape[::-1]) if tame else soft
        best = max(best, float(np.corrcoef(placed.ravel(), real.ravel())[0, 1]))
    return best


def read_glyph(folder: Path, prefix: str, character: str) -> np.ndarray | None:
    """Reads a picture of the typeface as a patch, or None where there is none."""
    path = folder / f"{prefix}_{character}.jpg"
    if not path.exists():
        return None
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    return padded(1.0 - cv2.resize(image, BOX, interpolation=cv2.INTER_AREA) / 255.0)


def gather(folders: Sequence[Path]) -> dict[str, list[np.ndarray]]:
    """Cuts all plates of some folders: character -> its patches."""
    found: dict[str, list[np.ndarray]] = {}
    for folder in folders:
        for text, image, box in plates(folder):
            if all(len(found.get(c, ())) >= _MOST for c in text):
                continue
            for character, patch in zip(text, cut(text, image, box), strict=False):
                if len(found.setdefault(character, [])) < _MOST:
                    found[character].append(patch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("real", type=Path, nargs="*", help="folders of plates with labels.json")
    parser.add_argument("--glyphs", type=Path, help="folder of pictures of the typeface")
    parser.add_argument("--alphabet", choices=(STROKES, ENERGY), default=STROKES)
    parser.add_argument("--least", type=int, default=3, help="real characters that make a median")
    parser.add_argument("--sheet", type=Path, help="picture of drawn, typeface's, real characters")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    patches = gather(args.real)
    print("| character | real ones | drawn | Noto Sans | typeface | drawn, with the typeface |")
    print("|---|---|---|---|---|---|")
    table, cells = [], []
    for character in [*CHARACTERS, *PROVINCES]:
        drawn = padded(glyph(character, *BOX, latin=args.alphabet))
        prefix = "green" if args.alphabet == ENERGY else "140"
        shape = read_glyph(args.glyphs, prefix, character) if args.glyphs else None
        many = len(patches.get(character, ()))
        real = median(patches[character]) if many >= args.least else None
        figures = [
            likeness(drawn, real) if real is not None else np.nan,
            likeness(padded(glyph(character, *BOX, latin=NOTO)), real) if real is not None
            else np.nan,
            likeness(shape, real) if real is not None and shape is not None else np.nan,
            likeness(drawn, cv2.GaussianBlur(shape, (0, 0), 1.0)) if shape is not None else np.nan,
        ]  # fmt: skip
        table.append(figures)
        values = " | ".join("" if np.isnan(f) else f"{f:.3f}" for f in figures)
        print(f"| {character} | {many} | {values} |", flush=True)
        blank = np.zeros_like(drawn)
        cells.append(np.hstack([drawn, shape if shape is not None else blank,
                                real if real is not None else blank]))  # fmt: skip
    for name, part in (("letters and digits", slice(0, 34)), ("provinces", slice(34, None))):
        rows = np.array(table[part])
        means = [np.nanmean(c) if not np.isnan(c).all() else np.nan for c in rows.T]
        values = " | ".join("" if np.isnan(f) else f"{f:.3f}" for f in means)
        print(f"| {name} | {int((~np.isnan(rows[:, 0])).sum())} kinds | {values} |")
    if args.sheet:
        cells += [np.zeros_like(cells[0])] * (-len(cells) % 13)
        picture = np.vstack([np.hstack(cells[i : i + 13]) for i in range(0, len(cells), 13)])
        cv2.imwrite(str(args.sheet), np.clip(255 - 255 * picture, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
