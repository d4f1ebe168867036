"""How much of a plate does a text recogniser read in far frames, real and synthetic ones?

    python benchmarks/synthetic_reading.py [--real MDLP_ROOT] [--groups 300]

A row a set: the default mix of styles through every preset, and the real groups. A column a
picture, frame 1 being the farthest: the similarity (1 - normalised edit distance, mean) and how
many plates are read whole but for the province. Pictures are brought to the size at which
`lpdiff evaluate` shows them to the recogniser, PP-OCRv4 (`lpdiff fetch-weights`).
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from likeness import Group, read_tree

from data_pipeline.images import resize
from data_pipeline.synthetic.degradation import PRESETS
from data_pipeline.synthetic.groups import render_group
from lpdiff_jax.evaluation.ctc_reader import load_reader
from lpdiff_jax.evaluation.reading import Reader, normalised_edit_distance

Labelled = tuple[Group, str]
COLUMNS = ("frame 1", "frame 2", "frame 3", "ground truth")


def read_real(root: Path) -> list[Labelled]:
    """Reads an MDLP tree whose labels.json has every group."""
    labels = json.loads((root / "labels.json").read_text(encoding="utf-8"))
    names = [folder.name for folder in sorted(root.glob("*/inputs/*"))]
    return [(group, labels[name]) for group, name in zip(read_tree(root), names, strict=True)]


def render(preset: str, groups: int, seed: int) -> Iterator[Labelled]:
    for index in range(groups):
        frames, target, text = render_group([seed, index], preset=preset)
        yield (frames, target), text


def scores(reader: Reader, labelled: Labelled, size: tuple[int, int]) -> np.ndarray:
    """Similarity, and whether all but the province is right, of every picture: [2, 4]."""
    (frames, target), text = labelled
    pictures = np.stack([resize(picture, size) for picture in [*frames[:3], target]])
    texts = [reading.text for reading in reader.read(pictures)]
    similar = [1.0 - normalised_edit_distance(read, text) for read in texts]
    return np.array([similar, [read[1:] == text[1:] for read in texts]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--real", type=Path, help="an MDLP tree with texts")
    parser.add_argument("--groups", type=int, default=300, help="synthetic groups a preset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS)
    parser.add_argument("--size", type=int, nargs=2, default=(112, 224), help="height and width")
    args = parser.parse_args()
    reader = load_reader()
    sets = {"real": iter(read_real(args.real))} if args.real else {}
    sets |= {name: render(name, args.groups, args.seed) for name in args.presets}
    print("| pictures | n |", " | ".join(COLUMNS), "|")
    print("|" + "---|" * (2 + len(COLUMNS)))
    for name, groups in sets.items():
        table = np.array([scores(reader, group, tuple(args.size)) for group in groups])
        cells = (f"{whole:.3f} / {similar:.3f}" for similar, whole in table.mean(axis=0).T)
        print(f"| {name} | {len(table)} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
