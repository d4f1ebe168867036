"""What a training step turns into the next: parameters, their average, the optimiser's memory."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from lpdiff_jax.methods.base import TEACHER, Params, Stage
from lpdiff_jax.methods.lpdiff.model import NETWORKS, LPDiff, Variables
from lpdiff_jax.training.optimizer import make_optimizer


class TrainState(flax.struct.PyTreeNode):
    """The state of one stage.

    Attributes:
      step: int32 [], optimiser steps done in this stage.
      params: parameters that the stage trains, by network: 'condition', ...
      frozen: parameters of networks that it only uses.
      batch_stats: BatchNorm statistics by network; empty with GroupNorm.
      ema: moving average of `params`, what inference uses.
      opt_state: the optimiser's.
    """

    step: jax.Array
    params: Params
    frozen: Params
    batch_stats: Params
    ema: Params
    opt_state: optax.OptState


def init_variables(model: LPDiff, seed: int, *, networks: tuple[str, ...] = NETWORKS) -> Variables:
    """Fresh variables of those networks that the model has."""
    # XLA would spend most of a small run's start on optimising initialisers that run once.
    on_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    init = jax.jit(model.init, static_argnames="networks", compiler_options=options)
    return init(jax.random.key(seed), networks=networks)


def with_teacher(stage: Stage, variables: Variables) -> Variables:
    """Adds the teacher, where a stage needs one: the denoiser as it is now."""
    if not stage.uses_teacher:
        return variables
    # A copy: the step donates the state's arrays, none of which may be there twice.
    return variables | {TEACHER: jax.tree.map(jnp.copy, variables["denoiser"])}


def create_state(
    variables: Variables, trained: tuple[str, ...], optimizer: optax.GradientTransformation
) -> TrainState:
    """A fresh state that trains the named networks of `variables` and freezes the others."""
    params = {name: variables[name]["params"] for name in trained}
    frozen = {name: tree["params"] for name, tree in variables.items() if name not in trained}
    stats = {name: tree["batch_stats"] for name, tree in variables.items() if "batch_stats" in tree}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        frozen=frozen,
        batch_stats=stats,
        ema=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
    )


def abstract_state(model: LPDiff, stage: Stage, config: Any) -> TrainState:
    """Shapes and dtypes of a stage's state; `config` is the stage's section."""
    optimizer = make_optimizer(config)

    def make(key: jax.Array) -> TrainState:
        variables = model.init(key, networks=stage.networks)
        return create_state(with_teacher(stage, variables), stage.trained, optimizer)

    return jax.eval_shape(make, jax.random.key(0))


def join_variables(params: Params, batch_stats: Params) -> Variables:
    """Parameters and statistics by network, as the model takes them."""
    return {
        name: {"params": tree} | ({"batch_stats": batch_stats[name]} if name in batch_stats else {})
        for name, tree in params.items()
    }


def inference_variables(state: TrainState) -> Variables:
    """What a user restores with: the averaged parameters, and the frozen ones."""
    networks = state.frozen | state.ema
    networks.pop(TEACHER, None)
    return join_variables(networks, state.batch_stats)
