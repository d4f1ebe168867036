"""Small made-up trees in MDLP's layout."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


def _write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (20, 44)) -> None:
    """A smooth random colour picture of `size` (H, W), in the kind that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (4, 8, 3), np.uint8)
    image = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def _write_tree(root: Path, frames: dict[str, dict[str, int]]) -> Path:
    """Writes a tree of split -> group -> number of frames, with a label for each group."""
    labels = {}
    for split, groups in frames.items():
        for name, count in groups.items():
            seed = len(labels) * 100
            for k in range(count):
                _write_picture(root / split / "inputs" / name / f"img_{k}.jpg", seed + k)
            _write_picture(root / split / "gt" / name / f"img_{count}.jpg", seed + 99, (56, 120))
            labels[name] = f"皖A{len(labels):05d}"
    (root / "labels.json").write_text(json.dumps(labels, ensure_ascii=False), encoding="utf-8")
    return root


@pytest.fixture
def write_picture() -> Callable[..., None]:
    """A function that writes one picture."""
    return _write_picture


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a tree below a temporary folder."""

    def make(name: str = "tree", **frames: dict[str, int]) -> Path:
        return _write_tree(tmp_path / name, frames)

    return make
