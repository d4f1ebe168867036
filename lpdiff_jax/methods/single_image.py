"""Published networks for single images, as networks of the method `regression`.

Their arithmetic is for pixels in [0, 1]. One that enlarges is given a smaller picture: the plate
keeps its size.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from lpdiff_jax.models.baselines.hat import HAT
from lpdiff_jax.models.baselines.rrdb import RRDBNet
from lpdiff_jax.models.baselines.srcnn import SRCNN


class UnitRange(nn.Module):
    """A network of pixels in [0, 1] on pixels in [-1, 1].

    Attributes:
      network: maps [B, H, W, C] to [B, H scale, W scale, 3].
    """

    network: nn.Module

    def __call__(self, x: jax.Array, mean: jax.Array, train: bool = False) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, 3], not clipped; `mean`, of the frames, is not used.

        Raises:
          ValueError: a size that the network's scale does not divide.
        """
        del mean
        scale = getattr(self.network, "scale", 1)
        batch, height, width, channels = x.shape
        if scale > 1:
            if height % scale or width % scale:
                raise ValueError(f"{height} x {width} is not made by enlarging by {scale}")
            x = jax.image.resize(x, (batch, height // scale, width // scale, channels), "cubic")
        unit: Any = self.network((x + 1) / 2, train)
        return 2 * unit - 1


def _maker(network: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return lambda dtype, **fields: UnitRange(network(**fields, dtype=dtype))


# Name -> what makes a network of the fields of a section.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "srcnn": _maker(SRCNN),
    "hat": _maker(HAT),
    "rrdb": _maker(RRDBNet),
}
