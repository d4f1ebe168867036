"""A small data set in MDLP's layout, a model and a reader whose results are known beforehand."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lpdiff_jax.methods.base import Estimate
from lpdiff_jax.plate_text import Reading

GROUPS = 5
SIZE = (24, 48)


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def groups() -> int:
    """How many groups `tree` has."""
    return GROUPS


@pytest.fixture
def tree(tmp_path: Path, groups: int) -> Path:
    """Group k has 1 + k % 3 frames; its ground truth is of grey level 10 k, its text is k."""
    root = tmp_path / "mdlp"
    generator = np.random.default_rng(0)
    for k in range(groups):
        for frame in range(1 + k % 3):
            noise = generator.integers(0, 255, (10, 20, 3), np.uint8)
            write_image(root / f"val/inputs/{k:02d}/img_{frame}.png", noise)
        write_image(root / f"val/gt/{k:02d}/img_9.png", np.full((20, 40, 3), 10 * k, np.uint8))
    (root / "labels.json").write_text(json.dumps({f"{k:02d}": f"京A{k}" for k in range(groups)}))
    return root


@dataclass(frozen=True)
class GreyRestorer:
    """psi is the last frame; every sample is of one grey level."""

    image_size: tuple[int, int] = SIZE
    level: float = -1.0
    method = SimpleNamespace(first_picture="psi", slot_reader=None)

    def estimate(self, frames, mask=None):
        return Estimate(frames[:, 0], None, frames[:, 0])

    def draw(self, estimate, steps=None, sampler=None, samples=1, seed=0):
        batch = len(estimate.guide)
        return np.full((batch, samples, *self.image_size, 3), self.level, np.float32)


@dataclass(frozen=True)
class GreyReader:
    """Reads an even image of grey level 10 k as plate k; anything else as nothing."""

    def read(self, images):
        return [self._read_one(image) for image in images]

    def _read_one(self, image):
        if np.ptp(image) > 3:
            return Reading("", 0.0, ())
        return Reading(f"京A{round(float(image.mean()) / 10)}", 0.9, (0.9, 0.9, 0.9))


@pytest.fixture
def grey_restorer():
    return GreyRestorer()


@pytest.fixture
def grey_reader():
    return GreyReader()
