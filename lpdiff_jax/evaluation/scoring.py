"""What is kept of each plate and row, and how a batch of images becomes that.

A record is plain data, one line of JSON:

    {"position": 0, "name": "00", "text": "冀H7613F", "rows": {"psi": {"psnr": 14.2, "ssim": 0.31,
     "reading": "冀H7618F", "confidence": 0.8, "character_confidences": [...], "ned": 0.14}}}
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from data_pipeline.labels import normalise
from lpdiff_jax.evaluation import rows
from lpdiff_jax.evaluation.judges import Judges
from lpdiff_jax.evaluation.reading import fusion
from lpdiff_jax.evaluation.reading.edit_distance import normalised_edit_distance
from lpdiff_jax.evaluation.reading.readers import PosteriorReader, Reader
from lpdiff_jax.evaluation.report.summary import FIGURES
from lpdiff_jax.evaluation.restored import Restored
from lpdiff_jax.plate_text import Reading

Scores = dict[str, Any]


def score_batch(
    images: Mapping[str, rows.Images],
    restored: Restored | None,
    texts: Sequence[str],
    judges: Judges,
) -> list[dict[str, Scores]]:
    """Scores every row of a batch.

    Args:
      images: the rows that have images; one of them is the ground truth.
      restored: what the model has made of the frames, or None.
      texts: the true text of each plate; empty where it is not known.
      judges: the judges of the images.

    Returns:
      For each plate its scores by row, in the table's order.
    """
    plates = _score_images(images, judges)
    readings = {} if judges.reader is None else read_rows(judges.reader, images)
    if restored is not None:
        readings |= read_restored(judges.reader, restored, readings)
    for name, row_readings in readings.items():
        for plate, reading, text in zip(plates, row_readings, texts, strict=True):
            if reading is not None:
                plate.setdefault(name, {}).update(score_reading(reading, text))
    for plate in plates:
        plate[rows.BEST_FRAME] = best_frame(plate)
    return [{name: plate[name] for name in rows.order(plate)} for plate in plates]


def _score_images(images: Mapping[str, rows.Images], judges: Judges) -> list[dict[str, Scores]]:
    """The figures of each row's images against the ground truth, which itself has none."""
    targets = images[rows.GROUND_TRUTH].images
    plates: list[dict[str, Scores]] = [{rows.GROUND_TRUTH: {}} for _ in targets]
    for name, row in images.items():
        if name == rows.GROUND_TRUTH:
            continue
        columns = {key: figure(row.images, targets) for key, figure in judges.figures.items()}
        for i in np.flatnonzero(row.present):
            plates[i][name] = {key: float(values[i]) for key, values in columns.items()}
    return plates


def score_reading(reading: Reading, text: str) -> Scores:
    """The reading as data, with its distance to the truth where that is known."""
    scores: Scores = asdict(reading)
    scores["reading"] = scores.pop("text")
    if text:
        # Labels have no separators; a recogniser's own alphabet may.
        scores["ned"] = normalised_edit_distance(normalise(reading.text), text)
    return scores


def read_rows(reader: Reader, images: Mapping[str, rows.Images]) -> dict[str, list[Reading | None]]:
    """Reads every image of every row, and the frames of each plate as one; None: no such image."""
    readings: dict[str, list[Reading | None]] = {}
    probabilities: list[list[np.ndarray]] = [[] for _ in images[rows.GROUND_TRUTH].images]
    for name, row in images.items():
        here = np.flatnonzero(row.present)
        found, posteriors = _read_images(reader, row.images[here])
        readings[name] = [None] * len(row.images)
        for i, reading in zip(here, found, strict=True):
            readings[name][i] = reading
        if rows.is_frame(name) and posteriors is not None:
            for i, posterior in zip(here, posteriors, strict=True):
                probabilities[i].append(posterior)
    frames = [row for name, row in readings.items() if rows.is_frame(name)]
    by_plate = [[r for r in plate if r] for plate in zip(*frames, strict=True)]
    readings[rows.FRAMES_VOTED] = [fusion.vote(plate) for plate in by_plate]
    if isinstance(reader, PosteriorReader):
        readings[rows.FRAMES_MULTIPLIED] = [
            fusion.read_product(reader, np.stack(plate)) for plate in probabilities
        ]
    return readings


def _read_images(reader: Reader, images: np.ndarray) -> tuple[list[Reading], np.ndarray | None]:
    if not isinstance(reader, PosteriorReader):
        return reader.read(images), None
    probabilities = reader.probabilities(images)
    return reader.decode(probabilities), probabilities


def read_restored(
    reader: Reader | None, restored: Restored, known: Mapping[str, Sequence[Reading | None]]
) -> dict[str, list[Reading | None]]:
    """The rows that are readings alone: several samples voted, the reading head's, all fused.

    Args:
      reader: reads the samples; without one the reading head is alone.
      restored: what the model has made of a batch.
      known: the readings of the images; the first estimate's and the first sample's are used.
    """
    found: dict[str, list[Reading | None]] = {}
    pictures: list[list[Reading]] = [[] for _ in restored.samples]
    if reader is not None:
        firsts = zip(*(known[name] for name in restored.rows()), strict=True)
        pictures = [[r for r in one if r is not None] for one in firsts]
        if restored.samples.shape[1] > 1:
            more = [reader.read(plate[1:]) for plate in restored.samples]
            pictures = [[*a, *b] for a, b in zip(pictures, more, strict=True)]
            row, drawn = rows.voted_row(restored.samples.shape[1]), len(restored.rows()) - 1
            found[row] = [fusion.vote(readings[drawn:]) for readings in pictures]
    if restored.slots is not None and restored.slot_reader is not None:
        found[rows.READING_HEAD] = [*restored.slot_reader.read(restored.slots)]
        if reader is not None:
            found[rows.FUSED] = [
                fusion.fuse(slots, restored.slot_reader, readings)
                for slots, readings in zip(restored.slots, pictures, strict=True)
            ]
    return found


def best_frame(scores: Mapping[str, Scores]) -> Scores:
    """For each figure the best of a plate's frames: no way to choose one frame does better."""
    frames = [values for name, values in scores.items() if rows.is_frame(name)]
    best: Scores = {}
    for name, figure in FIGURES.items():
        known = [values[name] for values in frames if name in values]
        if known:
            best[name] = max(known) if figure.more_is_better else min(known)
    read = [values for values in frames if "reading" in values]
    if read:
        # Where the truth is not known, the surest.
        closest = min(read, key=lambda values: (values.get("ned", 0), -values["confidence"]))
        best |= {key: closest[key] for key in ("reading", "confidence", "character_confidences")}
    return best
