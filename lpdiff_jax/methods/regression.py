"""Plain regression: one network from frames to plate, trained by a pixel loss (L1 or L2).

The floor that every generative method has to beat: no first picture, no reading head, no noise.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.errors import UserError, check_choice, explained_section
from lpdiff_jax.images import to_float
from lpdiff_jax.methods import single_image
from lpdiff_jax.methods.base import (
    Batch,
    Estimate,
    Function,
    How,
    Metrics,
    Params,
    Stage,
    Variables,
    frozen,
)
from lpdiff_jax.methods.frames import FRAMES, as_input
from lpdiff_jax.methods.metrics import psnr
from lpdiff_jax.methods.noise import sample_keys
from lpdiff_jax.models.dropout import per_sample_dropout
from lpdiff_jax.models.layers import masked_mean
from lpdiff_jax.models.unet import UNet

NAME = "network"
LOSSES = ("l1", "l2")


class ResidualUNet(nn.Module):
    """The denoiser's U-Net without a noise level: what it gives is added to the frames' mean.

    Attributes:
      unet: the U-Net, whose last convolution begins at zero.
    """

    unet: UNet

    def __call__(self, x: jax.Array, mean: jax.Array, train: bool = False) -> jax.Array:
        """[B, H, W, C], the frames' mean [B, H, W, 3] -> [B, H, W, 3], not clipped."""
        return mean + self.unet(None, x, None, train)


# Name -> what makes a network (x, mean, train) -> plate of the fields of the section `network`.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "unet": lambda dtype, **fields: ResidualUNet(UNet(**fields, dtype=dtype)),
    **single_image.NETWORKS,
}


@dataclasses.dataclass(frozen=True)
class Regression:
    """One network that is given the frames and gives the plate.

    Attributes:
      image_size: the (height, width) that it works at.
      network: called with (x [B, H, W, C], mean [B, H, W, 3], train).
      frames: how the frames become x, one of `methods.frames.FRAMES`.
      count: the frames that 'stacked' puts side by side.
      dtype: the precision of the network's computation.
    """

    image_size: tuple[int, int]
    network: Any
    frames: str = "stacked"
    count: int = 3
    dtype: Any = jnp.float32
    networks: tuple[str, ...] = (NAME,)
    first_picture: str = ""
    slot_reader: None = None

    def __post_init__(self) -> None:
        check_choice("frames", self.frames, FRAMES)

    def init(self, key: jax.Array, networks: Sequence[str] = (NAME,)) -> Variables:
        """Fresh variables of the network; jit this."""
        if NAME not in networks:
            return {}
        frames = jnp.zeros((1, max(self.count, 1), *self.image_size, 3))
        return {NAME: self.network.init(key, *self._inputs(frames, None))}

    def estimate(
        self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None
    ) -> Estimate:
        """The plate itself, as what `draw` takes."""
        plate = self.network.apply(variables[NAME], *self._inputs(frames, mask))
        return Estimate(None, None, plate)

    def draw(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, how: How
    ) -> jax.Array:
        """The plates [B, H, W, 3], clipped to [-1, 1]; every draw is the same."""
        del variables, keys, how
        return jnp.clip(estimate.guide, -1, 1)

    def draws_vary(self, variables: Variables) -> bool:
        """Never."""
        del variables
        return False

    def choose(
        self, defaults: Mapping[str, Any], *, sampler: Any = None, steps: int | None = None
    ) -> tuple[()]:
        """Nothing is to be chosen; raises UserError where a sampler or steps are asked for."""
        del defaults
        if sampler is not None or steps is not None:
            raise UserError("this model computes a plate in one go: it has no sampler and no steps")
        return ()

    def stages(self, config: Any, known: Sequence[str]) -> tuple[Stage, ...]:
        """The one stage, `regression`."""
        del known
        for name in config.stages:
            if name != "regression":
                raise UserError(f"config.stages has {name!r}; allowed: regression")
        return tuple(self.stage(name, config[name]) for name in config.stages)

    def stage(self, name: str, section: Any) -> Stage:
        """Training by a pixel loss; `section` is the stage's.

        Raises:
          UserError: there is no such loss.
        """
        kind = section.loss
        if kind not in LOSSES:
            raise UserError(f"config.{name}.loss is {kind!r}; allowed: {', '.join(LOSSES)}")

        def loss(
            variables: Variables, batch: Batch, key: jax.Array, train: bool
        ) -> tuple[jax.Array, Metrics, Params]:
            target = to_float(batch["target"])
            plate = self.restore_batch(variables, batch, key, train)
            error = plate - target
            value = jnp.abs(error) if kind == "l1" else jnp.square(error)
            return value.mean((1, 2, 3)), {"psnr": psnr(plate, target)}, {}

        return Stage(name, (NAME,), loss, (NAME,), watch=("loss", "psnr"))

    def restore_batch(
        self, variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> jax.Array:
        """The plates [B, H, W, 3] of a training batch, not clipped; dropout by the sample."""
        inputs = self._inputs(to_float(batch["frames"]), batch["frame_mask"])
        with per_sample_dropout(sample_keys(key, batch["position"])):
            plate: Any = self.network.apply(variables[NAME], *inputs, train=train)
        return plate

    def exports(self, variables: Variables, how: How, num_frames: int) -> list[Function]:
        """The whole restoration: (frames, mask) -> plates."""
        del how
        frames = ((num_frames, *self.image_size, 3), np.dtype(np.float32))
        mask = ((num_frames,), np.dtype(bool))

        def restore(frames: jax.Array, mask: jax.Array) -> jax.Array:
            return jnp.clip(self.estimate(variables, frames, mask).guide, -1, 1)

        return [Function("restore", restore, {"frames": frames, "mask": mask}, "restored")]

    def with_dtype(self, dtype: str) -> "Regression":
        """The same method, computing in another precision."""
        precision = jnp.dtype(dtype)
        return dataclasses.replace(
            self, network=_in_precision(self.network, precision), dtype=precision
        )

    def _inputs(self, frames: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        real = jnp.ones(frames.shape[:2], bool) if mask is None else mask
        x = as_input(frames, real, self.frames, self.count)
        return x, x if x.shape[-1] == 3 else masked_mean(frames, real)


def _in_precision(network: nn.Module, dtype: Any) -> nn.Module:
    """A network, and the networks that it is made of, computing in another precision."""
    fields = {f.name: getattr(network, f.name) for f in dataclasses.fields(network)}
    changed: dict[str, Any] = {"dtype": dtype} if "dtype" in fields else {}
    changed |= {
        name: _in_precision(value, dtype)
        for name, value in fields.items()
        if isinstance(value, nn.Module) and name != "parent"
    }
    return network.clone(**changed)


def build_regression(config: Mapping[str, Any]) -> Regression:
    """Builds the method that a configuration's `model` section describes.

    Args:
      config: `image_size`, `dtype`, `frames`, `count`, and the section `network`: `name`, one of
        `NETWORKS`, and the fields of its module.

    Raises:
      UserError: a field that is missing, unknown or out of range.
    """
    with explained_section("model"):
        fields = frozen(config["network"])
        name = fields.pop("name")
        check_choice("network.name", name, tuple(NETWORKS))
        dtype = jnp.dtype(config["dtype"])
        return Regression(
            image_size=tuple(config["image_size"]),
            network=NETWORKS[name](dtype=dtype, **fields),
            frames=config["frames"],
            count=config["count"],
            dtype=dtype,
        )
