"""What a model makes of a batch of plates, as images of the judged size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.images import resize
from lpdiff_jax.evaluation import rows
from lpdiff_jax.plate_text import SlotReader
from lpdiff_jax.restoring.plates import Options, restore_plates
from lpdiff_jax.restoring.restorer import Restorer


@dataclass(frozen=True, eq=False)
class Restored:
    """What the model makes of a batch.

    Attributes:
      samples: the restorations, uint8 [B, samples, H, W, 3].
      first: the method's first estimate, uint8 [B, H, W, 3]; None where it makes none.
      first_picture: the name of the first estimate, which is also that of its row.
      slots: the reading head's probabilities [B, S, C]; None where there is no reading head.
      slot_reader: what spells the slots.
    """

    samples: np.ndarray
    first: np.ndarray | None = None
    first_picture: str = ""
    slots: np.ndarray | None = None
    slot_reader: SlotReader | None = None

    def rows(self) -> dict[str, rows.Images]:
        """The rows of the first estimate and of the restored plate, which is the first sample."""
        everywhere = np.ones(len(self.samples), bool)
        shown = {} if self.first is None else {self.first_picture: self.first}
        shown[rows.RESTORED] = self.samples[:, 0]
        return {name: rows.Images(images, everywhere) for name, images in shown.items()}


def restore_batch(
    restorer: Restorer,
    batch: Mapping[str, np.ndarray],
    image_size: tuple[int, int],
    *,
    steps: int | None = None,
    samples: int = 1,
    seed: int = 0,
) -> Restored:
    """Runs the model on a batch of frames of its own size; the results have `image_size`."""
    frames, mask = batch["frames"], batch["frame_mask"]
    count, length = mask.shape
    plates = restore_plates(
        restorer,
        [frames[i][mask[i]] for i in range(count)],
        Options(steps, None, samples, seed, max_frames=length, batch_size=count),
    )
    first = [plate.first for plate in plates if plate.first is not None]
    slots = [plate.slots for plate in plates if plate.slots is not None]
    return Restored(
        np.stack([_resize_all(plate.samples, image_size) for plate in plates]),
        _resize_all(first, image_size) if first else None,
        restorer.method.first_picture,
        np.stack(slots) if slots else None,
        restorer.method.slot_reader,
    )


def _resize_all(images: Sequence[np.ndarray] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([resize(image, size) for image in images])
