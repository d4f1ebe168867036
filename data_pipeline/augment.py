"""Augmentation of training groups, each effect a choice; text is never mirrored.

Three kinds. What belongs to the scene (light, colour, the camera's pose) is drawn once a group and
done to the frames and the ground truth alike, because the truth changes with it. What belongs to
one exposure (its brightness, blur, noise, an occlusion) is drawn for each frame and never touches
the ground truth. Last, the sequence: frames are lost, or come in another order.

All draws come from the generator that is handed in. Grain keys it by the seed and the example's
position in the stream, so that the result does not depend on workers or processes.
"""

import math
from dataclasses import dataclass, fields

import cv2
import numpy as np

from data_pipeline.errors import DataError

_PROBABILITIES = ("blur", "noise", "erase", "drop", "reorder")


@dataclass(frozen=True)
class AugmentConfig:
    """How much of each effect; 0 switches it off. Calling it augments one example.

    Attributes:
      brightness: largest shift of the scene's light, as a part of the full range.
      contrast: largest change of contrast around mid grey; 0.2 means 0.8 to 1.2 times.
      colour: largest change of each channel's gain.
      rotation: largest turn of the camera, in degrees.
      scale: largest change of size.
      shift: largest displacement, as a part of the width and the height.
      exposure: largest shift of one frame's brightness against the scene's.
      blur: probability that a frame is blurred.
      blur_sigma: smallest and largest standard deviation of that blur, in pixels.
      noise: probability that a frame gets Gaussian noise.
      noise_std: smallest and largest standard deviation of that noise, in grey levels.
      erase: probability that a rectangle of a frame is hidden.
      erase_size: smallest and largest side of it, as a part of the frame's.
      drop: probability that a frame is lost; the last one left never is.
      reorder: probability that a group's frames come in another order.
    """

    brightness: float = 0.1
    contrast: float = 0.2
    colour: float = 0.05
    rotation: float = 2.0
    scale: float = 0.05
    shift: float = 0.02
    exposure: float = 0.05
    blur: float = 0.2
    blur_sigma: tuple[float, float] = (0.3, 1.5)
    noise: float = 0.2
    noise_std: tuple[float, float] = (2.0, 12.0)
    erase: float = 0.05
    erase_size: tuple[float, float] = (0.05, 0.3)
    drop: float = 0.1
    reorder: float = 0.05

    def __post_init__(self) -> None:
        for field in fields(self):
            values = np.atleast_1d(getattr(self, field.name))
            most = 1.0 if field.name in _PROBABILITIES else math.inf
            if not np.all((values >= 0) & (values <= most)) or np.any(np.diff(values) < 0):
                raise DataError(
                    f"augment.{field.name} = {getattr(self, field.name)}: must be in 0..{most:g}"
                    + (", the smaller value first" if len(values) > 1 else "")
                )

    def __call__(
        self, example: dict[str, np.ndarray], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Augments one example as `pipeline.Load` makes it; its arrays are left as they are."""
        frames, mask = example["frames"], example["frame_mask"]
        present = np.flatnonzero(mask)
        pose = self._pose(frames.shape[1:3], rng)
        gain, offset = self._light(rng)
        target = _relight(_move(example["target"], pose), gain, offset)
        seen = [self._expose(_move(frames[i], pose), gain, offset, rng) for i in present]
        seen = self._resequence(seen, rng)
        augmented = np.zeros_like(frames)
        augmented[: len(seen)] = seen
        mask = np.arange(len(mask)) < len(seen)
        return {**example, "frames": augmented, "frame_mask": mask, "target": target}

    def _pose(self, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray | None:
        """[2, 3], an affine map about the centre; None where the camera stands still."""
        if not (self.rotation or self.scale or self.shift):
            return None
        height, width = size
        angle = rng.uniform(-self.rotation, self.rotation)
        scale = 1 + rng.uniform(-self.scale, self.scale)
        centre = ((width - 1) / 2, (height - 1) / 2)
        pose = np.array(cv2.getRotationMatrix2D(centre, angle, scale), np.float64)
        pose[:, 2] += rng.uniform(-self.shift, self.shift, 2) * (width, height)
        return pose

    def _light(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Gain and offset of each channel, [3] and [3], for grey levels about 127.5."""
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        gain = contrast * (1 + rng.uniform(-self.colour, self.colour, 3))
        offset = 255 * rng.uniform(-self.brightness, self.brightness)
        return gain, np.full(3, offset)

    def _expose(
        self, frame: np.ndarray, gain: np.ndarray, offset: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """What one exposure does to a frame, u8 [H, W, 3]."""
        frame = _relight(frame, gain, offset + 255 * rng.uniform(-self.exposure, self.exposure))
        if rng.random() < self.blur:
            frame = cv2.GaussianBlur(frame, (0, 0), rng.uniform(*self.blur_sigma) + 1e-3)
        if rng.random() < self.noise:
            noise = rng.standard_normal(frame.shape, np.float32) * rng.uniform(*self.noise_std)
            frame = np.clip(frame + noise, 0, 255).astype(np.uint8)
        if rng.random() < self.erase:
            frame = self._hide(frame, rng)
        return frame

    def _hide(self, frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = np.array(frame.shape[:2])
        sides = np.ceil(size * rng.uniform(*self.erase_size, 2)).astype(int)
        top, left = rng.integers(0, np.maximum(size - sides, 0) + 1)
        frame = frame.copy()
        frame[top : top + sides[0], left : left + sides[1]] = rng.integers(0, 256, 3)
        return frame

    def _resequence(self, frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        kept = np.flatnonzero(rng.random(len(frames)) >= self.drop)
        if not len(kept):
            kept = rng.integers(0, len(frames), 1)
        if rng.random() < self.reorder:
            kept = rng.permutation(kept)
        return [frames[i] for i in kept]


def _move(image: np.ndarray, pose: np.ndarray | None) -> np.ndarray:
    if pose is None:
        return image
    # The border is drawn out: a mirrored one would hold mirrored text.
    size = image.shape[1::-1]
    return cv2.warpAffine(image, pose, size, borderMode=cv2.BORDER_REPLICATE)


def _relight(image: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    levels = np.arange(256)[:, None]
    curve = np.rint((levels - 127.5) * gain + 127.5 + offset)
    return cv2.LUT(image, np.clip(curve, 0, 255).astype(np.uint8)[None])
