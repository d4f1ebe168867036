"""How much of a plate does a text recogniser read in far frames, real and synthetic ones?

    python benchmarks/synthetic/synthetic_reading.py [--real MDLP_ROOT] [--groups 300]

The table has one row per set: the default mix of styles through every preset, and the real groups.
It has one column per picture (frame 1 is the farthest) with two figures: the share of plates whose
text is right but for the province, and the mean similarity (1 - normalised edit distance). Pictures
are resized as `lpdiff eval` resizes them for the recogniser, PP-OCRv4 (`lpdiff fetch-weights`).

`digit` says whether the pixels still hold the plate. A judge that knows everything but one digit
(the other characters, the group's motion, optics and light, but not its noise) compares the three
far frames with noiseless ones of each digit; the figure is how often the right digit fits best, on
100 groups at most.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from likeness import Group, read_tree

from data_pipeline.images import resize
from data_pipeline.synthetic.camera import CameraModel, draw
from data_pipeline.synthetic.degradation import take
from data_pipeline.synthetic.groups import render_group
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.presets import PRESETS
from data_pipeline.synthetic.styles import load_style
from data_pipeline.synthetic.texts import sample_text
from lpdiff_jax.evaluation.reading.ctc_reader import load_reader
from lpdiff_jax.evaluation.reading.edit_distance import normalised_edit_distance
from lpdiff_jax.evaluation.reading.readers import Reader

Labelled = tuple[Group, str]
COLUMNS = ("frame 1", "frame 2", "frame 3", "ground truth")


def read_real(root: Path) -> list[Labelled]:
    """Reads an MDLP tree whose labels.json has every group."""
    labels = json.loads((root / "labels.json").read_text(encoding="utf-8"))
    names = [folder.name for folder in sorted(root.glob("*/inputs/*"))]
    return [(group, labels[name]) for group, name in zip(read_tree(root), names, strict=True)]


def render(preset: str, groups: int, seed: int) -> Iterator[Labelled]:
    for index in range(groups):
        frames, target, text, _ = render_group([seed, index], preset=preset)
        yield (frames, target), text


def scores(reader: Reader, labelled: Labelled, size: tuple[int, int]) -> np.ndarray:
    """Similarity, and whether all but the province is right, of every picture: [2, 4]."""
    (frames, target), text = labelled
    pictures = np.stack([resize(picture, size) for picture in [*frames[:3], target]])
    texts = [reading.text for reading in reader.read(pictures)]
    similar = [1.0 - normalised_edit_distance(read, text) for read in texts]
    return np.array([similar, [read[1:] == text[1:] for read in texts]])


def tells_digit(preset: str, seed: tuple[int, int]) -> bool:
    """Whether the last digit of a blue plate is the one that fits its far frames best."""
    rng = np.random.default_rng(seed)
    style = load_style("cn-blue")
    text = sample_text(style, rng)
    while not text[-1].isdigit():
        text = sample_text(style, rng)
    model, moment = draw(PRESETS[preset], rng), int(rng.integers(2**32))

    def far(last: str, model: CameraModel[float]) -> np.ndarray:
        plate = draw_plate(text[:-1] + last, style)
        frames = take(plate, style.bolts, model, 3, np.random.default_rng(moment)).frames
        return np.concatenate([frame.ravel() for frame in frames]).astype(float)

    seen, clear = far(text[-1], model), dataclasses.replace(model, electrons=9.0)
    errors = {digit: np.square(far(digit, clear) - seen).sum() for digit in "0123456789"}
    return min(errors, key=errors.__getitem__) == text[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--real", type=Path, help="an MDLP tree with texts")
    parser.add_argument("--groups", type=int, default=300, help="synthetic groups per preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS)
    parser.add_argument("--size", type=int, nargs=2, default=(112, 224), help="height and width")
    args = parser.parse_args()
    reader = load_reader()
    sets = {"real": iter(read_real(args.real))} if args.real else {}
    sets |= {name: render(name, args.groups, args.seed) for name in args.presets}
    print("| pictures | n |", " | ".join(COLUMNS), "| digit |")
    print("|" + "---|" * (3 + len(COLUMNS)))
    for name, groups in sets.items():
        table = np.array([scores(reader, group, tuple(args.size)) for group in groups])
        cells = (f"{whole:.3f} / {similar:.3f}" for similar, whole in table.mean(axis=0).T)
        seeds = [(args.seed, i) for i in range(min(args.groups, 100))]
        told = f"{np.mean([tells_digit(name, s) for s in seeds]):.3f}" if name in PRESETS else ""
        print(f"| {name} | {len(table)} |", " | ".join(cells), f"| {told} |", flush=True)


if __name__ == "__main__":
    main()
