"""ResShift's training: the autoencoder where there is one, then the network of the chain."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lpdiff_jax.diffusion.residual_shift import shift_towards
from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float
from lpdiff_jax.methods.base import Batch, Helpers, Metrics, Params, Stage, Variables, no_helpers
from lpdiff_jax.methods.frames import as_input
from lpdiff_jax.methods.metrics import psnr
from lpdiff_jax.methods.noise import noise_of, sample_keys
from lpdiff_jax.methods.resshift.model import AUTOENCODER, DENOISER, ResShift
from lpdiff_jax.models.dropout import per_sample_dropout
from lpdiff_jax.models.lpips import BACKBONES, Lpips

FEATURES = "features"
WATCH = ("loss", "psnr")
_LPIPS = Lpips(BACKBONES["vgg"])


def make_stages(method: ResShift, config: Any, known: Sequence[str]) -> tuple[Stage, ...]:
    """Builds the stages of a configuration, in order.

    Raises:
      UserError: a stage that does not exist, a chain in the latents of an autoencoder that nothing
        trains, or the weights of the perceptual loss are not there.
    """
    for name in config.stages:
        if name not in _STAGES:
            raise UserError(f"config.stages has {name!r}; allowed: {', '.join(_STAGES)}")
    if method.autoencoder is None and "autoencoder" in config.stages:
        raise UserError(
            "config.stages has 'autoencoder', but config.model.autoencoder is not there: the chain "
            "works on pixels"
        )
    trained = AUTOENCODER in known or "autoencoder" in config.stages
    if method.autoencoder is not None and not trained:
        raise UserError(
            "the chain works in the latents of an autoencoder that is not trained: put "
            "'autoencoder' first into config.stages, or begin with a model that has one "
            "(config.init)"
        )
    return tuple(_STAGES[name](method, name, config[name]) for name in config.stages)


def autoencoder_stage(method: ResShift, name: str, section: Any) -> Stage:
    """Trains the autoencoder on plates and on frames, both of which the chain encodes."""
    assert method.autoencoder is not None
    autoencoder = method.autoencoder

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Params]:
        del key, train
        target = to_float(batch["target"])
        frame = as_input(to_float(batch["frames"]), batch["frame_mask"], "nearest", 1)
        both = jnp.concatenate([target, frame])
        answer: Any = autoencoder.apply(variables[AUTOENCODER], both)
        restored, quantized = answer
        pixel = jnp.abs(restored - both).mean((1, 2, 3))
        value = pixel + section.codebook_weight * quantized.loss
        value = value + _perceptual(section, variables, restored, both)
        halves = jax.tree.map(lambda x: x.reshape(2, -1).mean(0), (value, pixel, quantized.loss))
        metrics = {"pixel_loss": halves[1], "codebook_loss": halves[2]}
        return halves[0], metrics | {"psnr": psnr(restored[: len(target)], target)}, {}

    networks = (AUTOENCODER,)
    return Stage(name, networks, loss, networks, _helpers(name, section), watch=WATCH)


def diffusion_stage(method: ResShift, name: str, section: Any) -> Stage:
    """Trains the network to see the plate in every step of the chain.

    The squared error of the plate (or its latents), all steps weighing the same, and with
    `perceptual_weight` LPIPS of the decoded plate, as the journal version has it.
    """
    shifts = method.schedule.shift

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Params]:
        target, position = to_float(batch["target"]), batch["position"]
        guide = method.estimate(variables, to_float(batch["frames"]), batch["frame_mask"]).guide
        x_0 = method.encode(variables, target)
        keys = sample_keys(key, position)
        jitter = jax.vmap(jax.random.uniform)(keys)
        share = (position + jitter) / section.batch_size  # spread evenly over the batch
        steps = method.schedule.steps
        time = jnp.minimum((share % 1.0 * steps).astype(jnp.int32), steps - 1)
        noise = noise_of(keys, x_0.shape[1:])(1)
        shift = jnp.asarray(shifts, jnp.float32)[time]
        x_t = shift_towards(x_0, guide.start, noise, shift, method.schedule.kappa)
        with per_sample_dropout(keys):
            scale = method.scale_of(time)[:, None, None, None]
            output = method.predict(variables, guide, x_t, time, scale, train)
        squared = jnp.square(output - x_0).mean((1, 2, 3))
        metrics = {"squared_error": squared}
        value = squared
        if method.autoencoder is None or section.perceptual_weight:
            plate = jnp.clip(method.decode(variables, output), -1, 1)
            metrics["psnr"] = psnr(plate, target)
            value = value + _perceptual(section, variables, plate, target)
        return value, metrics, {}

    watch = WATCH if method.autoencoder is None or section.perceptual_weight else ("loss",)
    return Stage(name, (DENOISER,), loss, method.networks, _helpers(name, section), watch=watch)


def _perceptual(section: Any, variables: Variables, a: jax.Array, b: jax.Array) -> jax.Array:
    """The weighted LPIPS of images in [-1, 1]: [B]; zero without a weight."""
    if not section.perceptual_weight:
        return jnp.zeros(len(a))
    distance: Any = _LPIPS.apply({"params": variables[FEATURES]["params"]}, a, b)
    return section.perceptual_weight * distance


def _helpers(name: str, section: Any) -> Helpers:
    """Brings LPIPS where a stage's loss has it."""
    if not section.perceptual_weight:
        return no_helpers
    from lpdiff_jax.storage.lpips_weights import read_lpips

    try:
        params = read_lpips("vgg")
    except UserError as error:
        raise UserError(
            f"{error}; or train without LPIPS: config.{name}.perceptual_weight=0"
        ) from error

    def make(key: jax.Array, variables: Variables) -> Variables:
        del key, variables
        return {FEATURES: {"params": jax.tree.map(jnp.asarray, params)}}

    return make


_STAGES = {"autoencoder": autoencoder_stage, "diffusion": diffusion_stage}
