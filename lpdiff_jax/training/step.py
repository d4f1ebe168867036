"""The pure training step: (state, batch) -> (state, metrics)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from clu.metrics import Average

from lpdiff_jax.methods.base import Batch, Metrics, Params, Stage
from lpdiff_jax.training.state import TrainState, join_variables

# Averages a tree over the devices that share a batch; the identity where one program sees it whole.
Reduce = Callable[[Any], Any]
# By name: a total and a count, each a mean over the global batch.
Averages = dict[str, Average]


class Report(NamedTuple):
    """What is said of a step.

    Attributes:
      metrics: the averages over the batch.
      finite: bool [], whether loss and gradient are finite.
    """

    metrics: Averages
    finite: jax.Array


TrainStep = Callable[[TrainState, Batch, Reduce], tuple[TrainState, Report]]
EvalStep = Callable[[TrainState, Batch, Reduce], Averages]


def make_train_step(
    stage: Stage,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    ema_decay: float,
    accumulate: int = 1,
) -> TrainStep:
    """Builds a stage's step; `reduce` averages over devices (see `parallel.devices`)."""

    def train_step(state: TrainState, batch: Batch, reduce: Reduce) -> tuple[TrainState, Report]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, metrics, stats = reduce(gradients(stage, state, batch, key, accumulate))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=stats,
            ema=optax.incremental_update(params, state.ema, 1 - ema_decay),
            opt_state=opt_state,
        )
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(metrics["loss"].total + norm)
        return state, Report(metrics | {"gradient_norm": _average(norm)}, finite)

    return train_step


def make_eval_step(stage: Stage, *, seed: int) -> EvalStep:
    """The stage's metrics with the averaged parameters, and noise that is the same every time.

    Examples that are not `valid`, which fill up the last batch, do not count.
    """

    def eval_step(state: TrainState, batch: Batch, reduce: Reduce) -> Averages:
        variables = join_variables(state.frozen | state.ema, state.batch_stats)
        loss, metrics, _ = stage.loss(variables, batch, jax.random.key(seed), False)
        valid = batch["valid"].astype(jnp.float32)
        return reduce(averages(metrics | {"loss": loss}, valid))

    return eval_step


def gradients(
    stage: Stage, state: TrainState, batch: Batch, key: jax.Array, accumulate: int = 1
) -> tuple[Params, Averages, Params]:
    """Gradients of the mean loss, taken over `accumulate` parts of the batch in turn.

    Returns:
      The gradients by network, the means of the metrics, and the new batch statistics.
    """

    def loss(params: Params, stats: Params, part: Batch) -> tuple[jax.Array, tuple]:
        variables = join_variables(state.frozen | params, stats)
        value, metrics, stats = stage.loss(variables, part, key, True)
        means = averages(metrics | {"loss": value}, jnp.ones_like(value))
        return means["loss"].total, (means, stats)

    gradient = jax.grad(loss, has_aux=True)
    if accumulate == 1:
        grads, (metrics, stats) = gradient(state.params, state.batch_stats, batch)
        return grads, metrics, stats
    # Every `accumulate`-th sample, so that a part lies on all devices as the whole does.
    parts = jax.tree.map(
        lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), dict(batch)
    )

    def body(carry: tuple[Params, Params], part: Batch) -> tuple[tuple[Params, Params], Averages]:
        total, stats = carry
        grads, (metrics, stats) = gradient(state.params, stats, part)
        return (jax.tree.map(jnp.add, total, grads), stats), metrics

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    (total, stats), metrics = jax.lax.scan(body, (zeros, state.batch_stats), parts)
    metrics = jax.tree.map(lambda x: x.mean(0), metrics)
    return jax.tree.map(lambda x: x / accumulate, total), metrics, stats


def averages(metrics: Metrics, weights: jax.Array) -> Averages:
    """Means over a batch of each metric's total and count, [B] each, with weights [B]."""
    pairs = {name: _average(value) for name, value in metrics.items()}
    return {
        name: Average(total=(pair.total * weights).mean(), count=(pair.count * weights).mean())
        for name, pair in pairs.items()
    }


def _average(value: Any) -> Average:
    if isinstance(value, Average):
        return value
    return Average(total=value, count=jnp.ones_like(value))
