"""The pictures of one restored plate: what is in which file."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from lpdiff_jax.restoring import drawing
from lpdiff_jax.restoring.names import sample_name
from lpdiff_jax.restoring.plates import RestoredPlate
from lpdiff_jax.restoring.sheets import text_image
from lpdiff_jax.restoring.verdicts import verdict


@dataclasses.dataclass(frozen=True)
class PictureFile:
    """A picture to write.

    Attributes:
      path: below the output folder, with `/`.
      image: uint8 RGB.
      facts: what its text chunks say.
      mark: what the strip below it says, ASCII; empty for none.
    """

    path: str
    image: np.ndarray
    facts: dict[str, Any]
    mark: str = ""


def plate_pictures(
    name: str, plate: RestoredPlate, first: str, scale: int, native: bool, draws_vary: bool
) -> Iterator[PictureFile]:
    """All pictures of one plate.

    Args:
      name: the plate's.
      plate: what the model made of it.
      first: what the first estimate is called, and its folder.
      scale: how much larger than the model's pixels they are.
      native: the model's own pixels as well.
      draws_vary: whether samples differ.
    """
    cells = [(f"frame {k}", frame) for k, frame in enumerate(plate.frames, 1)]
    if plate.first is not None:
        large = drawing.enlarge(plate.first, scale)
        made = {"generated": True, "kind": first}
        yield PictureFile(f"{first}/{name}.png", large, made, "first estimate")
        cells.append((f"generated: {first}", plate.first))
        if native:
            yield PictureFile(f"native/{name}.{first}.png", plate.first, made)
    for number, sample in enumerate(plate.samples, 1):
        file = sample_name(name, number)
        made = {"generated": True, "kind": "restored", "sample": number}
        large = drawing.enlarge(sample, scale)
        yield PictureFile(f"restored/{file}.png", large, made, f"sample {number}")
        if native:
            yield PictureFile(f"native/{file}.png", sample, made)
        if plate.first is None or draws_vary:  # else what is restored is the first estimate
            cells.append((f"generated {number}", sample))
    if len(plate.samples) > 1 and draws_vary:
        spread, most = drawing.spread_map(plate.samples)
        title = f"differ by up to {most:.0f} of 255"
        made = {"generated": True, "kind": "spread", "largest": round(most, 3)}
        yield PictureFile(f"spread/{name}.png", drawing.enlarge(spread, scale), made, title)
        cells.append((title, spread))
    large_cells = [(title, drawing.enlarge(image, scale)) for title, image in cells]
    if plate.reading is not None:
        note = f"{plate.reading.confidence:.2f}, {verdict(plate.reading, plate.readable)}"
        size = large_cells[0][1].shape[:2]
        cell = text_image(plate.reading.text, note, (size[0], size[1]))
        large_cells.append(("read from the frames", cell))
    sheet = drawing.grid(large_cells)
    yield PictureFile(f"sheets/{name}.png", sheet, {"generated": True, "kind": "sheet"})
