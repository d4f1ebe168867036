"""Draws docs/images/augmentation.jpg: a synthetic group under each effect of `augment`.

python benchmarks/pictures/augmentation_pictures.py docs/images/augmentation.jpg
"""

import sys
from dataclasses import fields, replace

import cv2
import numpy as np

from data_pipeline.augment import AugmentConfig
from data_pipeline.synthetic.groups import render_group

SIZE = (84, 168)
OFF = AugmentConfig(
    **{f.name: 0.0 for f in fields(AugmentConfig) if not isinstance(f.default, tuple)}
)
# Stronger than the defaults where those are hard to see.
ROWS = {
    "as stored": OFF,
    "brightness": replace(OFF, brightness=0.25),
    "contrast": replace(OFF, contrast=0.6),
    "colour": replace(OFF, colour=0.25),
    "grey": replace(OFF, grey=1.0),
    "rotation, scale, shift": replace(OFF, rotation=8.0, scale=0.15, shift=0.05),
    "exposure": replace(OFF, exposure=0.2),
    "blur": replace(OFF, blur=1.0),
    "noise": replace(OFF, noise=1.0, noise_std=(12.0, 12.0)),
    "erase": replace(OFF, erase=1.0, erase_size=(0.2, 0.3)),
    "drop": replace(OFF, drop=0.5),
    "reorder": replace(OFF, reorder=1.0),
    "the defaults": AugmentConfig(),
    "the defaults again": AugmentConfig(),
}


def strip(name: str, config: AugmentConfig, seed: int) -> np.ndarray:
    """One row: its name, three frames (grey where lost), the ground truth; u8 RGB."""
    frames, target, *_ = render_group([0, 3])
    frames, target = config(frames, target, SIZE, np.random.default_rng(seed))
    label = np.full((*SIZE, 3), 255, np.uint8)
    cv2.putText(label, name, (4, 46), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    lost = [np.full((*SIZE, 3), 160, np.uint8)] * (3 - len(frames))
    return np.hstack([label, *frames, *lost, target])


def main() -> None:
    sheet = np.vstack([strip(*row, seed) for seed, row in enumerate(ROWS.items(), 1)])
    cv2.imwrite(sys.argv[1], sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
