"""The rows of the table: which images each of them judges.

A row is a way to get one image (or one reading) of a plate: the ground truth itself, a frame as it
came, the mean of the frames, psi, the restored plate, or a folder of another method's results.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_pipeline.images import resize
from lpdiff_jax.images import to_float, to_uint8
from lpdiff_jax.parallel import devices

GROUND_TRUTH = "ground truth"
BEST_FRAME = "best frame"
MEAN_FRAME = "mean of frames"
FRAMES_VOTED = "frames, voted"
FRAMES_MULTIPLIED = "frames, probabilities multiplied"
PSI = "psi"
RESTORED = "restored"
READING_HEAD = "reading head"
FUSED = "reading head and pictures, fused"

_FRAME = "frame "


def frame_row(position: int) -> str:
    """The name of the row of the frames at `position`, 0-based."""
    return f"{_FRAME}{position + 1}"


def is_frame(name: str) -> bool:
    """Whether a row is one of the frames as they came."""
    return name.startswith(_FRAME)


def voted_row(samples: int) -> str:
    """The name of the row of `samples` restored samples, voted."""
    return f"restored, {samples} samples voted"


def image_path(directory: Path, row: str, group: str) -> Path:
    """Where an evaluation puts a row's image of a group."""
    # A name out of a file of unknown origin must not lead out of the directory.
    return directory / row / f"{group.replace('/', '_')}.png"


def order(names: Iterable[str]) -> list[str]:
    """The rows in the order of the table, the input's first and others' results last."""
    fixed = [
        BEST_FRAME, MEAN_FRAME, FRAMES_VOTED, FRAMES_MULTIPLIED, PSI, RESTORED, READING_HEAD, FUSED
    ]  # fmt: skip

    def key(name: str) -> tuple[int, int, str]:
        if name == GROUND_TRUTH:
            return 0, 0, ""
        if is_frame(name):
            return 1, int(name.removeprefix(_FRAME)), ""
        if name in fixed:
            return 2, fixed.index(name), ""
        return (3 if name.startswith(RESTORED) else 4), 0, name

    return sorted(dict.fromkeys(names), key=key)


class Restores(Protocol):
    """What evaluation needs of a `Restorer`; images are float32 in [-1, 1]."""

    @property
    def image_size(self) -> tuple[int, int]: ...

    @property
    def charset(self) -> str: ...
    @property
    def slope(self) -> float: ...

    def estimate(self, frames: Any, mask: Any = None) -> Any:
        """`psi` [B, H, W, 3] of frames [B, N, H, W, 3], and `slots`, see `restorer.Estimate`."""

    def sample(
        self,
        psi: Any,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        samples: int = 1,
        seed: int = 0,
    ) -> Any:
        """Restored plates [B, samples, H, W, 3] from psi."""


@dataclass(frozen=True)
class Images:
    """What a row shows of a batch: uint8 images [B, H, W, 3], and which of them exist, bool [B]."""

    images: np.ndarray
    present: np.ndarray


def input_rows(batch: Mapping[str, np.ndarray]) -> dict[str, Images]:
    """The rows that need no model: ground truth, each frame, the mean of frames."""
    frames, mask = batch["frames"], batch["frame_mask"]
    rows = {GROUND_TRUTH: Images(batch["target"], np.ones(len(frames), bool))}
    for position in range(frames.shape[1]):
        if mask[:, position].any():
            rows[frame_row(position)] = Images(frames[:, position], mask[:, position])
    return rows | {MEAN_FRAME: Images(_mean_of_frames(frames, mask), np.any(mask, axis=1))}


def _mean_of_frames(frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
    weights = mask[..., None, None, None]
    total = np.sum(frames * weights, axis=1, dtype=np.float32)
    return np.rint(total / np.maximum(weights.sum(axis=1), 1)).astype(np.uint8)


@dataclass(frozen=True)
class Restored:
    """What the model makes of a batch.

    Attributes:
      psi: uint8 [B, H, W, 3].
      samples: uint8 [B, samples, H, W, 3].
      slots: the reading head's probabilities [B, S, C], if there is one.
      charset: the characters that it reads.
      slope: of its confidence, see `reading.read_slots`.
    """

    psi: np.ndarray
    samples: np.ndarray
    slots: np.ndarray | None
    charset: str
    slope: float = 1.0

    def rows(self) -> dict[str, Images]:
        """The rows psi and restored; the latter is the first sample."""
        everywhere = np.ones(len(self.psi), bool)
        return {
            PSI: Images(self.psi, everywhere),
            RESTORED: Images(self.samples[:, 0], everywhere),
        }


def restore_batch(
    restorer: Restores,
    batch: Mapping[str, np.ndarray],
    image_size: tuple[int, int],
    *,
    steps: int | None = None,
    samples: int = 1,
    seed: int = 0,
) -> Restored:
    """Runs the model on a batch of frames of its own size; the results have `image_size`."""
    frames = to_float(devices.split_over_local_devices(batch["frames"]))
    mask = devices.split_over_local_devices(batch["frame_mask"])
    estimate = restorer.estimate(frames, mask)
    psi = np.asarray(to_uint8(estimate.psi))
    restored = restorer.sample(estimate.guide, steps=steps, samples=samples, seed=seed)
    flat = np.asarray(to_uint8(restored)).reshape(-1, *psi.shape[1:])
    resized = _resize_all(flat, image_size).reshape(len(psi), samples, *image_size, 3)
    slots = None if estimate.slots is None else np.asarray(estimate.slots)
    return Restored(_resize_all(psi, image_size), resized, slots, restorer.charset, restorer.slope)


def _resize_all(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([resize(image, size) for image in images])


def nearest_frames(batch: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The batch with the `count` nearest frames of each plate alone, and `enough` bool [B]."""
    available = batch["frame_mask"].sum(axis=1)
    enough = available >= count
    # A plate with fewer is not used; its places are taken by some frame or other.
    first = np.where(enough, available - count, 0)
    chosen = first[:, None] + np.arange(count)
    frames = batch["frames"][np.arange(len(chosen))[:, None], chosen]
    mask = np.ones((len(chosen), count), bool)
    return {**batch, "frames": frames, "frame_mask": mask, "enough": enough}
