r"""The same plates through several systems: frames, each system, truth, and what is read of each.

    python benchmarks/pictures/systems_sheet.py --data MDLP_ROOT --output sheet.jpg \
        --model HAT=runs/hat_compact --model LP-Diff=runs/compact

The plates are the first of the split, in their order, failures included. What stands under a
picture is the recogniser's reading of it: green where it is the plate's text, else red.
`lpdiff fetch-weights reader` fetches the recogniser. Commit pictures of drawn plates alone.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.errors import DataError
from data_pipeline.fonts import FONTS, NOTO
from data_pipeline.images import resize
from data_pipeline.pipeline import decode_text, eval_batches
from data_pipeline.sources import open_source
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.reading.ctc_reader import load_reader
from lpdiff_jax.evaluation.reading.readers import Reader
from lpdiff_jax.evaluation.restored import restore_batch
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.restoring.sheets import contact_sheet, write_image

SIZE = (112, 224)  # of the pictures that are read, height and width
CELL, CAPTION = (60, 120), 18  # pixels: height and width of a picture, height of what is below
RIGHT, WRONG = (0, 110, 0), (190, 0, 0)


def main() -> None:
    """Writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", required=True, metavar="NAME=MODEL")
    parser.add_argument("--data", required=True, help="MDLP tree or shards, with labels")
    parser.add_argument("--split", default="val")
    parser.add_argument("--plates", type=int, default=8)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if unnamed := [model for model in args.model if "=" not in model]:
        parser.error(f"--model {unnamed[0]}: expected NAME=MODEL")
    try:
        pictures, texts = make_pictures(args)
        write_image(args.output, make_sheet(pictures, texts, load_reader()))
    except (UserError, DataError) as error:
        parser.error(str(error))


def make_pictures(args: argparse.Namespace) -> tuple[dict[str, np.ndarray], list[str]]:
    """The pictures of all plates [P, H, W, 3] by the title of their column, and the true texts."""
    source = open_source(args.data, args.split)

    def at(size: tuple[int, int]) -> Mapping[str, np.ndarray]:
        count = min(args.plates, len(source))
        batches = eval_batches(source, image_size=size, max_frames=args.frames, batch_size=count)
        return next(batches)

    batch = at(SIZE)
    pictures = {f"frame {k + 1}": batch["frames"][:, k] for k in range(batch["frames"].shape[1])}
    for name, _, model in (given.partition("=") for given in args.model):
        restorer = Restorer.load(model)
        made = restore_batch(restorer, at(restorer.image_size), SIZE)
        if made.first is not None:
            pictures[f"{name}: {made.first_picture}"] = made.first
        pictures[name] = made.samples[:, 0]
    pictures["ground truth"] = batch["target"]
    return pictures, [decode_text(codes) for codes in batch["text"]]


def make_sheet(
    pictures: Mapping[str, np.ndarray], texts: Sequence[str], reader: Reader
) -> np.ndarray:
    """The sheet, uint8 [h, w, 3]: a line for each plate, a column for each of the pictures."""
    columns = []
    for images in pictures.values():
        readings = reader.read(images)
        columns.append(
            [captioned(*one) for one in zip(images, [r.text for r in readings], texts, strict=True)]
        )
    return contact_sheet([list(line) for line in zip(*columns, strict=True)], list(pictures))


def captioned(image: np.ndarray, reading: str, text: str) -> np.ndarray:
    """A picture with what is read of it below, uint8 [CELL height + CAPTION, CELL width, 3]."""
    strip = Image.new("RGB", (CELL[1], CAPTION), "white")
    font = ImageFont.truetype(FONTS / NOTO, CAPTION - 4)
    place = (CELL[1] / 2, CAPTION / 2)
    colour = RIGHT if reading == text else WRONG
    draw = ImageDraw.Draw(strip)
    if reading:
        draw.text(place, reading, colour, font, anchor="mm")
    else:  # nothing was read, and the font has no dash
        draw.line([(place[0] - 8, place[1]), (place[0] + 8, place[1])], colour, 2)
    return np.concatenate([resize(image, CELL), np.asarray(strip)])


if __name__ == "__main__":
    main()
