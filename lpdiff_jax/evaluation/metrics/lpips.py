"""LPIPS of images, with weights that are fetched once; see `models.lpips`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.images import to_float
from lpdiff_jax.models.lpips import BACKBONES, Lpips
from lpdiff_jax.storage.lpips_weights import read_lpips

Params = Mapping[str, Any]


class LpipsDistance:
    """LPIPS with given parameters, on uint8 images."""

    def __init__(self, network: str, params: Params):
        module = Lpips(BACKBONES[network])

        def distance(params: Params, a: jax.Array, b: jax.Array) -> jax.Array:
            return jnp.asarray(module.apply({"params": params}, to_float(a), to_float(b)))

        self._distance = jax.jit(distance)
        self._params = jax.tree.map(jnp.asarray, params)

    def __call__(self, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3], twice -> float32 [B]."""
        return np.asarray(self._distance(self._params, images, targets))


def load_lpips(network: str = "alex", weights_dir: Path | None = None) -> LpipsDistance:
    """Loads LPIPS with the backbone `alex` (the published tables' usual choice) or `vgg`.

    Raises:
      UserError: the weights are missing, or not what they should be.
    """
    return LpipsDistance(network, read_lpips(network, weights_dir))
