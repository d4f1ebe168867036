"""Augmentation of training groups, each effect a choice; text is never mirrored.

There are three kinds. What belongs to the scene (light, colour, the camera's pose) is drawn once
per group and done to the frames and the ground truth alike, because the truth changes with it. What
belongs to one exposure (its brightness, blur, noise, an occlusion) is drawn for each frame and
never touches the ground truth. Last, the sequence: frames are lost, or come in another order.

Light, blur, noise and occlusions act on the images as they were stored: a far frame has a thirtieth
of the pixels that it is resized to, and a camera's noise is in its own pixels. The pose is part of
the resizing, so that nothing is interpolated twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.images import resize

# Turn in degrees, scale, and displacement (x, y) in parts of the image.
Pose = tuple[float, float, np.ndarray]

_LEVELS = np.arange(256)[:, None]
_PROBABILITIES = ("grey", "blur", "noise", "erase", "drop", "reorder")
# Shares of red, green and blue in a grey picture (ITU-R BT.601), and how near to them infrared and
# night cameras are: the sum of a Dirichlet distribution's parameters.
_GREY, _NEARNESS = np.array([0.299, 0.587, 0.114]), 12.0


@dataclass(frozen=True)
class AugmentConfig:
    """How much of each effect; 0 switches it off. Calling it augments one group.

    Attributes:
      brightness: largest shift of the scene's light, as a part of the full range.
      contrast: largest change of contrast around mid grey; 0.2 means 0.8 to 1.2 times.
      colour: largest change of each channel's gain.
      grey: probability that a group is without colour, its ground truth too, as infrared and night
        cameras see it; in shares of red, green and blue that are drawn for it.
      rotation: largest turn of the camera, in degrees.
      scale: largest change of size.
      shift: largest displacement, as a part of the width and the height.
      exposure: largest shift of one frame's brightness against the scene's.
      blur: probability that a frame is blurred.
      blur_sigma: smallest and largest standard deviation of that blur, in stored pixels.
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
    grey: float = 0.1
    rotation: float = 2.0
    scale: float = 0.05
    shift: float = 0.02
    exposure: float = 0.05
    blur: float = 0.2
    blur_sigma: tuple[float, float] = (0.3, 1.0)
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
        self,
        frames: Sequence[np.ndarray],
        target: np.ndarray,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Augments and resizes one group.

        Args:
          frames: u8 RGB [h, w, 3] of any sizes, at least one.
          target: the ground truth, u8 RGB of any size.
          size: (H, W) of the result.
          rng: all that is random comes from it.

        Returns:
          The frames, perhaps fewer and in another order, and the ground truth, u8 [H, W, 3] each.
        """
        gain, offset = self._light(rng)
        pose = self._pose(rng)
        target = _resize(_relight(target, gain, offset), size, pose)
        kept = [frames[i] for i in self._sequence(len(frames), rng)]
        exposed = (self._expose(frame, gain, offset, rng) for frame in kept)
        seen = [_resize(frame, size, pose) for frame in exposed]
        if rng.random() < self.grey:
            shares = rng.dirichlet(_NEARNESS * _GREY)
            seen, target = (
                [_without_colour(f, shares) for f in seen],
                _without_colour(target, shares),
            )
        return seen, target

    def follow(
        self,
        corners: np.ndarray,
        sizes: Sequence[tuple[int, int]],
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Where corners lie in the images that a call with the same generator gives.

        Args:
          corners: [N + 1, 4, 2] of the frames and the ground truth, (x, y) as parts of the width
            and the height.
          sizes: (height, width) of these images as they are stored.
          rng: in the state in which the call begins.

        Returns:
          [n + 1, 4, 2] of the n frames that are left, in their order, and of the ground truth.
        """
        self._light(rng)
        pose = self._pose(rng)
        seen = [*self._sequence(len(sizes) - 1, rng), len(sizes) - 1]
        if pose is None:
            return corners[seen]
        return np.stack([_moved(corners[k], sizes[k], pose) for k in seen])

    def _pose(self, rng: np.random.Generator) -> Pose | None:
        """Turn in degrees, scale, and displacement in parts of the image; None for no motion."""
        if not (self.rotation or self.scale or self.shift):
            return None
        angle = rng.uniform(-self.rotation, self.rotation)
        scale = 1 + rng.uniform(-self.scale, self.scale)
        return angle, scale, rng.uniform(-self.shift, self.shift, 2)

    def _light(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Gain and offset of each channel, [3] and [3], for grey levels about 127.5."""
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        gain = contrast * (1 + rng.uniform(-self.colour, self.colour, 3))
        offset = 255 * rng.uniform(-self.brightness, self.brightness)
        return gain, np.full(3, offset)

    def _expose(
        self, frame: np.ndarray, gain: np.ndarray, offset: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """What one exposure does to a frame, u8 [h, w, 3]."""
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

    def _sequence(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Which frames are seen, in which order."""
        kept = np.flatnonzero(rng.random(count) >= self.drop)
        if not len(kept):
            kept = rng.integers(0, count, 1)
        return rng.permutation(kept) if rng.random() < self.reorder else kept


def _resize(image: np.ndarray, size: tuple[int, int], pose: Pose | None) -> np.ndarray:
    """Resizes as `images.resize` does, with the image turned, scaled and moved about its centre."""
    if pose is None:
        return resize(image, size)
    (height, width), (rows, columns) = image.shape[:2], size
    turn = _turn((height, width), pose)
    x, y = columns / width, rows / height
    # Pixel centres: the middle of the first pixel, at 0, is half a pixel from the edge.
    enlarge = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])
    # The border is drawn out: a mirrored one would hold mirrored text.
    return cv2.warpAffine(image, enlarge @ turn, size[::-1], borderMode=cv2.BORDER_REPLICATE)


def _without_colour(image: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mixes the channels of u8 [h, w, 3] into one, and shows it in all three."""
    return cv2.transform(image, np.tile(shares, (3, 1)))


def _turn(size: tuple[int, int], pose: Pose) -> np.ndarray:
    """The map [3, 3] of pixels that turns, scales and moves an image of `size` (h, w)."""
    (angle, scale, shift), (height, width) = pose, size
    turn = np.eye(3)
    turn[:2] = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    turn[:2, 2] += shift * (width, height)
    return turn


def _moved(corners: np.ndarray, size: tuple[int, int], pose: Pose) -> np.ndarray:
    """Corners [4, 2], as parts of an image of `size` (h, w), after its pose has been changed."""
    turn, scale = _turn(size, pose), np.array(size[::-1])
    pixels = corners * scale - 0.5
    moved: np.ndarray = (pixels @ turn[:2, :2].T + turn[:2, 2] + 0.5) / scale
    return moved


def _relight(image: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Changes each channel of u8 [h, w, 3] by a line through mid grey and an offset."""
    curve = np.rint((_LEVELS - 127.5) * gain + (127.5 + offset))
    return cv2.LUT(image, np.clip(curve, 0, 255).astype(np.uint8)[None])
