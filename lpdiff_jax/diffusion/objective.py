"""Noising, what the denoiser predicts, and the loss (paper section 3.3).

`x_0` is the scaled residual, `level` is sqrt(alphas_cumprod) in [0, 1], one number per sample;
every function broadcasts level [B] over x [B, ...].
"""

import dataclasses

import jax
import jax.numpy as jnp

from lpdiff_jax.errors import check_choice

PREDICTIONS = ("noise", "x0", "v")


@dataclasses.dataclass(frozen=True)
class Objective:
    """How the denoiser is trained.

    Attributes:
      prediction: what the denoiser predicts: 'noise' as published, 'x0', or 'v' (Salimans & Ho
        2022), which stays defined at zero terminal SNR.
      levels: 'stratified' draws one noise level per sample, spread evenly over the batch; 'shared'
        is the published one step for the whole batch.
      weighting: 'none', or 'min_snr' (Hang et al. 2023) with gamma 5.
    """

    prediction: str = "v"
    levels: str = "stratified"
    weighting: str = "none"

    def __post_init__(self) -> None:
        check_choice("prediction", self.prediction, PREDICTIONS)
        check_choice("levels", self.levels, ("stratified", "shared"))
        check_choice("weighting", self.weighting, ("none", "min_snr"))

    def per_sample_loss(
        self, output: jax.Array, x_0: jax.Array, noise: jax.Array, level: jax.Array
    ) -> jax.Array:
        """Weighted L1 of the denoiser's output [B, H, W, 3], averaged within each sample: [B]."""
        target = prediction_target(self.prediction, x_0, noise, level)
        loss = jnp.abs(output - target).mean((1, 2, 3))
        if self.weighting == "min_snr":
            loss = loss * min_snr_weight(self.prediction, level)
        return loss


def broadcast_level(level: jax.Array, x: jax.Array) -> jax.Array:
    """[B] -> [B, 1, ...], with the number of dimensions of x."""
    return level.reshape(level.shape + (1,) * (x.ndim - level.ndim))


def sigma(level: jax.Array) -> jax.Array:
    """The noise's standard deviation at a level: sqrt(1 - level^2)."""
    return jnp.sqrt(jnp.maximum(1.0 - jnp.square(level), 0.0))


def diffuse(x_0: jax.Array, noise: jax.Array, level: jax.Array) -> jax.Array:
    """`x_t = level x_0 + sqrt(1 - level^2) noise`."""
    level = broadcast_level(level, x_0)
    return level * x_0 + sigma(level) * noise


def prediction_target(
    prediction: str, x_0: jax.Array, noise: jax.Array, level: jax.Array
) -> jax.Array:
    """What a denoiser of this kind should output."""
    if prediction == "noise":
        return noise
    if prediction == "x0":
        return x_0
    level = broadcast_level(level, x_0)
    return level * noise - sigma(level) * x_0


def to_x0(prediction: str, output: jax.Array, x_t: jax.Array, level: jax.Array) -> jax.Array:
    """The residual that a denoiser's output implies."""
    level = broadcast_level(level, x_t)
    if prediction == "noise":
        return (x_t - sigma(level) * output) / jnp.maximum(level, 1e-6)
    if prediction == "x0":
        return output
    return level * x_t - sigma(level) * output


def to_noise(prediction: str, output: jax.Array, x_t: jax.Array, level: jax.Array) -> jax.Array:
    """The noise that a denoiser's output implies."""
    level = broadcast_level(level, x_t)
    if prediction == "noise":
        return output
    if prediction == "x0":
        return (x_t - level * output) / jnp.maximum(sigma(level), 1e-6)
    return sigma(level) * x_t + level * output


def min_snr_weight(prediction: str, level: jax.Array, gamma: float = 5.0) -> jax.Array:
    """min(SNR, gamma) on the x_0 error, expressed for what the denoiser predicts: [B]."""
    snr = jnp.square(level) / jnp.maximum(1 - jnp.square(level), 1e-8)
    capped = jnp.minimum(snr, gamma)
    if prediction == "noise":
        return capped / jnp.maximum(snr, 1e-8)
    if prediction == "x0":
        return capped
    return capped / (snr + 1)


def draw_levels(
    kind: str, keys: jax.Array, position: jax.Array, batch: int, shared_key: jax.Array,
    noise_levels: jax.Array,
) -> jax.Array:  # fmt: skip
    """Draws a noise level for each sample.

    A step t in 1..T is drawn (one for all, or one per sample), then a level uniformly between
    those of t - 1 and t, as published.

    Args:
      kind: how levels are drawn: 'stratified' or 'shared', see `Objective.levels`.
      keys: [B] keys, one per sample.
      position: int [B], each sample's position in the global batch, so that the draw does not
        depend on how the batch is spread over devices.
      batch: the global batch size.
      shared_key: one key, the same on every device.
      noise_levels: float [T + 1], falling from 1 (`NoiseSchedule.noise_levels`).

    Returns:
      float32 [B].
    """
    steps = noise_levels.shape[0] - 1
    jitter = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
    if kind == "shared":
        t = jnp.broadcast_to(jax.random.randint(shared_key, (), 0, steps), position.shape)
    else:
        t = jnp.floor((position + jitter[:, 0]) / batch * steps).astype(jnp.int32)
        t = jnp.minimum(t, steps - 1)
    upper, lower = noise_levels[t], noise_levels[t + 1]
    return lower + (upper - lower) * jitter[:, 1]
