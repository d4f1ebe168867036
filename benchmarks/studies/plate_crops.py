"""Are crops of plates told from photographs? `restoring.crops`, measured and fitted.

    python -m benchmarks.studies.plate_crops --crops NAME=FOLDER .. --scenes NAME=FOLDER .. [--fit]

Beside the pictures of the folders it judges synthetic frames and plates, crops enlarged three
times, photographs shrunk to 240 and 320 pixels' width, and photographs with a plate drawn into
them.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.images import IMAGE_SUFFIXES, read_image
from data_pipeline.synthetic.groups import render_group
from lpdiff_jax.restoring.crops import fault_of_crop, measure

_MOST = 300
Named = Iterator[tuple[str, np.ndarray]]


def main() -> None:
    """Prints what is refused of each kind, and with --fit weights that would do better."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--scenes", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--fit", action="store_true")
    args = parser.parse_args()
    rows: list[tuple[bool, list[float]]] = []
    print("| pictures | n | refused |\n|---|---|---|")
    for crop, named in ((True, crops(args.crops)), (False, scenes(args.scenes))):
        refused: dict[str, list[bool]] = {}
        for name, image in named:
            refused.setdefault(name, []).append(fault_of_crop(image) is not None)
            if args.fit and image.shape[1] > 200:
                rows.append((crop, _features(image)))
        for name, values in refused.items():
            print(f"| {name} | {len(values)} | {np.mean(values):.3f} |", flush=True)
    if args.fit:
        _fit(rows)


def crops(folders: list[str]) -> Named:
    """Crops of plates, of several kinds."""
    for seed in range(60):
        frames, near, *_ = render_group(seed)
        yield from (("synthetic, far", frame) for frame in frames)
        yield "synthetic, near", near
        yield "synthetic, enlarged", cv2.resize(near, None, fx=3, fy=3)
    for name, image in _pictures(folders):
        yield name, image
        if image.shape[1] < 400:
            yield (
                f"{name}, enlarged",
                cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC),
            )


def scenes(folders: list[str]) -> Named:
    """Pictures that are no crops."""
    for number, (name, image) in enumerate(_pictures(folders)):
        yield name, image
        for width in (240, 320):
            yield f"{name}, {width} wide", _to_width(image, width)
        large = _to_width(image, 1280).copy()
        plate = _to_width(render_group(number)[1], 80 + number % 140)
        if large.shape[0] > 2 * plate.shape[0]:
            y, x = large.shape[0] // 2, (37 * number) % (1280 - plate.shape[1])
            large[y : y + plate.shape[0], x : x + plate.shape[1]] = plate
            yield f"{name}, a plate drawn in", large


def _pictures(folders: list[str]) -> Named:
    for name, _, folder in (entry.partition("=") for entry in folders):
        paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        for path in paths[:: max(1, len(paths) // _MOST)][:_MOST]:
            try:
                yield name, read_image(path)
            except DataError:
                continue


def _to_width(image: np.ndarray, width: int) -> np.ndarray:
    size = (width, max(4, round(image.shape[0] * width / image.shape[1])))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _features(image: np.ndarray) -> list[float]:
    found = measure(image)
    return [
        math.log(found["aspect"]),
        math.log(found["pixels"]),
        math.log(found["edges"] + 0.02),
        math.log(found["upright"] + 0.05),
        found["fine"],
    ]


def _fit(rows: list[tuple[bool, list[float]]]) -> None:
    """Logistic regression, both kinds weighing the same; half a percent of crops may be lost."""
    from scipy.optimize import minimize

    is_crop = np.array([crop for crop, _ in rows])
    values = np.array([features for _, features in rows])
    mean, deviation = values.mean(0), values.std(0)
    table = np.c_[(values - mean) / deviation, np.ones(len(values))]
    weight = np.where(is_crop, 0.5 / is_crop.sum(), 0.5 / (~is_crop).sum())
    sign = np.where(is_crop, 1, -1)

    def loss(w: np.ndarray) -> float:
        penalty = 1e-4 * float((w[:-1] ** 2).sum())
        return float((weight * np.logaddexp(0, -sign * (table @ w))).sum()) + penalty

    best = minimize(loss, np.zeros(table.shape[1])).x
    likeness = table @ best
    least = np.sort(likeness[is_crop])[int(0.005 * is_crop.sum())]
    bias = best[-1] - (best[:-1] * mean / deviation).sum()
    print("weights", np.round(best[:-1] / deviation, 2), "bias", round(float(bias), 2))
    print(f"least {least:.2f}; scenes let through {np.mean(likeness[~is_crop] >= least):.4f}")


if __name__ == "__main__":
    main()
