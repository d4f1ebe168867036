"""The pure training step: (state, batch) -> (state, metrics)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lpdiff_jax.training.stages import Batch, Metrics, Stage
from lpdiff_jax.training.state import Params, TrainState, join_variables

StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
# Sums a tree's mean over the devices that share a batch; the identity where one holds it whole.
Reduce = Callable[[Any], Any]


def make_train_step(
    stage: Stage,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    ema_decay: float,
    accumulate: int = 1,
) -> Callable[[TrainState, Batch, Reduce], tuple[TrainState, Metrics]]:
    """Builds a stage's step; `reduce` averages over devices (see `parallel`)."""

    def train_step(state: TrainState, batch: Batch, reduce: Reduce) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, (metrics, stats) = _gradients(stage, state, batch, key, accumulate)
        grads, metrics, stats = reduce((grads, metrics, stats))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=stats,
            ema=optax.incremental_update(params, state.ema, 1 - ema_decay),
            opt_state=opt_state,
        )
        return state, metrics | {"gradient_norm": optax.tree.norm(grads)}

    return train_step


def make_eval_step(stage: Stage, *, seed: int) -> Callable[[TrainState, Batch], Metrics]:
    """The stage's loss with the averaged parameters, and noise that is the same every time."""

    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        variables = join_variables(state.frozen | state.ema, state.batch_stats)
        _, (metrics, _) = stage.loss(variables, batch, jax.random.key(seed), False)
        return metrics

    return eval_step


def _gradients(
    stage: Stage, state: TrainState, batch: Batch, key: jax.Array, accumulate: int
) -> tuple[Params, tuple[Metrics, Params]]:
    """Gradients of the mean loss, taken over `accumulate` parts of the batch in turn."""

    def loss(params: Params, stats: Params, part: Batch) -> tuple[jax.Array, tuple]:
        variables = join_variables(state.frozen | params, stats)
        return stage.loss(variables, part, key, True)

    gradient = jax.grad(loss, has_aux=True)
    if accumulate == 1:
        return gradient(state.params, state.batch_stats, batch)
    parts = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), dict(batch))

    def body(carry: tuple[Params, Params], part: Batch) -> tuple[tuple[Params, Params], Metrics]:
        total, stats = carry
        grads, (metrics, stats) = gradient(state.params, stats, part)
        return (jax.tree.map(jnp.add, total, grads), stats), metrics

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    (total, stats), metrics = jax.lax.scan(body, (zeros, state.batch_stats), parts)
    mean = lambda x: x / accumulate  # noqa: E731
    return jax.tree.map(mean, total), (jax.tree.map(lambda x: x.mean(0), metrics), stats)
