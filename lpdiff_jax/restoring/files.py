"""Restoring a user's own files: `lpdiff restore`, as a function."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float, to_uint8
from lpdiff_jax.plate_text import Reading, read_slots
from lpdiff_jax.restoring.inputs import InputGroup, find_groups, load_frames, stack_frames
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.restoring.sheets import contact_sheet, text_image, write_image

FOLDERS = ("restored", "psi", "sheets")


@dataclasses.dataclass(frozen=True)
class Options:
    """How to restore; None takes the model's default.

    Attributes:
      steps: denoiser calls.
      sampler: see `diffusion.samplers`.
      samples: restorations of each plate.
      seed: of the noise.
      max_frames: frames used of each plate.
      batch_size: plates at a time.
    """

    steps: int | None = None
    sampler: str | None = None
    samples: int = 1
    seed: int = 0
    max_frames: int = 5
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("samples", "max_frames", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")


def restore_files(
    restorer: Restorer,
    inputs: Sequence[str | Path],
    output: str | Path,
    options: Options,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Restores every group that `inputs` name.

    Writes `restored/<group>.png` (`<group>_2.png` and on for further samples), `psi/<group>.png`,
    `sheets/<group>.png` (inputs, psi and restored side by side) and `restore.json`. A file or a
    group that cannot be read is left out and named; the others are restored all the same.

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
    output = _make_folders(Path(output))
    options = dataclasses.replace(options, batch_size=min(options.batch_size, len(groups)))
    plates: list[dict[str, Any]] = []
    problems: list[str] = []
    for first in range(0, len(groups), options.batch_size):
        loaded = _load(groups[first : first + options.batch_size], options.max_frames, problems)
        if loaded:
            plates += _restore_batch(restorer, loaded, options, output)
        if progress:
            progress(min(first + options.batch_size, len(groups)), len(groups))
    summary = {
        "options": dataclasses.asdict(options),
        "sampler": dataclasses.asdict(restorer.sampler),
        "diffusion": restorer.has_diffusion,
        "plates": plates,
        "problems": problems,
    }
    text = json.dumps(summary, ensure_ascii=False, indent=1)
    (output / "restore.json").write_text(text + "\n", encoding="utf-8")
    return summary


def _make_folders(output: Path) -> Path:
    try:
        for name in FOLDERS:
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


def _restore_batch(
    restorer: Restorer, loaded: Loaded, options: Options, output: Path
) -> list[dict[str, Any]]:
    """Restores one batch and writes its pictures; returns an entry a plate."""
    # Every batch has one shape, so that the model is compiled once: short ones are filled up.
    stacked = [stack_frames(f, restorer.image_size, options.max_frames) for _, f in loaded]
    stacked += [stacked[-1]] * (options.batch_size - len(stacked))
    frames = np.stack([images for images, _ in stacked])
    mask = np.stack([real for _, real in stacked])
    estimate = restorer.estimate(to_float(frames), mask)
    plates = restorer.sample(
        estimate.guide,
        steps=options.steps,
        sampler=options.sampler,
        samples=options.samples,
        seed=options.seed,
    )
    psi, restored = np.asarray(to_uint8(estimate.psi)), np.asarray(to_uint8(plates))
    readings: list[Reading | None] = [None] * len(psi)
    if estimate.slots is not None:
        readings = [*read_slots(np.asarray(estimate.slots), restorer.charset, restorer.slope)]
    return [
        _write(output, group, frames[i][mask[i]], psi[i], restored[i], readings[i], restorer)
        for i, (group, _) in enumerate(loaded)
    ]


def _write(
    output: Path,
    group: InputGroup,
    frames: np.ndarray,
    psi: np.ndarray,
    restored: np.ndarray,
    reading: Reading | None,
    restorer: Restorer,
) -> dict[str, Any]:
    """Writes one plate's pictures: psi, every restored sample, and the sheet with its inputs."""
    names = [group.name] + [f"{group.name}_{k}" for k in range(2, len(restored) + 1)]
    for name, image in zip(names, restored, strict=True):
        write_image(output / "restored" / f"{name}.png", image)
    write_image(output / "psi" / f"{group.name}.png", psi)
    # "generated": a reader of the sheet must not take a restored plate for a photograph.
    titles = [f"frame {i + 1}" for i in range(len(frames))] + ["psi"]
    cells = [*frames, psi]
    if restorer.has_diffusion:  # else what is restored is psi
        titles += [f"generated {k + 1}" for k in range(len(restored))]
        cells += [*restored]
    plate: dict[str, Any] = {
        "name": group.name,
        "inputs": [str(path) for path in group.paths],
        "restored": [f"restored/{name}.png" for name in names],
    }
    if reading is not None:
        sure = reading.confidence >= restorer.model.readable
        plate["reading"] = dataclasses.asdict(reading) | {"readable": sure}
        cells.append(reading_cell(reading, sure, psi.shape[:2]))
        titles.append("read from the frames")
    write_image(output / "sheets" / f"{group.name}.png", contact_sheet([cells], titles))
    return plate


def reading_cell(reading: Reading, sure: bool, size: tuple[int, int]) -> np.ndarray:
    """A cell of a sheet, uint8 [H, W, 3]: the text, its confidence, and whether to rely on it."""
    note = f"{reading.confidence:.2f}" + ("" if sure else ", not to rely on")
    return text_image(reading.text, note, size)
