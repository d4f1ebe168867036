"""Draws the pictures of docs/synthetic.md.

    python -m benchmarks.pictures.synthetic_pictures docs/images [--real MDLP_ROOT]

`plate-kinds.jpg`: every style. `camera-effects.jpg`: each effect alone, weak to strong.
`presets.jpg`: groups of every preset. `real-and-synthetic.jpg` (with --real): groups of MDLP beside
synthetic ones.
"""

import argparse
import dataclasses
import string
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.synthetic.likeness import Group, read_tree
from data_pipeline.synthetic.camera import CameraModel
from data_pipeline.synthetic.degradation import take
from data_pipeline.synthetic.groups import render_group
from data_pipeline.synthetic.lettering import ENERGY, STROKES, glyph
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.presets import MILD
from data_pipeline.synthetic.styles import load_style, style_names
from data_pipeline.synthetic.texts import PROVINCES, sample_text

CELL = (152, 64)
EFFECTS: dict[str, tuple[dict[str, float], ...]] = {
    "distance": tuple({"far_width": w} for w in (45, 35, 27, 20)),
    "defocus": tuple({"focus": f, "f_number": 1.6} for f in (3.0, 1.8, 1.3, 1.05)),
    "aberration": tuple({"aberration": a} for a in (0.2, 0.6, 1.0, 1.5)),
    "motion blur": tuple({"vibration": 60.0, "exposure_time": t} for t in (1e-3, 3e-3, 6e-3, 9e-3)),
    "haze": tuple({"extinction": e} for e in (0, 3, 8, 16)),
    "rain": tuple({"rain": r, "exposure_time": 0.004} for r in (-1, 10, 30, 60)),
    "glare": tuple({"glare": g} for g in (-1, 0.3, 0.8, 1.6)),
    "night": tuple({"night": n, "electrons": e} for n, e in ((0, 4), (2, 3.2), (3, 2.6), (4, 2.2))),
    "noise": tuple(
        {"electrons": e, "luma_denoise": 0.0, "chroma_denoise": 0.0} for e in (4.0, 3.0, 2.5, 2.0)
    ),
    "noise reduction": tuple(
        {"electrons": 2.5, "luma_denoise": d, "chroma_denoise": 2 * d} for d in (0, 0.5, 1.0, 1.5)
    ),
    "sharpening": tuple({"sharpen": s} for s in (0, 1, 3, 6)),
    "exposure": tuple({"gain": g} for g in (-2, -1, 1, 2)),
    "hot air": tuple({"shimmer": a} for a in (0.0, 0.4, 0.8, 1.4)),
    "ghost": tuple({"ghost": g, "jitter": 1.0} for g in (0.0, 0.3, 0.5, 0.7)),
    "comb": tuple({"comb": c} for c in (-1.0, 0.5, 1.0, 2.0)),
    "H.264": tuple({"qp": q} for q in (18, 28, 34, 40)),
    "skipped blocks": tuple({"qp": 32, "change": c} for c in (0.0, 1.0, 2.0, 4.0)),
    "JPEG": tuple({"quality": q} for q in (95, 60, 30, 10)),
    "dirt": tuple({"dirt": d} for d in (-1, 0.3, 0.6, 1.0)),
    "wear": tuple({"wear": w} for w in (0, 0.3, 0.6, 1.0)),
    "occlusion": tuple({"occlusion": o} for o in (-1, 0.04, 0.1, 0.2)),
    "infrared": tuple({"grey": 1.0, "night": n, "electrons": 3.2} for n in (-1, 1, 2, 3)),
}  # fmt: skip
NEAR_EFFECTS = ("dirt", "wear", "occlusion")  # shown on the ground truth, where they can be seen


def cell(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, CELL, interpolation=cv2.INTER_CUBIC)


def label(text: str) -> np.ndarray:
    tile = np.full((CELL[1], CELL[0], 3), 255, np.uint8)
    return cv2.putText(
        tile, text, (6, 38), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
    )


def plate_kinds(columns: int = 4) -> np.ndarray:
    """Returns one plate of every style, at half size, on grey."""
    rng, tiles = np.random.default_rng(1), []
    for name in style_names():
        style = load_style(name)
        plate = draw_plate(sample_text(style, rng), style, 2.0)
        half = cv2.resize(plate, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).astype(float)
        tile = np.full((140, 280, 3), 120.0)
        alpha = half[..., 3:] / 255.0
        region = tile[8 : 8 + half.shape[0], 10 : 10 + half.shape[1]]
        region += alpha * (half[..., :3] - region)
        picture = tile.astype(np.uint8)
        cv2.putText(
            picture,
            name,
            (10, 134),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.42,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
        tiles.append(picture)
    tiles += [np.full_like(tiles[0], 120)] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def strokes() -> np.ndarray:
    """Returns the drawn characters, twelve a row: plates of one row, then new energy's alphabet."""
    letters = string.digits + string.ascii_uppercase
    blue = characters(letters + "".join(PROVINCES) + "警学港澳使", STROKES, (30, 96, 174), 255)
    green = characters(letters.replace("O", "").replace("I", ""), ENERGY, (96, 204, 168), 16)
    return np.vstack([blue, green])


def characters(text: str, latin: str, ground: Sequence[int], paint: int) -> np.ndarray:
    """Returns characters, twelve a row, at 2/3 of a pixel a millimetre."""
    ink = [np.pad(glyph(c, 45, 90, latin=latin), 8) for c in text]
    ink += [np.zeros_like(ink[0])] * (-len(ink) % 12)
    rows = [np.hstack(ink[i : i + 12]) for i in range(0, len(ink), 12)]
    small = cv2.resize(np.vstack(rows), None, fx=2 / 3, fy=2 / 3, interpolation=cv2.INTER_AREA)
    colour = np.array(ground, float)
    return np.round(colour + small[..., None] * (paint - colour)).astype(np.uint8)


def still() -> CameraModel[float]:
    """Returns mild conditions without chance: the middle of every range."""
    middle = {f.name: float(np.mean(getattr(MILD, f.name))) for f in dataclasses.fields(MILD)}
    absent = dict.fromkeys(("rain", "glare", "night", "dirt", "occlusion", "comb", "grey"), -1.0)
    return CameraModel(**(middle | absent | {"wear": 0.0, "tint": 0.0, "flicker": 0.0}))


def camera_effects() -> np.ndarray:
    style = load_style("cn-blue")
    plate, rows = draw_plate("苏A58K62", style), []
    for name, changes in EFFECTS.items():
        row = [label(name)]
        for change in changes:
            model = dataclasses.replace(still(), **change)
            seen = take(plate, style.bolts, model, 2, np.random.default_rng(3))
            row.append(cell(seen.target if name in NEAR_EFFECTS else seen.frames[-1]))
        rows.append(np.hstack(row))
    return np.vstack(rows)


def sheet(groups: Sequence[Group]) -> np.ndarray:
    """Returns one row per group: three far frames and the ground truth."""
    return np.vstack(
        [np.hstack([cell(i) for i in [*frames[:3], target]]) for frames, target in groups]
    )


def presets() -> np.ndarray:
    parts = []
    for preset in ("mild", "real-like", "real-like-1", "varied", "severe"):
        groups = [render_group([0, i], preset=preset)[:2] for i in range(4)]
        parts.append(np.hstack([np.vstack([label(preset)] + [label("")] * 3), sheet(groups)]))
    return np.vstack(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--real", type=Path)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    pictures = {
        "plate-kinds": plate_kinds(),
        "strokes": strokes(),
        "camera-effects": camera_effects(),
        "presets": presets(),
    }
    if args.real:
        real = sheet(read_tree(args.real)[:9])
        synthetic = sheet([render_group([0, i])[:2] for i in range(9)])
        gap = np.full((real.shape[0], 10, 3), 255, np.uint8)
        pictures["real-and-synthetic"] = np.hstack([real, gap, synthetic])
    for name, picture in pictures.items():
        path = args.output / f"{name}.jpg"
        cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        print(path, picture.shape)


if __name__ == "__main__":
    main()
