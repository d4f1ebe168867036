"""Restoring a user's own files: `lpdiff restore`, as a function."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.plate_text import Reading
from lpdiff_jax.restoring.inputs import InputGroup, find_groups, load_frames
from lpdiff_jax.restoring.plates import Options, RestoredPlate, even_parts, restore_plates
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.restoring.sheets import contact_sheet, text_image, write_image


def restore_files(
    restorer: Restorer,
    inputs: Sequence[str | Path],
    output: str | Path,
    options: Options,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Restores every group that `inputs` name.

    Writes `restored/<group>.png` (`<group>_2.png` and on for further samples), `sheets/<group>.png`
    (inputs and results side by side) and `restore.json`; and the first estimate, where the method
    makes one, in a folder of its name: `psi/<group>.png`. A file or a group that cannot be read is
    left out and named; the others are restored all the same.

    Args:
      restorer: the model.
      inputs: see `inputs.find_groups`.
      output: a folder, made if need be.
      options: how.
      progress: called with the groups done and their number.

    Returns:
      The content of restore.json: `plates` (with a `reading` where the model has a reading head),
      `problems`, and what is needed to repeat the work.

    Raises:
      UserError: nothing to restore, or a folder that cannot be written.
    """
    groups = find_groups(inputs)
    output = _make_folders(Path(output), restorer.method.first_picture)
    plates: list[dict[str, Any]] = []
    problems: list[str] = []
    for part in even_parts(len(groups), options.batch_size):
        loaded = _load(groups[part], options.max_frames, problems)
        restored = restore_plates(restorer, [frames for _, frames in loaded], options)
        for (group, _), plate in zip(loaded, restored, strict=True):
            plates.append(_write(output, group, plate, restorer))
        if progress:
            progress(part.stop, len(groups))
    summary = {
        "options": dataclasses.asdict(options),
        "sampler": dict(restorer.defaults),
        "draws_vary": restorer.draws_vary,
        "plates": plates,
        "problems": problems,
    }
    text = json.dumps(summary, ensure_ascii=False, indent=1)
    (output / "restore.json").write_text(text + "\n", encoding="utf-8")
    return summary


def _make_folders(output: Path, first_picture: str) -> Path:
    try:
        for name in filter(None, ("restored", first_picture, "sheets")):
            (output / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output}: cannot be written to ({error})") from error
    return output


Loaded = list[tuple[InputGroup, list[np.ndarray]]]


def _load(groups: Sequence[InputGroup], max_frames: int, problems: list[str]) -> Loaded:
    """Reads groups; what cannot be read is added to `problems`."""
    loaded = []
    for group in groups:
        frames, faults = load_frames(group, max_frames)
        problems += faults
        if frames:
            loaded.append((group, frames))
        else:
            problems.append(f"{group.name}: no frame of this plate can be read")
    return loaded


def _write(
    output: Path, group: InputGroup, plate: RestoredPlate, restorer: Restorer
) -> dict[str, Any]:
    """Writes one plate's pictures: every sample, the first estimate, the sheet with its inputs."""
    names = [group.name] + [f"{group.name}_{k}" for k in range(2, len(plate.samples) + 1)]
    for name, image in zip(names, plate.samples, strict=True):
        write_image(output / "restored" / f"{name}.png", image)
    titles = [f"frame {i + 1}" for i in range(len(plate.frames))]
    cells = [*plate.frames]
    if plate.first is not None:
        first_picture = restorer.method.first_picture
        write_image(output / first_picture / f"{group.name}.png", plate.first)
        titles.append(first_picture)
        cells.append(plate.first)
    if plate.first is None or restorer.draws_vary:  # else what is restored is the first estimate
        # "generated": a reader of the sheet must not take a restored plate for a photograph.
        titles += [f"generated {k + 1}" for k in range(len(plate.samples))]
        cells += [*plate.samples]
    described: dict[str, Any] = {
        "name": group.name,
        "inputs": [str(path) for path in group.paths],
        "restored": [f"restored/{name}.png" for name in names],
    }
    if plate.reading is not None:
        described["reading"] = dataclasses.asdict(plate.reading) | {"readable": plate.readable}
        cells.append(reading_cell(plate.reading, plate.readable, cells[0].shape[:2]))
        titles.append("read from the frames")
    write_image(output / "sheets" / f"{group.name}.png", contact_sheet([cells], titles))
    return described


def reading_cell(reading: Reading, sure: bool, size: tuple[int, int]) -> np.ndarray:
    """A cell of a sheet, uint8 [H, W, 3]: the text, its confidence, and whether to rely on it."""
    note = f"{reading.confidence:.2f}" + ("" if sure else ", not to rely on")
    return text_image(reading.text, note, size)
