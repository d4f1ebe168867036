"""LPIPS: the distance between two images in the features of a network that knows photographs.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR
2018), version 0.1 with linear heads, as the `lpips` package computes it.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# A backbone is a list of steps: ("conv", features, kernel, stride, padding), each with its ReLU;
# ("pool", size) with stride 2; ("tap",) where the features are taken.
Step = tuple[Any, ...]
_TAP: Step = ("tap",)


def _conv(features: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> Step:
    return ("conv", features, kernel, stride, padding)


BACKBONES: dict[str, tuple[Step, ...]] = {
    "alex": (
        *(_conv(64, 11, 4, 2), _TAP, ("pool", 3)),
        *(_conv(192, 5, 1, 2), _TAP, ("pool", 3)),
        *(_conv(384), _TAP, _conv(256), _TAP, _conv(256), _TAP),
    ),
    "vgg": (
        *(_conv(64), _conv(64), _TAP, ("pool", 2)),
        *(_conv(128), _conv(128), _TAP, ("pool", 2)),
        *(_conv(256), _conv(256), _conv(256), _TAP, ("pool", 2)),
        *(_conv(512), _conv(512), _conv(512), _TAP, ("pool", 2)),
        *(_conv(512), _conv(512), _conv(512), _TAP),
    ),
}
# The mean and spread of ImageNet's pixels on the scale of [-1, 1].
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)


class Backbone(nn.Module):
    """The convolutions of a classifier; returns its features at five depths."""

    steps: tuple[Step, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Images [B, H, W, 3], normalised -> five maps [B, h, w, channels]."""
        taps = []
        for kind, *arguments in self.steps:
            if kind == "conv":
                features, kernel, stride, padding = arguments
                x = nn.Conv(features, (kernel,) * 2, stride, padding, precision="highest")(x)
                x = nn.relu(x)
            elif kind == "pool":
                x = nn.max_pool(x, (arguments[0],) * 2, (2, 2))
            else:
                taps.append(x)
        return taps


class Lpips(nn.Module):
    """The distance of two images: squared differences of unit features, weighed and averaged."""

    steps: tuple[Step, ...]

    @nn.compact
    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1], twice -> distances [B], 0 for equal images."""
        backbone = Backbone(self.steps, name="backbone")
        both = backbone((jnp.concatenate([a, b]) - _SHIFT) / _SCALE)
        distance = jnp.zeros(len(a))
        for depth, features in enumerate(both):
            first, second = jnp.split(_unit(features), 2)
            head = nn.Conv(1, (1, 1), use_bias=False, precision="highest", name=f"head_{depth}")
            distance += jnp.mean(head((first - second) ** 2), axis=(1, 2, 3))
        return distance


def _unit(features: jax.Array) -> jax.Array:
    """Scales each pixel's features to length one."""
    return features / (jnp.sqrt(jnp.sum(features**2, axis=-1, keepdims=True)) + 1e-10)
