"""The published program's behaviour as a configuration's `model` section."""

from typing import Any

from lpdiff_jax.models import condition, unet


def released_model(image_size: tuple[int, int] = (112, 224)) -> dict[str, Any]:
    """The `model` section that computes what the published program computes."""
    return {
        "image_size": image_size,
        "dtype": "float32",
        "prediction": "noise",
        "residual_scale": 1.0,
        "clip": "residual",
        "condition": dict(condition.RELEASED),
        "denoiser": dict(unet.RELEASED),
        "schedule": {"name": "linear", "steps": 1000, "start": 1e-6, "end": 1e-2},
    }
