"""What a training step turns into the next: parameters, their average, the optimiser's memory."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from lpdiff_jax.model import Variables

Params = dict[str, Any]


class TrainState(flax.struct.PyTreeNode):
    """The state of one stage.

    Attributes:
      step: int32 [], optimiser steps done in this stage.
      params: parameters that the stage trains, by network: 'condition', 'denoiser'.
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


def join_variables(params: Params, batch_stats: Params) -> Variables:
    """Parameters and statistics by network, as the model takes them."""
    return {
        name: {"params": tree} | ({"batch_stats": batch_stats[name]} if name in batch_stats else {})
        for name, tree in params.items()
    }


def inference_variables(state: TrainState) -> Variables:
    """What a user restores with: the averaged parameters, and the frozen ones."""
    return join_variables(state.frozen | state.ema, state.batch_stats)
