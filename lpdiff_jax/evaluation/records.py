"""What is kept of each plate and row, and how a batch of images becomes that.

A record is plain data, so that it can be written as one line of JSON as soon as it is known:

    {"name": "00", "text": "冀H7613F", "rows": {"psi": {"psnr": 14.2, "ssim": 0.31,
     "reading": "冀H7618F", "confidence": 0.8, "character_confidences": [...], "ned": 0.14}}}
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lpdiff_jax.evaluation import fusion, rows
from lpdiff_jax.evaluation.image_metrics import psnr, ssim
from lpdiff_jax.evaluation.reading import (
    PosteriorReader,
    Reader,
    Reading,
    normalised_edit_distance,
)

MAX_PSNR = 100.0

Record = dict[str, Any]
Scores = dict[str, Any]


def score_batch(
    images: Mapping[str, rows.Images],
    samples: np.ndarray | None,
    texts: Sequence[str],
    reader: Reader | None,
) -> list[dict[str, Scores]]:
    """Scores every row of a batch.

    Args:
      images: the rows that have images, the ground truth among them.
      samples: restored samples uint8 [B, samples, H, W, 3] to be voted on, or None.
      texts: the true text of each plate; empty where it is not known.
      reader: reads the images; None leaves the reading out.

    Returns:
      For each plate its scores by row, in the table's order.
    """
    plates: list[dict[str, Scores]] = [{} for _ in texts]
    for name, row in images.items():
        for i, scores in enumerate(_score_images(row, images[rows.GROUND_TRUTH].images)):
            if row.present[i]:
                plates[i][name] = {} if name == rows.GROUND_TRUTH else scores
    if reader is not None:
        readings = read_rows(reader, images)
        if samples is not None:
            readings[rows.voted_row(samples.shape[1])] = _read_samples(reader, samples)
        for name, row_readings in readings.items():
            for plate, reading, text in zip(plates, row_readings, texts, strict=True):
                if reading is not None:
                    plate.setdefault(name, {}).update(score_reading(reading, text))
    for plate in plates:
        plate[rows.BEST_FRAME] = best_frame(plate)
    return [{name: plate[name] for name in rows.order(plate)} for plate in plates]


def _score_images(row: rows.Images, targets: np.ndarray) -> list[Scores]:
    """PSNR and SSIM of a row's images."""
    # An image equal to its target has an infinite PSNR, which no mean survives.
    decibels = np.minimum(psnr(row.images, targets), MAX_PSNR)
    pairs = zip(decibels.tolist(), ssim(row.images, targets).tolist(), strict=True)
    return [{"psnr": first, "ssim": second} for first, second in pairs]


def score_reading(reading: Reading, text: str) -> Scores:
    """The reading as data, with its distance to the truth where that is known."""
    scores: Scores = asdict(reading)
    scores["reading"] = scores.pop("text")
    if text:
        scores["ned"] = normalised_edit_distance(reading.text, text)
    return scores


def read_rows(reader: Reader, images: Mapping[str, rows.Images]) -> dict[str, list[Reading | None]]:
    """Reads every image of every row, and the frames of each plate as one; None: no such image."""
    readings: dict[str, list[Reading | None]] = {}
    frames_probabilities: list[list[np.ndarray]] = [[] for _ in images[rows.GROUND_TRUTH].images]
    for name, row in images.items():
        found, probabilities = _read_images(reader, row.images)
        present = row.present
        readings[name] = [r if here else None for r, here in zip(found, present, strict=True)]
        if rows.is_frame(name) and probabilities is not None:
            for i in np.flatnonzero(present):
                frames_probabilities[i].append(probabilities[i])
    frames = [row for name, row in readings.items() if rows.is_frame(name)]
    by_plate = [[r for r in plate if r] for plate in zip(*frames, strict=True)]
    readings[rows.FRAMES_VOTED] = [fusion.vote(plate) for plate in by_plate]
    if isinstance(reader, PosteriorReader):
        readings[rows.FRAMES_MULTIPLIED] = [
            fusion.read_product(reader, np.stack(plate)) for plate in frames_probabilities
        ]
    return readings


def _read_images(reader: Reader, images: np.ndarray) -> tuple[list[Reading], np.ndarray | None]:
    if not isinstance(reader, PosteriorReader):
        return reader.read(images), None
    probabilities = reader.probabilities(images)
    return reader.decode(probabilities), probabilities


def _read_samples(reader: Reader, samples: np.ndarray) -> list[Reading | None]:
    return [fusion.vote(reader.read(plate)) for plate in samples]


def best_frame(scores: Mapping[str, Scores]) -> Scores:
    """For each figure the best of a plate's frames: no way to choose one frame does better."""
    frames = [values for name, values in scores.items() if rows.is_frame(name)]
    best: Scores = {key: max(values[key] for values in frames) for key in ("psnr", "ssim")}
    read = [values for values in frames if "ned" in values]
    if read:
        closest = min(read, key=lambda values: (values["ned"], -values["confidence"]))
        keys = ("reading", "confidence", "character_confidences", "ned")
        best |= {key: closest[key] for key in keys}
    return best


def append(path: Path, records: Sequence[Record]) -> None:
    """Adds records to a file of one JSON object a line; they survive what comes after."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read(path: Path) -> Iterator[Record]:
    """Reads the records of a file that `append` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
