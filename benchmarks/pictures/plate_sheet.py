"""A sheet of labelled plates: frames, first estimate, restored, ground truth, what is read.

    python benchmarks/pictures/plate_sheet.py --data MDLP_ROOT --output docs/images/real-plates.jpg

The plates are the first of the split, in their order, failures included. The last columns are the
reading head's text with its confidence, and the true text.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.images import resize
from data_pipeline.pipeline import decode_text, eval_batches
from data_pipeline.sources import open_source
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.reading.edit_distance import edit_distance
from lpdiff_jax.images import to_float, to_uint8
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.restoring.sheets import contact_sheet, reading_cell, text_image, write_image

CELL = (72, 144)  # height and width, pixels


def main() -> None:
    """Writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="default: the packaged model")
    parser.add_argument("--data", required=True, help="MDLP tree or shards, with labels")
    parser.add_argument("--split", default="val")
    parser.add_argument("--plates", type=int, default=18)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    try:
        write_sheet(args)
    except (UserError, DataError) as error:
        parser.error(str(error))


def write_sheet(args: argparse.Namespace) -> None:
    """Restores the plates and writes the sheet."""
    restorer = Restorer.load(args.model)
    batch = next(
        eval_batches(
            open_source(args.data, args.split),
            image_size=restorer.image_size,
            max_frames=args.frames,
            batch_size=args.plates,
        )
    )
    columns = make_columns(restorer, batch)
    lines = [list(line) for line in zip(*columns.values(), strict=True)]
    write_image(args.output, contact_sheet(lines[: int(batch["valid"].sum())], list(columns)))


def make_columns(
    restorer: Restorer, batch: Mapping[str, np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """The sheet's columns by title: a cell, uint8 [h, w, 3], for each plate of the batch."""
    estimate = restorer.estimate(to_float(batch["frames"]), batch["frame_mask"])
    frames = np.moveaxis(batch["frames"], 1, 0)
    pictures = {f"frame {k + 1}": images for k, images in enumerate(frames)}
    if estimate.image is not None:
        pictures[restorer.method.first_picture] = np.asarray(to_uint8(estimate.image))
    if estimate.image is None or restorer.draws_vary:
        pictures["restored"] = np.asarray(to_uint8(restorer.draw(estimate)[:, 0]))
    pictures["ground truth"] = batch["target"]
    columns = {t: [resize(image, CELL) for image in images] for t, images in pictures.items()}
    reader = restorer.method.slot_reader
    if reader is not None and estimate.slots is not None:
        texts = [decode_text(codes) for codes in batch["text"]]
        readings = reader.read(np.asarray(estimate.slots))
        columns["read from the frames"] = [
            reading_cell(reading, reader.relies_on(reading), CELL) for reading in readings
        ]
        pairs = zip(readings, texts, strict=True)
        columns["truth"] = [_verdict(reading.text, text) for reading, text in pairs]
    return columns


def _verdict(read: str, text: str) -> np.ndarray:
    wrong = edit_distance(read, text)
    return text_image(text, f"{wrong} wrong" if wrong else "all right", CELL)


if __name__ == "__main__":
    main()
