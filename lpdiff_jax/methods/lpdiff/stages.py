"""The stages of LP-Diff's training: what each one trains, and by which loss."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lpdiff_jax.diffusion.objective import Objective, diffuse, draw_levels
from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float
from lpdiff_jax.methods.base import Batch, Metrics, Params, Stage, Variables
from lpdiff_jax.methods.lpdiff.distillation import distillation_stage
from lpdiff_jax.methods.lpdiff.losses import (
    apply_condition,
    guide_of,
    place_loss,
    psi_loss,
    reading_loss,
    sketch_loss,
)
from lpdiff_jax.methods.lpdiff.model import NETWORKS, Guide, LPDiff
from lpdiff_jax.methods.metrics import by_noise_level, psnr
from lpdiff_jax.methods.noise import noise_of, sample_keys
from lpdiff_jax.models.condition import Seen
from lpdiff_jax.models.dropout import per_sample_dropout
from lpdiff_jax.plate_text import slot_labels

CONDITION_MODES = ("frozen", "detached", "joint", "unsupervised")


# What a line of progress shows.
WATCH = ("loss", "psnr")


def make_stages(model: LPDiff, config: Any, known: Sequence[str]) -> tuple[Stage, ...]:
    """Builds the stages of a configuration, in order.

    Args:
      model: the method whose networks they train.
      config: the whole configuration, not a section.
      known: the networks that the first stage begins with.

    Raises:
      UserError: a stage or mode that does not exist, or a sketch that nothing trains.
    """
    stages = tuple(make_stage(name, model, config) for name in config.stages)
    used = model.sketch is not None and any("sketch" in stage.networks for stage in stages)
    if used and "sketch" not in known and "sketch" not in config.stages:
        raise UserError(
            "config.model.sketch.layers is not 0, but no sketch is trained: put 'sketch' before "
            f"{stages[-1].name!r} into config.stages, begin with a model that has one "
            "(config.init), or set the layers to 0"
        )
    return stages


def make_stage(name: str, model: LPDiff, config: Any) -> Stage:
    """Builds one stage; raises UserError where there is no such stage or mode."""
    if name in STAGES:
        return STAGES[name](name, model, config)
    if name.startswith("distill"):
        return distillation_stage(name, model, config[name], config.sampler)
    raise UserError(f"config.stages has {name!r}; allowed: {', '.join(STAGES)}, distill...")


def psi_stage(name: str, model: LPDiff, config: Any) -> Stage:
    """Trains the condition network and its reading head alone, against the ground truth."""
    section = config[name]

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Params]:
        del key
        seen, stats = apply_condition(model, variables, batch, train)
        value, metrics = supervise(model, variables, seen, batch, section)
        return value, metrics, stats

    networks = _supervised_networks(model)
    return Stage(name, networks, loss, networks, watch=WATCH)


def _supervised_networks(model: LPDiff) -> tuple[str, ...]:
    return ("condition",) if model.reader is None else ("condition", "reader")


def supervise(
    model: LPDiff, variables: Variables, seen: Seen, batch: Batch, config: Any
) -> tuple[jax.Array, Metrics]:
    """psi's own loss [B], with that of the reading head where there is one, and what to watch."""
    target = to_float(batch["target"])
    value = psi_loss(seen.psi, target, config.gradient_weight, config.shift)
    metrics = {"psnr": psnr(seen.psi, target)}
    if seen.places is not None:
        places, truth = seen.places
        missed = place_loss(places, truth, batch["corners"], batch["frame_mask"])
        value, metrics["place_loss"] = value + config.place_weight * missed, missed
    if model.reader is None or model.slot_reader is None:
        return value, metrics
    logits = model.read_logits(variables, seen.features)
    labels = slot_labels(batch["text"], model.slot_reader.charset, model.reader.slots)
    reading, watched = reading_loss(model.reader, logits, labels)
    return value + config.reading_weight * reading, metrics | watched


def sketch_stage(name: str, model: LPDiff, config: Any) -> Stage:
    """Trains the sketch on the residual that psi, now frozen, leaves."""
    del config
    if model.sketch is None:
        raise UserError(
            "config.stages has 'sketch', but config.model.sketch.layers is 0: no sketch"
        )

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Params]:
        del key
        target = to_float(batch["target"])
        seen, stats = apply_condition(model, variables, batch, train=False)
        psi, drawing = seen.psi, guide_of(model, variables, seen, batch, train).sketch
        assert drawing is not None
        metrics = {
            "psnr": psnr(psi, target),
            "drawn_psnr": psnr(model.compose(drawing, psi), target),
        }
        return sketch_loss(drawing, model.residual(target, psi)), metrics, stats

    return Stage(name, ("sketch",), loss, NETWORKS[: NETWORKS.index("sketch") + 1], watch=WATCH)


def diffusion_stage(name: str, model: LPDiff, config: Any) -> Stage:
    """Trains the denoiser on the residual; psi is frozen, detached, joint or unsupervised."""
    section = config[name]
    mode = section.condition
    if mode not in CONDITION_MODES:
        allowed = ", ".join(CONDITION_MODES)
        raise UserError(f"config.{name}.condition is {mode!r}; allowed: {allowed}")
    try:
        objective = Objective(model.prediction, section.levels, section.weighting)
    except ValueError as error:
        raise UserError(f"config.{name}.{error}") from error
    supervised = mode in ("detached", "joint")

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Metrics, Params]:
        target = to_float(batch["target"])
        seen, stats = apply_condition(model, variables, batch, train and mode != "frozen")
        metrics = {"psnr": psnr(seen.psi, target)}
        alone = mode in ("frozen", "detached")
        shown = jax.lax.stop_gradient(seen) if alone else seen
        guide = guide_of(model, variables, shown, batch, train)
        level, value = diffusion_loss(
            model, objective, variables, guide, target, batch["position"], section.batch_size, key,
            train,
        )  # fmt: skip
        metrics |= {"diffusion_loss": value} | by_noise_level(value, level)
        if supervised:
            own, watched = supervise(model, variables, seen, batch, section)
            value, metrics = value + own, metrics | watched | {"psi_loss": own}
        return value, metrics, stats

    trained = {
        "frozen": (),
        "unsupervised": ("condition",),
    }.get(mode, _supervised_networks(model))
    return Stage(name, (*trained, "denoiser"), loss, NETWORKS, watch=WATCH)


def diffusion_loss(
    model: LPDiff,
    objective: Objective,
    variables: Variables,
    guide: Guide,
    target: jax.Array,
    position: jax.Array,
    global_batch: int,
    key: jax.Array,
    train: bool,
) -> tuple[jax.Array, jax.Array]:
    """The objective at random levels: (levels [B], per-sample losses [B]).

    All randomness is keyed by a sample's position in the global batch, so that it does not depend
    on how the batch is spread over devices.
    """
    keys = sample_keys(key, position)
    levels = jnp.asarray(model.schedule.noise_levels, jnp.float32)
    level = draw_levels(objective.levels, keys, position, global_batch, key, levels)
    noise = noise_of(keys, target.shape[1:])(1)
    x_0 = model.residual(target, guide.psi)
    with per_sample_dropout(keys):
        output = model.denoise(variables, guide, diffuse(x_0, noise, level), level, train)
    return level, objective.per_sample_loss(output, x_0, noise, level)


# The stages by name, besides those that distil.
STAGES = {
    "psi": psi_stage,
    "sketch": sketch_stage,
    "diffusion": diffusion_stage,
    "joint": diffusion_stage,
}
