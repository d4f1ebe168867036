"""AdamW with warm-up, decay and clipping, from a stage's section of the configuration."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from lpdiff_jax.errors import check_choice

Schedule = Callable[[Any], Any]
# The part of the optimiser that networks without settings of their own share.
_SHARED = "shared"


def learning_rate(config: Any) -> Schedule:
    """step -> learning rate: linear warm-up, then a cosine to zero, or constant."""
    check_choice("decay", config.decay, ("cosine", "none"))
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.decay == "cosine":
        # optax demands a decay longer than the warm-up, also of a run of a few steps.
        total = max(config.steps, warmup + 1)
        return optax.warmup_cosine_decay_schedule(peak / max(warmup, 1), peak, warmup, total)
    if warmup == 0:
        return optax.constant_schedule(peak)
    return optax.linear_schedule(peak / warmup, peak, warmup)


def make_optimizer(config: Any, trained: Sequence[str]) -> optax.GradientTransformation:
    """AdamW; kernels decay, biases and norm scales do not.

    Networks are clipped and stepped together, but for those that the section's `own` names: a
    discriminator's gradients must not scale down its generator's.

    Its memory has one structure whatever the settings, so that a run may go on with others.

    Args:
      config: the stage's section; the fields of `config.own.<network>` replace its own for one
        network.
      trained: the names of what the stage trains.
    """
    own = {name: section for name, section in config.get("own", {}).items() if name in trained}
    if not own:
        return _adamw(config)
    settings = {name: value for name, value in config.items() if name != "own"}
    parts = {name: _adamw(ConfigDict(settings | dict(own[name].items()))) for name in own}
    return optax.partition({_SHARED: _adamw(config), **parts}, functools.partial(_labels, own))


def _labels(own: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Which part of the optimiser each parameter belongs to."""
    label = {name: name if name in own else _SHARED for name in params}
    return {name: jax.tree.map(lambda _, n=name: label[n], tree) for name, tree in params.items()}


def _adamw(config: Any) -> optax.GradientTransformation:
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    adamw = optax.adamw(
        learning_rate(config),
        b1=config.get("b1", 0.9),
        b2=config.get("b2", 0.999),
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
    )
    return optax.chain(clip, adamw)
