"""The pictures of single plates: inputs, results, ground truth, as the report shows them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.example import Source, nearest_frames
from data_pipeline.images import decode_image, read_image, resize
from lpdiff_jax.evaluation import rows
from lpdiff_jax.evaluation.partial_results import Record
from lpdiff_jax.restoring.sheets import contact_sheet


@dataclass(frozen=True)
class Plate:
    """One plate's record and its pictures by row, uint8 [H, W, 3]; inputs as they are stored."""

    record: Record
    images: dict[str, np.ndarray]


def load_plates(
    records: Sequence[Record], source: Source, output_dir: Path, max_frames: int
) -> Iterator[Plate]:
    """Reads the pictures again: inputs and truth from the source, results from the report."""
    for record in records:
        example = source[record["position"]]
        kept = [example.frames[i] for i in nearest_frames(len(example.frames), max_frames)]
        images = {
            rows.frame_row(k): decode_image(frame, f"{example.name}, frame")
            for k, frame in enumerate(kept)
        }
        for row in (*rows.FIRST_ESTIMATES, rows.RESTORED):
            path = rows.image_path(output_dir, row, record["name"])
            if row in record["rows"] and path.exists():
                images[row] = read_image(path)
        if example.target is not None:
            images[rows.GROUND_TRUTH] = decode_image(example.target, f"{example.name}, truth")
        yield Plate(record, images)


def worst_first(records: Sequence[Record]) -> list[Record]:
    """Sorts by the distance of the reading, of the restored plate or else the best row there is."""
    return sorted(records, key=lambda record: -_distance(record))


def _distance(record: Record) -> float:
    for row in (rows.RESTORED, *rows.FIRST_ESTIMATES, rows.BEST_FRAME):
        scores = record["rows"].get(row, {})
        if "ned" in scores:
            return float(scores["ned"])
        if "psnr" in scores:
            return -float(scores["psnr"])
    return 0.0


def columns(plates: Sequence[Plate]) -> list[str]:
    """The rows that the plates have pictures of: inputs, results, ground truth."""
    names = rows.order(name for plate in plates for name in plate.images)
    return [*(name for name in names if name != rows.GROUND_TRUTH), rows.GROUND_TRUTH]


def draw_sheet(plates: Sequence[Plate], image_size: tuple[int, int]) -> np.ndarray:
    """A contact sheet, frames | results | ground truth; what is missing is grey."""
    titles = columns(plates)
    missing = np.full((*image_size, 3), 128, np.uint8)
    lines = [
        [
            resize(plate.images[title], image_size) if title in plate.images else missing
            for title in titles
        ]
        for plate in plates
    ]
    return contact_sheet(lines, titles)
