"""Samples of a plate should differ where the reading head is unsure, and agree where it is sure.

    lpdiff fetch-weights reader
    python -m benchmarks.studies.samples --data SET ... [--model MODEL] [--samples 8] [--limit 100]

Every plate is restored several times, and the recogniser reads each sample. Characters are sorted
by the head's confidence in them. Per band of confidence: how often the head is right, the share of
pairs of samples that show the same character there, and the share of characters that at least one
sample shows as they are. A set is an MDLP tree or shards.
"""

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.pipeline import decode_text, eval_batches
from data_pipeline.sources import open_source
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.judges import READER, load_judges
from lpdiff_jax.images import to_float, to_uint8
from lpdiff_jax.plate_text import Reading
from lpdiff_jax.restoring.restorer import Restorer

_BATCH = 16
# Upper ends of the bands of confidence.
BANDS = (0.3, 0.5, 0.7, 0.9, 0.97, 1.0)


class Character(NamedTuple):
    """One character of a plate: the head's confidence in it, and what the samples show there."""

    confidence: float
    right: bool
    agreement: float
    shown: bool


def compare(head: Reading, samples: Sequence[str], truth: str) -> Iterator[Character]:
    """The characters of one plate whose length the head has right.

    A sample that is read at another length shows, at every place, something else than the others.
    """
    if len(head.text) != len(truth):
        return
    pairs = list(itertools.combinations(samples, 2))
    same_length = [s for s in samples if len(s) == len(truth)]
    for i, true in enumerate(truth):
        agree = [len(a) == len(b) == len(truth) and a[i] == b[i] for a, b in pairs]
        shown = any(s[i] == true for s in same_length)
        right = head.text[i] == true
        yield Character(head.character_confidences[i], right, float(np.mean(agree)), shown)


def measure(restorer: Restorer, data: str, split: str, samples: int, limit: int) -> list[Character]:
    """The characters of a set's labelled plates."""
    slot_reader, reader = restorer.method.slot_reader, load_judges((READER,)).reader
    if slot_reader is None or reader is None:
        raise UserError("needs a model with a reading head, and `lpdiff fetch-weights reader`")
    found: list[Character] = []
    batches = eval_batches(
        open_source(data, split), image_size=restorer.image_size, max_frames=3, batch_size=_BATCH
    )
    for number, batch in enumerate(batches):
        if limit and number * _BATCH >= limit:
            break
        estimate = restorer.estimate(np.asarray(to_float(batch["frames"])), batch["frame_mask"])
        plates = np.asarray(to_uint8(restorer.draw(estimate, samples=samples)))
        heads = slot_reader.read(np.asarray(estimate.slots))
        for i, (codes, valid) in enumerate(zip(batch["text"], batch["valid"], strict=True)):
            if truth := decode_text(codes) if valid else "":
                texts = [reading.text for reading in reader.read(plates[i])]
                found += compare(heads[i], texts, truth)
    return found


def rows(characters: Sequence[Character]) -> Iterator[list[str]]:
    """A line per band of confidence that has characters."""
    banded = defaultdict(list)
    for character in characters:
        banded[min(np.searchsorted(BANDS, character.confidence), len(BANDS) - 1)].append(character)
    for band in sorted(banded):
        inside = banded[band]
        low = BANDS[band - 1] if band else 0.0
        shares = [np.mean([c[k] for c in inside]) for k in (1, 2, 3)]
        yield [f"{low:g} to {BANDS[band]:g}", str(len(inside)), *(f"{s:.2f}" for s in shares)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: the packaged model")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--limit", type=int, default=0, help="plates of a set (0: all)")
    args = parser.parse_args()
    if args.samples < 2:
        parser.error(
            f"--samples {args.samples}: one sample cannot differ from itself; give 2 or more"
        )
    print("| set | confidence | characters | head right | samples agree | a sample is right |")
    print("|---|---|---|---|---|---|")
    try:
        restorer = Restorer.load(args.model)
        for data in args.data:
            for row in rows(measure(restorer, data, args.split, args.samples, args.limit)):
                print(f"| {data} | {' | '.join(row)} |", flush=True)
    except (UserError, DataError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
