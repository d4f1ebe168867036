"""Real-ESRGAN: a regression network that learns pixels first, then to deceive a discriminator.

Wang et al., "Real-ESRGAN" (ICCV workshops 2021). What is shipped is the generator alone, so but for
its training it is a regression.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lpdiff_jax.errors import UserError, explained_section
from lpdiff_jax.images import to_float
from lpdiff_jax.methods.base import (
    Batch,
    Estimate,
    Function,
    Helpers,
    How,
    Metrics,
    Params,
    Stage,
    Variables,
    frozen,
)
from lpdiff_jax.methods.metrics import psnr
from lpdiff_jax.methods.real_esrgan import losses
from lpdiff_jax.methods.regression import NAME, Regression, build_regression
from lpdiff_jax.models.baselines.discriminator import UNetDiscriminator
from lpdiff_jax.models.baselines.vgg import VGG, VGG16

STAGES = ("regression", "adversarial")
DISCRIMINATOR, FEATURES = "discriminator", "features"


@dataclasses.dataclass(frozen=True)
class RealESRGAN:
    """A generator, and the discriminator that helps to train it.

    Attributes:
      generator: the regression that is shipped.
      discriminator: judges plates in [0, 1].
    """

    generator: Regression
    discriminator: UNetDiscriminator
    networks: tuple[str, ...] = (NAME,)
    first_picture: str = ""
    slot_reader: None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """The (height, width) that it works at."""
        return self.generator.image_size

    @property
    def dtype(self) -> Any:
        """The precision of its computation."""
        return self.generator.dtype

    def init(self, key: jax.Array, networks: Sequence[str] = (NAME,)) -> Variables:
        """Fresh variables of the generator; jit this."""
        return self.generator.init(key, networks)

    def estimate(
        self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None
    ) -> Estimate:
        """The plate itself, as what `draw` takes."""
        return self.generator.estimate(variables, frames, mask)

    def draw(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, how: How
    ) -> jax.Array:
        """The plates [B, H, W, 3], clipped to [-1, 1]; every draw is the same."""
        return self.generator.draw(variables, estimate, keys, how)

    def draws_vary(self, variables: Variables) -> bool:
        """Never."""
        return self.generator.draws_vary(variables)

    def choose(
        self, defaults: Mapping[str, Any], *, sampler: Any = None, steps: int | None = None
    ) -> tuple[()]:
        """Nothing is to be chosen; raises UserError where a sampler or steps are asked for."""
        return self.generator.choose(defaults, sampler=sampler, steps=steps)

    def stages(self, config: Any, known: Sequence[str]) -> tuple[Stage, ...]:
        """The stages of a configuration: `regression`, on pixels alone, and `adversarial`.

        Raises:
          UserError: another stage, or the weights of the perceptual loss are not there.
        """
        del known
        return tuple(self._stage(name, config) for name in config.stages)

    def _stage(self, name: str, config: Any) -> Stage:
        if name == "regression":
            return self.generator.stage(name, config[name])
        if name == "adversarial":
            return adversarial_stage(self, name, config[name])
        raise UserError(f"config.stages has {name!r}; allowed: {', '.join(STAGES)}")

    def exports(self, variables: Variables, how: How, num_frames: int) -> list[Function]:
        """The whole restoration: (frames, mask) -> plates."""
        return self.generator.exports(variables, how, num_frames)

    def with_dtype(self, dtype: str) -> "RealESRGAN":
        """The same method, computing in another precision."""
        return dataclasses.replace(
            self,
            generator=self.generator.with_dtype(dtype),
            discriminator=self.discriminator.clone(dtype=jnp.dtype(dtype)),
        )


def adversarial_stage(method: RealESRGAN, name: str, section: Any) -> Stage:
    """Trains generator and discriminator against each other.

    One gradient of both losses equals those of two steps that are taken one after the other: the
    generator's loss sees the discriminator as a constant, the discriminator's sees the plate so.
    The spectral norms improve three times a step, as they do there: with the generator's plate, the
    true one, and the generator's again.

    Args:
      method: whose generator and discriminator they are.
      name: of the stage.
      section: its `perceptual_weight` (0: no features are needed), `adversarial_weight`, and
        whether the pixel and feature losses compare with a sharpened plate (`sharpen`).

    Raises:
      UserError: the weights of the perceptual loss are not there.
    """
    vgg = VGG(VGG16, dtype=method.dtype)

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Params]:
        target = to_float(batch["target"])
        plate = method.generator.restore_batch(variables, batch, key, train)
        fake, real = (plate + 1) / 2, (target + 1) / 2
        wanted = losses.sharpen(real) if section.sharpen else real
        judge = _Judge(method.discriminator, variables[DISCRIMINATOR], train)
        deceived = losses.adversarial_loss(judge(fake, frozen=True), True)
        parts = {"pixel_loss": jnp.abs(fake - wanted).mean((1, 2, 3)), "adversarial_loss": deceived}
        value = parts["pixel_loss"] + section.adversarial_weight * deceived
        if section.perceptual_weight:
            params = jax.lax.stop_gradient(variables[FEATURES]["params"])
            parts["perceptual_loss"] = losses.perceptual_loss(vgg, params, fake, wanted)
            value = value + section.perceptual_weight * parts["perceptual_loss"]
        told_real = losses.adversarial_loss(judge(real), True)
        told_fake = losses.adversarial_loss(judge(jax.lax.stop_gradient(fake)), False)
        parts["discriminator_loss"] = told_real + told_fake
        # What a validation compares checkpoints by is the generator's loss alone.
        value = value + parts["discriminator_loss"] if train else value
        return value, parts | {"psnr": psnr(plate, target)}, {DISCRIMINATOR: judge.statistics}

    return Stage(
        name,
        (NAME, DISCRIMINATOR),
        loss,
        (NAME,),
        _helpers(method, section.perceptual_weight),
        watch=("pixel_loss", "adversarial_loss", "discriminator_loss", "psnr"),
    )


class _Judge:
    """The discriminator with its statistics, which each call in training improves."""

    def __init__(self, network: UNetDiscriminator, variables: Variables, train: bool):
        self._network, self._train = network, train
        self._params, self.statistics = variables["params"], variables["batch_stats"]

    def __call__(self, x: jax.Array, frozen: bool = False) -> jax.Array:
        """Logits of images [B, H, W, 3] in [0, 1]; `frozen` lets gradients reach these alone."""
        params = jax.lax.stop_gradient(self._params) if frozen else self._params
        logits, updated = self._network.apply(
            {"params": params, "batch_stats": self.statistics},
            x,
            train=self._train,
            mutable=["batch_stats"],
        )
        self.statistics = updated["batch_stats"]
        return jnp.asarray(logits)


def _helpers(method: RealESRGAN, perceptual_weight: float) -> Helpers:
    """Makes the discriminator, and brings the features that the perceptual loss compares."""
    features = _vgg_params() if perceptual_weight else None

    def make(key: jax.Array, variables: Variables) -> Variables:
        del variables
        image = jnp.zeros((1, *method.image_size, 3))
        helpers: Variables = {DISCRIMINATOR: method.discriminator.init(key, image)}
        if features is not None:
            helpers[FEATURES] = {"params": jax.tree.map(jnp.asarray, features)}
        return helpers

    return make


def _vgg_params() -> Params:
    """VGG-16 as LPIPS has it: no VGG-19 of a licence that allows it can be fetched."""
    from lpdiff_jax.storage.lpips_weights import read_lpips

    try:
        return read_lpips("vgg")["backbone"]
    except UserError as error:
        raise UserError(
            f"{error}; or train without the perceptual loss: config.adversarial.perceptual_weight=0"
        ) from error


def build_real_esrgan(config: Mapping[str, Any]) -> RealESRGAN:
    """Builds the method that a configuration's `model` section describes.

    Args:
      config: as of `build_regression`, and the section `discriminator`, fields of its module.

    Raises:
      UserError: a field that is missing, unknown or out of range.
    """
    with explained_section("model"):
        section = dict(config)
        judge = UNetDiscriminator(
            **frozen(section.pop("discriminator", {})), dtype=jnp.dtype(section["dtype"])
        )
        return RealESRGAN(build_regression(section), judge)
