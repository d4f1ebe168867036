"""The Inception network whose 2048 features FID and KID compare.

Szegedy et al., "Rethinking the Inception Architecture" (CVPR 2016), in the variant of TensorFlow's
graph of 2015-12-05, which all published FID figures use: average pools leave the border out, and
the last block has a maximum pool. Batch normalisation is folded into the convolutions.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float
from lpdiff_jax.storage import weights
from lpdiff_jax.storage.torch_archive import read_torchscript

FEATURES = 2048
INPUT_SIZE = (299, 299)
_EPSILON = 1e-3

Params = dict[str, dict[str, np.ndarray]]
Kernel = int | tuple[int, int]


class Inception(nn.Module):
    """Images to features; the layers have the names of the weights file."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, 299, 299, 3] in [-1, 1] -> features [B, 2048]."""
        x = _conv(x, "conv", 32, 3, stride=2, padding="VALID")
        x = _conv(x, "conv_1", 32, 3, padding="VALID")
        x = _conv(x, "conv_2", 64, 3)
        x = _halve(x)
        x = _conv(x, "conv_3", 80, 1, padding="VALID")
        x = _conv(x, "conv_4", 192, 3, padding="VALID")
        x = _halve(x)
        for name, pooled in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
            x = _block_a(x, name, pooled)
        x = _reduction_b(x, "mixed_3")
        for name, inner in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
            x = _block_c(x, name, inner)
        x = _reduction_d(x, "mixed_8")
        x = _block_e(x, "mixed_9", _average)
        x = _block_e(x, "mixed_10", _maximum)
        return jnp.mean(x, axis=(1, 2))


def _conv(
    x: jax.Array, name: str, features: int, kernel: Kernel, stride: int = 1, padding: str = "SAME"
) -> jax.Array:
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    conv = nn.Conv(features, size, stride, padding, precision="highest", name=name)
    return nn.relu(conv(x))


def _tower(x: jax.Array, name: str, *layers: tuple[int, Kernel], last_stride: int = 1) -> jax.Array:
    """Convolutions one after the other: (features, kernel) each; a strided last one is unpadded."""
    for depth, (features, kernel) in enumerate(layers):
        layer = f"{name}.conv" if depth == 0 else f"{name}.conv_{depth}"
        last = depth == len(layers) - 1 and last_stride > 1
        stride, padding = (last_stride, "VALID") if last else (1, "SAME")
        x = _conv(x, layer, features, kernel, stride, padding)
    return x


def _block_a(x: jax.Array, name: str, pooled: int) -> jax.Array:
    branches = [
        _tower(x, name, (64, 1)),
        _tower(x, f"{name}.tower", (48, 1), (64, 5)),
        _tower(x, f"{name}.tower_1", (64, 1), (96, 3), (96, 3)),
        _tower(_average(x), f"{name}.tower_2", (pooled, 1)),
    ]
    return jnp.concatenate(branches, axis=-1)


def _reduction_b(x: jax.Array, name: str) -> jax.Array:
    branches = [
        _tower(x, name, (384, 3), last_stride=2),
        _tower(x, f"{name}.tower", (64, 1), (96, 3), (96, 3), last_stride=2),
        _halve(x),
    ]
    return jnp.concatenate(branches, axis=-1)


def _block_c(x: jax.Array, name: str, inner: int) -> jax.Array:
    wide: Kernel = (1, 7)
    tall: Kernel = (7, 1)
    deep: list[tuple[int, Kernel]] = [(inner, tall), (inner, wide), (inner, tall), (192, wide)]
    branches = [
        _tower(x, name, (192, 1)),
        _tower(x, f"{name}.tower", (inner, 1), (inner, wide), (192, tall)),
        _tower(x, f"{name}.tower_1", (inner, 1), *deep),
        _tower(_average(x), f"{name}.tower_2", (192, 1)),
    ]
    return jnp.concatenate(branches, axis=-1)


def _reduction_d(x: jax.Array, name: str) -> jax.Array:
    separable: list[tuple[int, Kernel]] = [(192, (1, 7)), (192, (7, 1)), (192, 3)]
    branches = [
        _tower(x, f"{name}.tower", (192, 1), (320, 3), last_stride=2),
        _tower(x, f"{name}.tower_1", (192, 1), *separable, last_stride=2),
        _halve(x),
    ]
    return jnp.concatenate(branches, axis=-1)


def _block_e(x: jax.Array, name: str, pool: Callable[[jax.Array], jax.Array]) -> jax.Array:
    short = _conv(x, f"{name}.tower_conv", 384, 1)
    long = _conv(x, f"{name}.tower_1_conv", 448, 1)
    long = _conv(long, f"{name}.tower_1_conv_1", 384, 3)
    branches = [
        _conv(x, f"{name}.conv", 320, 1),
        _conv(short, f"{name}.tower_mixed_conv", 384, (1, 3)),
        _conv(short, f"{name}.tower_mixed_conv_1", 384, (3, 1)),
        _conv(long, f"{name}.tower_1_mixed_conv", 384, (1, 3)),
        _conv(long, f"{name}.tower_1_mixed_conv_1", 384, (3, 1)),
        _conv(pool(x), f"{name}.tower_2_conv", 192, 1),
    ]
    return jnp.concatenate(branches, axis=-1)


def _halve(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _maximum(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def _average(x: jax.Array) -> jax.Array:
    """Mean over 3 x 3 pixels, at the border over those that there are."""
    # Counted in numpy: XLA takes a minute to fold the same windows over an array of ones.
    rows, columns = (_window_counts(size) for size in x.shape[1:3])
    total = 9 * nn.avg_pool(x, (3, 3), (1, 1), "SAME")
    return total / (rows[:, None, None] * columns[:, None])


def _window_counts(size: int) -> np.ndarray:
    """How many of the three pixels around each of `size` pixels there are, float32 [size]."""
    counts = np.full(size, 3, np.float32)
    counts[0] -= 1
    counts[-1] -= 1
    return counts


def fold(arrays: Mapping[str, np.ndarray]) -> Params:
    """Turns a weights file's arrays into parameters of `Inception`.

    Args:
      arrays: `<layer>.weight` [out, in, h, w], `.beta`, `.mean` and `.var` [out] by dotted name.
    """
    layers = sorted(name.removesuffix(".weight") for name in arrays if name.endswith(".weight"))
    params = {}
    for layer in layers:
        weight, beta, mean, variance = (
            arrays[f"{layer}.{part}"].astype(np.float64)
            for part in ("weight", "beta", "mean", "var")
        )
        scale = 1 / np.sqrt(variance + _EPSILON)
        kernel = (weight * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        bias = beta - mean * scale
        params[layer] = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    return params


class InceptionFeatures:
    """The network with given parameters, on uint8 images of any size."""

    def __init__(self, params: Params):
        def features(params: Params, images: jax.Array) -> jax.Array:
            shape = (images.shape[0], *INPUT_SIZE, 3)
            # As pytorch-fid does: bilinear, not antialiased.
            resized = jax.image.resize(to_float(images), shape, "linear", antialias=False)
            return jnp.asarray(Inception().apply({"params": params}, resized))

        self._features = jax.jit(features)
        self._params = jax.tree.map(jnp.asarray, params)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] -> float32 [B, 2048]."""
        return np.asarray(self._features(self._params, images))


def load_inception(weights_dir: Path | None = None) -> InceptionFeatures:
    """Loads the network of FID.

    Raises:
      UserError: the weights are missing, or not what they should be.
    """
    path = weights.locate(weights.FID, weights_dir)
    arrays = read_torchscript(path)
    prefix = "net.layers."
    try:
        return InceptionFeatures(fold({k.removeprefix(prefix): v for k, v in arrays.items()}))
    except KeyError as error:
        raise UserError(f"{path}: not the Inception of FID: {error} is not in it") from error
