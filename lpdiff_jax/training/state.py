"""What a training step turns into the next: parameters, their average, the optimiser's memory."""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from lpdiff_jax.methods.base import Method, Params, Stage, Variables
from lpdiff_jax.training.optimizer import make_optimizer


class TrainState(flax.struct.PyTreeNode):
    """The state of one stage. Networks and helpers (see `methods.base.Stage`) have one place each.

    Attributes:
      step: int32 [], optimiser steps done in this stage.
      params: parameters that the stage trains, by network: 'condition', ...
      frozen: parameters of what it only uses.
      batch_stats: statistics by network: of BatchNorm, of spectral norms.
      ema: moving average of `params`, what inference uses.
      opt_state: the optimiser's memory.
    """

    step: jax.Array
    params: Params
    frozen: Params
    batch_stats: Params
    ema: Params
    opt_state: optax.OptState


def init_variables(method: Method, seed: int, networks: Sequence[str] | None = None) -> Variables:
    """Fresh variables of those networks that the method has; None means all."""
    # XLA would spend most of a small run's start on optimising initialisers that run once.
    on_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    init = jax.jit(method.init, static_argnums=1, compiler_options=options)
    return init(jax.random.key(seed), tuple(networks or method.networks))


def with_helpers(stage: Stage, variables: Variables, key: jax.Array) -> Variables:
    """Adds what a stage trains or uses beside the networks."""
    return variables | stage.helpers(key, variables)


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


def abstract_state(method: Method, stage: Stage, config: Any) -> TrainState:
    """Shapes and dtypes of a stage's state; `config` is the stage's section."""
    optimizer = make_optimizer(config, stage.trained)

    def make(key: jax.Array) -> TrainState:
        variables = with_helpers(stage, method.init(key, stage.networks), key)
        return create_state(variables, stage.trained, optimizer)

    return jax.eval_shape(make, jax.random.key(0))


def join_variables(params: Params, batch_stats: Params) -> Variables:
    """Parameters and statistics by network, as methods take them."""
    return {
        name: {"params": tree} | ({"batch_stats": batch_stats[name]} if name in batch_stats else {})
        for name, tree in params.items()
    }


def inference_variables(state: TrainState, networks: Sequence[str]) -> Variables:
    """What a user restores with: of these networks the averaged parameters, and the frozen ones."""
    everything = join_variables(state.frozen | state.ema, state.batch_stats)
    return {name: everything[name] for name in networks if name in everything}


def to_items(state: TrainState, networks: Sequence[str]) -> dict[str, Any]:
    """A state as a checkpoint's items `networks` and `training`; each array is in one of them."""
    shipped = inference_variables(state, networks)
    beside = lambda tree: {name: x for name, x in tree.items() if name not in shipped}  # noqa: E731
    training = {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "ema": beside(state.ema),
        "frozen": beside(state.frozen),
        "batch_stats": beside(state.batch_stats),
    }
    return {"networks": shipped, "training": training}


def from_items(networks: Variables, training: dict[str, Any]) -> TrainState:
    """Undoes `to_items`."""
    shipped = {name: tree["params"] for name, tree in networks.items()}
    stats = {name: tree["batch_stats"] for name, tree in networks.items() if "batch_stats" in tree}
    trained = training["params"].keys()
    return TrainState(
        step=training["step"],
        params=training["params"],
        frozen={n: x for n, x in shipped.items() if n not in trained} | training["frozen"],
        batch_stats=stats | training["batch_stats"],
        ema={n: x for n, x in shipped.items() if n in trained} | training["ema"],
        opt_state=training["opt_state"],
    )
