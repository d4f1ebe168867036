"""The second-order degradation of Real-ESRGAN: its frames of another set's ground truths.

Wang et al., "Real-ESRGAN" (ICCV workshops 2021), section 3: blur, resizing, noise and JPEG, twice.
The published program draws the kind of resizing and of noise once for a batch; here each frame has
its own.
"""

import dataclasses
from functools import cached_property

import cv2
import numpy as np

from data_pipeline.blur_kernels import anisotropic_kernel, blur, pad_kernel, sinc_kernel
from data_pipeline.errors import DataError
from data_pipeline.example import Example, Source
from data_pipeline.images import decode_image, encode_ppm
from data_pipeline.sources import open_source
from data_pipeline.synthetic.drawn import ENDLESS, stream

_KINDS = (
    ("gaussian", True), ("gaussian", False), ("generalized", True), ("generalized", False),
    ("plateau", True), ("plateau", False),
)  # fmt: skip
_CHANCES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
# Least and largest exponent of a shape.
_EXPONENTS = {"gaussian": (1.0, 1.0), "generalized": (0.5, 4.0), "plateau": (1.0, 2.0)}
_MODES = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_QUALITY = (30, 95)
_SMALLEST = 4  # pixels a side


@dataclasses.dataclass(frozen=True)
class Pass:
    """One of the two passes.

    Attributes:
      blurred: chance that it blurs.
      sigma: the largest standard deviation of a kernel; the least is 0.2 pixels.
      chances: of enlarging, shrinking and keeping the size.
      largest, smallest: the most that it enlarges and shrinks by.
      gauss: the largest standard deviation of Gaussian noise, of 255; the least is 1.
      poisson: the largest scale of Poisson noise; the least is 0.05.
    """

    blurred: float
    sigma: float
    chances: tuple[float, float, float]
    largest: float
    smallest: float
    gauss: float
    poisson: float


FIRST = Pass(1.0, 3.0, (0.2, 0.7, 0.1), 1.5, 0.15, 30.0, 3.0)
SECOND = Pass(0.8, 1.5, (0.3, 0.4, 0.3), 1.2, 0.3, 25.0, 2.5)


@dataclasses.dataclass(frozen=True)
class SecondOrderSource:
    """Groups whose frames are degraded ground truths of another set, each by its index alone.

    Group i is of the set's group i modulo its length, so that every visit sees another degradation.

    Attributes:
      path: a data set that `open_source` opens.
      split: its split.
      seed: together with the index it decides everything.
      num_frames: frames per group, degraded one by one.
      scale: how much smaller than the ground truth they are.
    """

    path: str
    split: str = "train"
    seed: int = 0
    num_frames: int = 3
    scale: float = 4.0

    def __post_init__(self) -> None:
        if self.num_frames < 1 or not 1 <= self.scale <= 64:
            raise DataError(
                f"num_frames is {self.num_frames}, scale {self.scale}: must be at least 1, and "
                "1 to 64"
            )
        if not len(self._set):
            raise DataError(f"{self.path}: split {self.split!r} has no groups to degrade")

    @cached_property
    def _set(self) -> Source:
        return open_source(self.path, self.split)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Example:
        """Degrades a group's ground truth; raises DataError where it has none."""
        known = self._set[index % len(self._set)]
        if known.target is None:
            raise DataError(f"{self.path}: group {known.name!r} has no ground truth to degrade")
        plate = decode_image(known.target, f"group {known.name!r}, ground truth")
        rng = stream(self.seed, "second-order", index)
        frames = tuple(encode_ppm(degrade(plate, rng, self.scale)) for _ in range(self.num_frames))
        # Where the plate lies does not change.
        corners = None if known.corners is None else known.corners[-1:] * (len(frames) + 1)
        return Example(f"second-order-{index}", frames, known.target, known.text, corners)


def degrade(image: np.ndarray, rng: np.random.Generator, scale: float) -> np.ndarray:
    """A far frame of a plate.

    Args:
      image: uint8 RGB [H, W, 3].
      rng: decides everything.
      scale: what both sides are divided by.

    Returns:
      uint8 RGB [H / scale, W / scale, 3], at least 4 pixels a side.
    """
    size = _scaled(image.shape, 1 / scale)
    x = image.astype(np.float64) / 255
    x = _compressed(_pass(x, FIRST, image.shape, rng), rng)
    x = _pass(x, SECOND, size, rng)
    if rng.random() < 0.5:
        x = _finished(_compressed(x, rng), size, rng)
    else:
        x = _compressed(_finished(x, size, rng), rng)
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _pass(x: np.ndarray, how: Pass, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Blur, resizing to about `size`, noise."""
    if rng.random() < how.blurred:
        x = blur(x, random_kernel(rng, how.sigma))
    factors = (rng.uniform(1, how.largest), rng.uniform(how.smallest, 1), 1.0)
    factor = factors[rng.choice(3, p=how.chances)]
    return noisy(_resized(x, _scaled(size, factor), rng), how, rng)


def random_kernel(rng: np.random.Generator, largest_sigma: float) -> np.ndarray:
    """A blur kernel [21, 21]: one in ten is a sinc, the others fall off in one of six ways."""
    size = int(rng.choice(np.arange(7, 22, 2)))
    if rng.random() < 0.1:
        return pad_kernel(sinc_kernel(size, rng.uniform(np.pi / (3 if size < 13 else 5), np.pi)))
    shape, round_ = _KINDS[rng.choice(len(_KINDS), p=_CHANCES)]
    sigma = rng.uniform(0.2, largest_sigma, 2)
    low, high = _EXPONENTS[shape]
    exponent = rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
    if round_:
        return pad_kernel(anisotropic_kernel(shape, size, sigma[0], sigma[0], 0.0, exponent))
    turn = rng.uniform(-np.pi, np.pi)
    return pad_kernel(anisotropic_kernel(shape, size, sigma[0], sigma[1], turn, exponent))


def noisy(x: np.ndarray, how: Pass, rng: np.random.Generator) -> np.ndarray:
    """Adds Gaussian or Poisson noise, in four of ten cases the same to all channels; clips."""
    grey = rng.random() < 0.4
    base = x @ np.array([[0.299], [0.587], [0.114]]) if grey else x
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(1, how.gauss) / 255, base.shape)
    else:
        seen = np.rint(np.clip(base, 0, 1) * 255)
        levels = 2 ** np.ceil(np.log2(max(len(np.unique(seen)), 2)))
        counted = rng.poisson(levels * seen / 255) / levels
        noise = rng.uniform(0.05, how.poisson) * (counted - seen / 255)
    return np.clip(x + noise, 0, 1)


def _finished(x: np.ndarray, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """The final size, and in eight of ten cases a sinc filter."""
    x = _resized(x, size, rng)
    if rng.random() < 0.8:
        kernel_size = int(rng.choice(np.arange(7, 22, 2)))
        x = blur(x, sinc_kernel(kernel_size, rng.uniform(np.pi / 3, np.pi)))
    return np.clip(x, 0, 1)


def _compressed(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    quality = int(rng.integers(_QUALITY[0], _QUALITY[1] + 1))
    pixels = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # it has just been encoded
    return decoded[..., ::-1].astype(np.float64) / 255


def _resized(x: np.ndarray, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    mode = _MODES[rng.integers(len(_MODES))]
    return np.clip(cv2.resize(x, (size[1], size[0]), interpolation=mode), 0, 1)


def _scaled(size: tuple[int, ...], factor: float) -> tuple[int, int]:
    height, width = (max(_SMALLEST, round(side * factor)) for side in size[:2])
    return height, width
