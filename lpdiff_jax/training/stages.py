"""The stages of training: what each one trains, and by which loss."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lpdiff_jax.diffusion.objective import Objective, diffuse, draw_levels
from lpdiff_jax.errors import UserError
from lpdiff_jax.images import to_float
from lpdiff_jax.model import LPDiff, Variables
from lpdiff_jax.training.state import Params

Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]

NAMES = ("psi", "diffusion")
CONDITION_MODES = ("frozen", "detached", "joint", "unsupervised")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
      name: 'psi', 'diffusion'.
      trained: the networks whose parameters it changes.
      loss: (variables, batch, key, train) -> (loss [], (metrics, batch statistics by network)).
    """

    name: str
    trained: tuple[str, ...]
    loss: Callable[[Variables, Batch, jax.Array, bool], tuple[jax.Array, tuple[Metrics, Params]]]


def make_stage(name: str, model: LPDiff, config: Any) -> Stage:
    """Builds a stage of a configuration.

    Raises:
      UserError: a stage or mode that does not exist.
    """
    if name == "psi":
        return psi_stage(model, config.psi)
    if name == "diffusion":
        return diffusion_stage(model, config.diffusion)
    raise UserError(f"config.stages has {name!r}; allowed: {', '.join(NAMES)}")


def psi_stage(model: LPDiff, config: Any) -> Stage:
    """Trains the condition network alone, against the ground truth."""

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, tuple[Metrics, Params]]:
        del key
        target = to_float(batch["target"])
        psi, stats = apply_condition(model, variables, batch, train)
        value = psi_loss(psi, target, config.gradient_weight, config.shift).mean()
        return value, ({"loss": value, "psnr": mean_psnr(psi, target)}, stats)

    return Stage("psi", ("condition",), loss)


def diffusion_stage(model: LPDiff, config: Any) -> Stage:
    """Trains the denoiser on the residual; psi is frozen, detached, joint or unsupervised."""
    mode = config.condition
    if mode not in CONDITION_MODES:
        raise UserError(
            f"config.diffusion.condition is {mode!r}; allowed: {', '.join(CONDITION_MODES)}"
        )
    objective = Objective(model.prediction, config.levels, config.weighting)
    global_batch = config.batch_size

    def loss(
        variables: Variables, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, tuple[Metrics, Params]]:
        target = to_float(batch["target"])
        psi, stats = apply_condition(model, variables, batch, train and mode != "frozen")
        own = psi
        if mode in ("frozen", "detached"):
            psi = jax.lax.stop_gradient(psi)
        level, errors = diffusion_loss(
            model, objective, variables, psi, target, batch["position"], global_batch, key, train
        )
        value = errors.mean()
        metrics = {"diffusion_loss": value, "psnr": mean_psnr(own, target)}
        metrics |= by_noise_level(errors, level)
        if mode in ("detached", "joint"):
            supervised = psi_loss(own, target, config.gradient_weight, config.shift).mean()
            metrics["psi_loss"] = supervised
            value = value + supervised
        return value, ({"loss": value} | metrics, stats)

    trained = ("denoiser",) if mode == "frozen" else ("condition", "denoiser")
    return Stage("diffusion", trained, loss)


def apply_condition(
    model: LPDiff, variables: Variables, batch: Batch, train: bool
) -> tuple[jax.Array, Params]:
    """psi [B, H, W, 3] of a batch, and the condition network's new statistics, if it has any."""
    frames = to_float(batch["frames"])
    stats = variables["condition"].get("batch_stats")
    if not (train and stats):
        psi = model.psi(variables, frames, batch["frame_mask"])
        return psi, {} if stats is None else {"condition": stats}
    psi, updated = model.condition.apply(
        variables["condition"], frames, batch["frame_mask"], train=True, mutable=["batch_stats"]
    )
    return psi, {"condition": updated["batch_stats"]}


def diffusion_loss(
    model: LPDiff,
    objective: Objective,
    variables: Variables,
    psi: jax.Array,
    target: jax.Array,
    position: jax.Array,
    global_batch: int,
    key: jax.Array,
    train: bool,
) -> tuple[jax.Array, jax.Array]:
    """The objective at random levels: (levels [B], per-sample losses [B]).

    All randomness but dropout's is keyed by a sample's position in the global batch, so that it
    does not depend on how the batch is spread over devices.
    """
    keys = jax.vmap(lambda p: jax.random.fold_in(key, p))(position)
    levels = jnp.asarray(model.schedule.noise_levels, jnp.float32)
    level = draw_levels(objective.levels, keys, position, global_batch, key, levels)
    noise_of = lambda k: jax.random.normal(jax.random.fold_in(k, 1), target.shape[1:])  # noqa: E731
    noise = jax.vmap(noise_of)(keys)
    x_0 = model.residual(target, psi)
    output: Any = model.denoiser.apply(
        variables["denoiser"],
        psi,
        diffuse(x_0, noise, level),
        level,
        train=train,
        rngs={"dropout": jax.random.fold_in(key, position[0])},
    )
    return level, objective.per_sample_loss(output, x_0, noise, level)


def psi_loss(
    psi: jax.Array, target: jax.Array, gradient_weight: float, shift: int = 0
) -> jax.Array:
    """L1 of pixels, plus weighted L1 of their gradients: [B].

    Args:
      psi: [B, H, W, 3].
      target: [B, H, W, 3].
      gradient_weight: weight of the gradients' term.
      shift: the smallest loss over all shifts of up to so many pixels counts, for pairs that are
        not aligned; 0 compares in place.
    """
    if shift == 0:
        return _l1_with_gradients(psi, target, gradient_weight)
    height, width = psi.shape[1:3]
    inner = psi[:, shift : height - shift, shift : width - shift]
    losses = [
        _l1_with_gradients(
            inner, target[:, dy : dy + inner.shape[1], dx : dx + inner.shape[2]], gradient_weight
        )
        for dy in range(2 * shift + 1)
        for dx in range(2 * shift + 1)
    ]
    return jnp.stack(losses).min(0)


def _l1_with_gradients(a: jax.Array, b: jax.Array, gradient_weight: float) -> jax.Array:
    error = a - b
    loss = jnp.abs(error).mean((1, 2, 3))
    if gradient_weight:
        rows = jnp.abs(jnp.diff(error, axis=1)).mean((1, 2, 3))
        columns = jnp.abs(jnp.diff(error, axis=2)).mean((1, 2, 3))
        loss = loss + gradient_weight * (rows + columns)
    return loss


def mean_psnr(images: jax.Array, target: jax.Array) -> jax.Array:
    """Mean PSNR in dB of images in [-1, 1], not rounded to 8 bits: for watching, not reporting."""
    squared = jnp.square(jnp.clip(images, -1, 1) - target).mean((1, 2, 3))
    return (10 * jnp.log10(4 / jnp.maximum(squared, 1e-8))).mean()


def by_noise_level(losses: jax.Array, level: jax.Array, bins: int = 4) -> Metrics:
    """Sums and counts of losses [B] by quarter of the noise level; divide when logging."""
    quarter = jnp.minimum((level * bins).astype(jnp.int32), bins - 1)
    member = jax.nn.one_hot(quarter, bins)
    sums, counts = losses @ member, member.sum(0)
    return {f"level_{i}_sum": sums[i] for i in range(bins)} | {
        f"level_{i}_count": counts[i] for i in range(bins)
    }
