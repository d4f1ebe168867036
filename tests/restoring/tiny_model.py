"""A small untrained model with a reading head, and noise for plates."""

import cv2
import jax
import numpy as np

from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.plate_text import CHARSET
from lpdiff_jax.storage.model_directory import save_model

SIZE = (16, 32)
CONFIG = {
    "image_size": SIZE,
    "dtype": "float32",
    "prediction": "v",
    "residual_scale": 0.3,
    "clip": "image",
    "condition": {"features": [8, 8], "strides": [1, 2], "blocks": 1, "heads": 2},
    "denoiser": {
        "features": 8,
        "multipliers": [1, 2],
        "blocks": 1,
        "norm_groups": 4,
        "attention_resolutions": [],
    },
    "reader": {
        "alignment": "slots",
        "charset": CHARSET,
        "features": 8,
        "heads": 2,
        "layers": 1,
        "readable": 0.9,
        "slope": 1.0,
        "slots": 8,
        "temperature": 1.0,
    },
    "schedule": {"name": "cosine", "steps": 20, "zero_terminal_snr": True},
}


def save_tiny_model(directory, without=()):
    """Saves the model, perhaps without some networks."""
    variables = dict(jax.jit(build_model(CONFIG).init)(jax.random.key(0)))
    for name in without:
        del variables[name]
    sampler = {"name": "ddim", "steps": 2, "eta": 0.0}
    save_model(directory, {"model": CONFIG, "sampler": sampler}, variables)
    return directory


def write_plates(folder, **counts):
    """Groups of so many frames of noise."""
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            image = generator.integers(0, 256, (20, 43, 3), np.uint8)
            cv2.imwrite(str(folder / name / f"img_{k}.png"), image)
    return folder
