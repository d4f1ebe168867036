"""Is the truth among the first N hypotheses, and how often are the verdicts right?

    python -m benchmarks.studies.hypotheses NAME=ROOT .. [--model M]

Each ROOT is a folder in MDLP's layout whose split val has a labels.json (`lpdiff synthesize` writes
one), or a folder of sharp crops with labels.json beside them (file name -> text), each of which is
then a group of one frame.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.images import read_image
from data_pipeline.layouts import detect_layout
from lpdiff_jax.compilation import enable_compilation_cache
from lpdiff_jax.restoring.hypotheses import Hypotheses, syntax_of
from lpdiff_jax.restoring.plates import Options, restore_plates
from lpdiff_jax.restoring.restorer import Restorer

COUNTS = (1, 5, 20)


def main() -> None:
    """Prints the table."""
    enable_compilation_cache()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", metavar="NAME=ROOT")
    parser.add_argument("--model")
    parser.add_argument("--most", type=int, default=500, help="groups of each set")
    args = parser.parse_args()
    restorer = Restorer.load(args.model)
    print("| plates | n | syntax | right among 1 / 5 / 20 | their sum, mean | allowed, median |")
    print("|---|---|---|---|---|---|")
    verdicts = []
    for name, _, root in (entry.partition("=") for entry in args.sets):
        slots, texts, readings = read_all(restorer, Path(root), args.most)
        for plates in (True, False):
            print(f"| {name} | {len(texts)} | {plates} | {line(restorer, slots, texts, plates)} |")
        readable = restorer.method.slot_reader.readable
        verdicts += [f"{name}: {entry}" for entry in by_confidence(readings, texts, readable)]
    print("\n".join(["", "Confidence, plates, right, characters right:", *verdicts]))


def read_all(restorer: Restorer, root: Path, most: int) -> tuple[list[np.ndarray], list[str], list]:
    """Slots [S, C], true texts and readings of the groups of a set."""
    groups = list(_groups(root, most))
    slots, texts, readings = [], [], []
    for first in range(0, len(groups), 32):
        part = groups[first : first + 32]
        frames = [[read_image(path) for path in paths] for paths, _ in part]
        for plate, (_, text) in zip(restore_plates(restorer, frames, Options()), part, strict=True):
            slots.append(plate.slots)
            texts.append(text)
            readings.append(plate.reading)
    return slots, texts, readings


def _groups(root: Path, most: int) -> Iterator[tuple[Sequence[Path], str]]:
    if (root / "labels.json").exists() and not (root / "val").exists():
        labels = json.loads((root / "labels.json").read_text(encoding="utf-8"))
        for name in sorted(labels)[:: max(1, len(labels) // most)][:most]:
            path = next(iter(root.glob(f"**/{Path(name).stem}.*")), None)
            if path and path.suffix != ".json":
                yield [path], labels[name]
        return
    labels = json.loads(next(root.glob("**/labels.json")).read_text(encoding="utf-8"))
    for group in detect_layout(root).find_groups(root, "val")[0][:most]:
        text = group.text or labels.get(group.name) or labels.get(f"val/{group.name}")
        if text:
            yield group.frames, text


def line(restorer: Restorer, slots: Sequence, texts: Sequence[str], plates: bool) -> str:
    """One line of the table."""
    reader = restorer.method.slot_reader
    syntax = syntax_of(reader.charset, plates)
    found = [syntax.best(one, max(COUNTS)) for one in slots]
    cells = []
    for skip in (0, 1):
        right = [
            np.mean([_is_among(h, t, n, skip) for h, t in zip(found, texts, strict=True)])
            for n in COUNTS
        ]
        cells.append(" / ".join(f"{share:.3f}" for share in right))
    sums = [np.mean([sum(h.probabilities[:n]) for h in found]) for n in COUNTS]
    total = " / ".join(f"{value:.3f}" for value in sums)
    allowed = np.median([h.allowed for h in found])
    return f"{cells[0]} (but for the province {cells[1]}) | {total} | {allowed:.3f}"


def _is_among(found: Hypotheses, text: str, count: int, skip: int) -> bool:
    return text[skip:] in [other[skip:] for other in found.texts[:count]]


def by_confidence(readings: Sequence, texts: Sequence[str], readable: float) -> Iterator[str]:
    """How right readings are, by their confidence, `readable` among the bounds; and characters."""
    bounds = sorted({0, 0.01, 0.03, 0.1, 0.3, 0.6, 0.8, round(readable, 3), 1.01})
    for low, high in itertools.pairwise(bounds):
        part = [(r, t) for r, t in zip(readings, texts, strict=True) if low <= r.confidence < high]
        if part:
            right = np.mean([r.text == t for r, t in part])
            same = np.mean([a == b for r, t in part for a, b in zip(r.text, t, strict=False)])
            yield f"{low}-{high}, {len(part)}, {right:.3f}, {same:.3f}"
    bounds = (0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)
    for low, high in itertools.pairwise(bounds):
        part = [
            a == b
            for r, t in zip(readings, texts, strict=True)
            for a, b, c in zip(r.text, t, r.character_confidences, strict=False)
            if low <= c < high
        ]
        if part:
            yield f"characters {low}-{high}, {len(part)}, {np.mean(part):.3f}"


if __name__ == "__main__":
    main()
