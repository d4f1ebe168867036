"""The rows of the table: which images each of them judges.

A row is a way to get one image (or one reading) of a plate: the ground truth itself, a frame as it
came, the mean of the frames, a method's first estimate (LP-Diff's psi), the restored plate, or a
folder of another method's results.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

GROUND_TRUTH = "ground truth"
BEST_FRAME = "best frame"
MEAN_FRAME = "mean of frames"
FRAMES_VOTED = "frames, voted"
FRAMES_MULTIPLIED = "frames, probabilities multiplied"
# What methods call their first estimate.
FIRST_ESTIMATES = ("psi", "first estimate")
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


def is_built_in(name: str) -> bool:
    """Whether a row of this name is made by every evaluation, or by those of some models."""
    plain = name.strip().lower()
    own = (GROUND_TRUTH, BEST_FRAME, MEAN_FRAME, FRAMES_VOTED, FRAMES_MULTIPLIED, RESTORED)
    own += (READING_HEAD, FUSED, *FIRST_ESTIMATES)
    return plain in own or plain.startswith((_FRAME, f"{RESTORED}, "))


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
        BEST_FRAME, MEAN_FRAME, FRAMES_VOTED, FRAMES_MULTIPLIED, *FIRST_ESTIMATES, RESTORED,
        READING_HEAD, FUSED,
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


def with_nearest_frames(batch: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The batch with the `count` nearest frames of each plate alone, and `enough` bool [B]."""
    available = batch["frame_mask"].sum(axis=1)
    enough = available >= count
    # A plate with fewer is not used; its places are taken by some frame or other.
    first = np.where(enough, available - count, 0)
    chosen = first[:, None] + np.arange(count)
    frames = batch["frames"][np.arange(len(chosen))[:, None], chosen]
    mask = np.ones((len(chosen), count), bool)
    return {**batch, "frames": frames, "frame_mask": mask, "enough": enough}
