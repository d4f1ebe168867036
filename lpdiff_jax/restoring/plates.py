"""Plates from frames, without files: what `lpdiff restore`, a server and the evaluation share."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_pipeline.example import nearest_frames
from data_pipeline.images import resize
from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float, to_uint8
from lpdiff_jax.plate_text import Reading
from lpdiff_jax.restoring.restorer import Restorer


@dataclasses.dataclass(frozen=True)
class Options:
    """How to restore; None takes the model's default.

    Attributes:
      steps: the number of denoiser calls.
      sampler: a name of `diffusion.samplers`, or a whole sampler.
      samples: the restorations of each plate.
      seed: the seed of the noise.
      max_frames: the most frames that are used of each plate: the nearest ones.
      batch_size: the plates that are computed at a time.
    """

    steps: int | None = None
    sampler: Any = None
    samples: int = 1
    seed: int = 0
    max_frames: int = 5
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("samples", "max_frames", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclasses.dataclass(frozen=True, eq=False)
class RestoredPlate:
    """What a model makes of one plate's frames. Images are uint8 RGB of the model's size.

    Attributes:
      used: the places of the frames that were used, among those given.
      frames: the frames as the model saw them, [n, H, W, 3].
      first: the method's first estimate (LP-Diff's psi), [H, W, 3]; None where it makes none.
      samples: the restorations, [K, H, W, 3].
      slots: the reading head's probabilities [S, C]; None where there is no reading head.
      reading: the reading head's text; None where there is no reading head.
      readable: whether the reading can be relied on.
    """

    used: range
    frames: np.ndarray
    first: np.ndarray | None
    samples: np.ndarray
    slots: np.ndarray | None = None
    reading: Reading | None = None
    readable: bool = False


def restore_plates(
    restorer: Restorer, groups: Sequence[Sequence[np.ndarray]], options: Options | None = None
) -> list[RestoredPlate]:
    """Restores plates.

    Args:
      restorer: the model, ready to restore.
      groups: each plate's frames, uint8 RGB [h, w, 3] of any size, in order (far to near), each
        cropped to the plate.
      options: how to restore; None takes the defaults.

    Raises:
      UserError: a plate without frames, or a sampler that does not exist.
    """
    options = options or Options()
    for number, frames in enumerate(groups, 1):
        if not len(frames):
            raise UserError(f"plate {number} of {len(groups)} has no frames")
    return [
        plate
        for part in even_parts(len(groups), options.batch_size)
        for plate in _restore_batch(restorer, groups[part], options)
    ]


def even_parts(total: int, largest: int) -> Iterator[slice]:
    """Cuts `total` plates into parts of nearly equal size, `largest` at most.

    They are filled up to one power of two then, so that the model is compiled once for all.
    """
    size = -(-total // -(-total // largest)) if total else 1
    for first in range(0, total, size):
        yield slice(first, min(first + size, total))


def stack_frames(
    frames: Sequence[np.ndarray], image_size: tuple[int, int], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Resizes a plate's frames and pads them to a common length.

    Args:
      frames: uint8 RGB images, 1 to `length`.
      image_size: the size to resize to, (H, W).
      length: the length to pad to, N.

    Returns:
      uint8 [N, H, W, 3], black where padded, and mask bool [N].
    """
    stacked = np.zeros((length, *image_size, 3), np.uint8)
    for i, frame in enumerate(frames):
        stacked[i] = resize(frame, image_size)
    return stacked, np.arange(length) < len(frames)


def _restore_batch(
    restorer: Restorer, groups: Sequence[Sequence[np.ndarray]], options: Options
) -> list[RestoredPlate]:
    used = [nearest_frames(len(frames), options.max_frames) for frames in groups]
    chosen = [[frames[i] for i in places] for frames, places in zip(groups, used, strict=True)]
    stacked = [stack_frames(f, restorer.image_size, options.max_frames) for f in chosen]
    frames, mask = (np.stack(arrays) for arrays in zip(*stacked, strict=True))
    estimate = restorer.estimate(to_float(frames), mask)
    drawn = restorer.draw(
        estimate,
        steps=options.steps,
        sampler=options.sampler,
        samples=options.samples,
        seed=options.seed,
    )
    samples = to_uint8(np.asarray(drawn))
    first = None if estimate.image is None else to_uint8(np.asarray(estimate.image))
    slots = None if estimate.slots is None else np.asarray(estimate.slots)
    reader = restorer.method.slot_reader
    readings = reader.read(slots) if reader is not None and slots is not None else None
    return [
        RestoredPlate(
            used=used[i],
            frames=frames[i][mask[i]],
            first=None if first is None else first[i],
            samples=samples[i],
            slots=None if slots is None else slots[i],
            reading=readings[i] if readings else None,
            readable=bool(reader and readings and reader.relies_on(readings[i])),
        )
        for i in range(len(groups))
    ]
