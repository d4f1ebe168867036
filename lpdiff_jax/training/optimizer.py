"""AdamW or Muon, with warm-up, decay and clipping, from a stage's section of the configuration."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax
import optax.contrib
from ml_collections import ConfigDict

from lpdiff_jax.errors import check_choice

Schedule = Callable[[Any], Any]
# The part of the optimiser that networks without settings of their own share.
_SHARED = "shared"
# Muon's steps have this root mean square before the learning rate, as AdamW's have about (Liu et
# al. 2025, "Muon is scalable for LLM training", section 2.2), so both take the same rates.
_MUON_RMS = 0.2
# A kernel of fewer outputs is hardly a matrix; it goes the way of the biases.
_FEWEST_OUTPUTS = 8


def learning_rate(config: Any) -> Schedule:
    """step -> learning rate: linear warm-up, then what `decay` says.

    'cosine' ends at `final_learning_rate` (0 if not said); 'halving' halves at each step of
    `halve_at`; 'none' stays.
    """
    check_choice("decay", config.decay, ("cosine", "halving", "none"))
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.decay == "halving":
        return _halving(peak, warmup, config.halve_at)
    if config.decay == "cosine":
        # optax demands a decay longer than the warm-up, also of a run of a few steps.
        total = max(config.steps, warmup + 1)
        final = config.get("final_learning_rate", 0.0)
        return optax.warmup_cosine_decay_schedule(peak / max(warmup, 1), peak, warmup, total, final)
    if warmup == 0:
        return optax.constant_schedule(peak)
    return optax.linear_schedule(peak / warmup, peak, warmup)


def _halving(peak: float, warmup: int, steps: Sequence[int]) -> Schedule:
    halved = optax.piecewise_constant_schedule(peak, dict.fromkeys(steps, 0.5))
    if warmup == 0:
        return halved
    rising = optax.linear_schedule(peak / warmup, peak, warmup)
    # Joined schedules count from their beginning; the halvings count from the stage's.
    return optax.join_schedules([rising, lambda step: halved(step + warmup)], [warmup])


def make_optimizer(config: Any, trained: Sequence[str]) -> optax.GradientTransformation:
    """What the section's `optimizer` names; kernels decay, biases and norm scales do not.

    Networks are clipped and stepped together, but for those that the section's `own` names: a
    discriminator's gradients must not scale down its generator's.

    The memory of one kind of optimiser has one structure whatever the settings, so that a run may
    go on with others.

    Args:
      config: the stage's section; the fields of `config.own.<network>` replace its own for one
        network.
      trained: the names of what the stage trains.
    """
    own = {name: section for name, section in config.get("own", {}).items() if name in trained}
    if not own:
        return _optimizer(config)
    settings = {name: value for name, value in config.items() if name != "own"}
    parts = {name: _optimizer(ConfigDict(settings | dict(own[name].items()))) for name in own}
    return optax.partition({_SHARED: _optimizer(config), **parts}, functools.partial(_labels, own))


def _labels(own: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Which part of the optimiser each parameter belongs to."""
    label = {name: name if name in own else _SHARED for name in params}
    return {name: jax.tree.map(lambda _, n=name: label[n], tree) for name, tree in params.items()}


def _optimizer(config: Any) -> optax.GradientTransformation:
    name = config.get("optimizer", "adamw")
    check_choice("optimizer", name, tuple(_OPTIMIZERS))
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    chain = optax.chain(clip, _OPTIMIZERS[name](config))
    return _with_layer_rates(chain, dict(config.get("layer_rates", {})))


def _adamw(config: Any) -> optax.GradientTransformation:
    return optax.adamw(
        learning_rate(config),
        b1=config.get("b1", 0.9),
        b2=config.get("b2", 0.999),
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
    )


def _muon(config: Any) -> optax.GradientTransformation:
    """Kernels step in all directions alike (Jordan et al. 2024), all else by Adam."""
    return optax.contrib.muon(
        learning_rate(config),
        weight_decay=config.weight_decay,
        adam_b1=config.get("b1", 0.9),
        adam_b2=config.get("b2", 0.999),
        adam_learning_rate=learning_rate(config),
        muon_weight_dimension_numbers=lambda p: jax.tree.map_with_path(_as_matrix, p),
        consistent_rms=_MUON_RMS,
    )


def _as_matrix(path: Any, x: Any) -> optax.contrib.MuonDimensionNumbers | None:
    """Which axes of a kernel are the matrix's inputs and outputs; None: it is not a kernel."""
    *_, layer, name = ("", *(getattr(key, "key", "") for key in path))
    if name != "kernel" or x.ndim < 2 or x.shape[-1] < _FEWEST_OUTPUTS:
        return None
    axes = tuple(range(x.ndim))
    # flax's attention has an output axis for the heads and one for the channels of each.
    inputs = 1 if layer in ("query", "key", "value") else x.ndim - 1
    return optax.contrib.MuonDimensionNumbers(axes[:inputs], axes[inputs:])


_OPTIMIZERS = {"adamw": _adamw, "muon": _muon}


def _with_layer_rates(
    optimizer: optax.GradientTransformation, rates: Mapping[str, float]
) -> optax.GradientTransformation:
    """The optimiser, its steps of the layers that are named multiplied by their rates.

    Its memory is the optimiser's alone, so that a run may go on with other rates.
    """
    if not rates:
        return optimizer

    def rate(path: Any) -> float:
        names = {getattr(key, "key", None) for key in path}
        return math.prod(factor for name, factor in rates.items() if name in names)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map_with_path(lambda path, x: x * rate(path), updates), state

    return optax.GradientTransformation(optimizer.init, update)
