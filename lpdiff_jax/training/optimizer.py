"""AdamW with warm-up, decay and clipping, from a stage's section of the configuration."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from lpdiff_jax.errors import check_choice

Schedule = Callable[[Any], Any]


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


def make_optimizer(config: Any) -> optax.GradientTransformation:
    """AdamW; kernels decay, biases and norm scales do not.

    Its memory has one structure whatever the settings, so that a run may go on with others.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    adamw = optax.adamw(
        learning_rate(config),
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
    )
    return optax.chain(clip, adamw)
