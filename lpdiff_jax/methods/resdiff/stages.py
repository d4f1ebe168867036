"""ResDiff's training: the CNN by losses of its frequencies, then, with it frozen, the diffusion.

The CNN runs within the diffusion's step: the published program reads its predictions from 8-bit
files made on its own training images, whose residuals are smaller than those in use.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lpdiff_jax.diffusion.objective import Objective, diffuse, draw_levels
from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float
from lpdiff_jax.methods.base import Batch, Metrics, Params, Stage, Variables
from lpdiff_jax.methods.metrics import by_noise_level, psnr
from lpdiff_jax.methods.noise import noise_of, sample_keys
from lpdiff_jax.methods.resdiff.losses import frequency_loss
from lpdiff_jax.methods.resdiff.model import CNN, DENOISER, ResDiff
from lpdiff_jax.models.dropout import per_sample_dropout

WATCH = ("loss", "psnr")


def make_stages(method: ResDiff, config: Any, known: Sequence[str]) -> tuple[Stage, ...]:
    """Builds the stages of a configuration, in order.

    Raises:
      UserError: a stage that does not exist, or a diffusion without a trained CNN.
    """
    for name in config.stages:
        if name not in _STAGES:
            raise UserError(f"config.stages has {name!r}; allowed: {', '.join(_STAGES)}")
    if "diffusion" in config.stages and "cnn" not in config.stages and CNN not in known:
        raise UserError(
            "config.stages begins with 'diffusion', but no CNN is trained: put 'cnn' before it, or "
            "begin with a model that has one (config.init)"
        )
    return tuple(_STAGES[name](method, name, config[name]) for name in config.stages)


def cnn_stage(method: ResDiff, name: str, section: Any) -> Stage:
    """Trains the CNN alone."""
    del section

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Params]:
        del key, train
        target = to_float(batch["target"])
        p = method.predict(variables, to_float(batch["frames"]), batch["frame_mask"])
        return frequency_loss(p, target), {"psnr": psnr(p, target)}, {}

    return Stage(name, (CNN,), loss, (CNN,), watch=WATCH)


def diffusion_stage(method: ResDiff, name: str, section: Any) -> Stage:
    """Trains the denoiser on what the frozen CNN leaves."""
    try:
        objective = Objective(method.prediction, section.levels, section.weighting)
    except ValueError as error:
        raise UserError(f"config.{name}.{error}") from error

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Params]:
        target, position = to_float(batch["target"]), batch["position"]
        p = method.predict(variables, to_float(batch["frames"]), batch["frame_mask"])
        keys = sample_keys(key, position)
        levels = jnp.asarray(method.schedule.noise_levels, jnp.float32)
        level = draw_levels(section.levels, keys, position, section.batch_size, key, levels)
        noise = noise_of(keys, target.shape[1:])(1)
        x_0 = (target - p) / method.residual_scale
        with per_sample_dropout(keys):
            output = method.denoise(variables, p, diffuse(x_0, noise, level), level, train)
        value = objective.per_sample_loss(output, x_0, noise, level)
        return value, {"psnr": psnr(p, target)} | by_noise_level(value, level), {}

    return Stage(name, (DENOISER,), loss, (CNN, DENOISER), watch=WATCH)


_STAGES = {"cnn": cnn_stage, "diffusion": diffusion_stage}
