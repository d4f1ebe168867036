"""The smallest LP-Diff with the real networks, described as a stored model describes it."""

import jax
import numpy as np

SIZE = (8, 16)
CONFIG = {
    "image_size": SIZE,
    "dtype": "float32",
    "prediction": "v",
    "residual_scale": 0.3,
    "clip": "image",
    "condition": {"features": [4], "strides": [1], "blocks": 0, "norm_groups": 2, "heads": 2},
    "denoiser": {
        "features": 8,
        "multipliers": [1],
        "blocks": 1,
        "norm_groups": 4,
        "attention_resolutions": [],
    },
    "schedule": {"name": "cosine", "steps": 20, "zero_terminal_snr": True},
}
READER = {
    "reader": {
        "charset": "AB1", "temperature": 2.0, "readable": 0.9,
        "slots": 3, "features": 8, "layers": 1, "heads": 2,
    }
}  # fmt: skip
SAMPLER = {"name": "ddim", "steps": 3, "eta": 0.0, "spacing": "uniform", "start": 1.0}


def draw_variables(model):
    """Random parameters throughout: fresh ones end in zero kernels, which would hide mistakes."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    leaves, structure = jax.tree.flatten(shapes)
    generator = np.random.default_rng(0)
    drawn = [0.2 * generator.standard_normal(x.shape, np.float32) for x in leaves]
    return jax.tree.unflatten(structure, drawn)
