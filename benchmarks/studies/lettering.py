"""What does a plate's look cost the reading head? Synthetic plates, one change at a time.

    python benchmarks/studies/lettering.py [--model MODEL ...] [--plates 200]

The same texts through the same far camera (preset `real-like`): as drawn, in two fonts, with
thinner strokes, smaller characters, bent outlines, paler paint, and all lettering at random. Prints
NED (lower is better) and the share of plates read right, both without the province.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from data_pipeline.images import resize
from data_pipeline.synthetic.camera import draw
from data_pipeline.synthetic.degradation import take
from data_pipeline.synthetic.lettering import NOTO, ROBOTO, STROKES, Lettering, varied_lettering
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.presets import REAL_LIKE
from data_pipeline.synthetic.styles import load_style
from data_pipeline.synthetic.texts import sample_text
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.reading.edit_distance import normalised_edit_distance
from lpdiff_jax.images import to_float
from lpdiff_jax.restoring.restorer import Restorer

STYLES = ("cn-blue", "cn-green")
PLAIN = Lettering(latin=STROKES)
CHANGES: dict[str, Callable[[np.random.Generator], Lettering]] = {
    "as drawn": lambda rng: PLAIN,
    "in Noto Sans": lambda rng: Lettering(latin=NOTO),
    "in Roboto": lambda rng: Lettering(latin=ROBOTO),
    "strokes 2 mm thinner": lambda rng: replace(PLAIN, stroke=-2),
    "characters 12 % smaller": lambda rng: replace(PLAIN, width=0.88, height=0.88),
    "bent by 2 mm": lambda rng: replace(PLAIN, bend=2.0, seed=int(rng.integers(2**32))),
    "half of the paint gone": lambda rng: replace(PLAIN, fade=0.5),
    "all at random": varied_lettering,
}


def groups(change: str, count: int, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Frames [count, 3, H, W, 3] as uint8 RGB, and their texts, which no change changes."""
    frames, texts = [], []
    for index in range(count):
        rng = np.random.default_rng([11, index])
        style = load_style(STYLES[index % 2])
        texts.append(sample_text(style, rng))
        model = draw(REAL_LIKE, rng)
        plate = draw_plate(
            texts[-1], style, lettering=CHANGES[change](np.random.default_rng([12, index]))
        )
        far = take(plate, style.bolts, model, 3, rng).frames
        frames.append([resize(frame, size) for frame in far])
    return np.array(frames), texts


def measure(restorer: Restorer, frames: np.ndarray, texts: list[str]) -> tuple[float, float]:
    """Mean NED and share of whole plates, without the province."""
    parts = np.array_split(frames, max(len(frames) // 32, 1))
    readings = [reading for part in parts for reading in restorer.read(to_float(part))]
    distances = np.array(
        [normalised_edit_distance(r.text[1:], t[1:]) for r, t in zip(readings, texts, strict=True)]
    )
    return float(distances.mean()), float((distances == 0).mean())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=[None], help="default: the packaged model")
    parser.add_argument("--plates", type=int, default=200)
    args = parser.parse_args()
    if args.plates < 1:
        parser.error(f"--plates is {args.plates}; it must be at least 1")
    try:
        restorers = [Restorer.load(model) for model in args.model]
    except UserError as error:
        parser.error(str(error))
    print("| plates | " + " | ".join(model or "packaged" for model in args.model) + " |")
    print("|---" * (len(restorers) + 1) + "|")
    for change in CHANGES:
        cells = []
        for restorer in restorers:
            found = measure(restorer, *groups(change, args.plates, restorer.image_size))
            cells.append(f"{found[0]:.3f} / {found[1]:.3f}")
        print(f"| {change} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
