"""Samplers: from noise to the residual, one `lax.scan` over a `denoise_fn`.

A `denoise_fn(x_t [B, ...], noise_level [B]) -> x_0 [B, ...]` is all that a sampler knows of the
network; clipping belongs to it. The steps visit a subset of the trained noise levels: the schedule
is respaced, never shortened with the same betas.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.schedule import NoiseSchedule

DenoiseFn = Callable[[jax.Array, jax.Array], jax.Array]
NoiseFn = Callable[[jax.Array], jax.Array]

NAMES = ("ddpm", "ddim")


def timesteps(trained: int, steps: int) -> np.ndarray:
    """`steps` of the trained steps 1..T, evenly spread, the last one included."""
    if not 1 <= steps <= trained:
        raise ValueError(f"steps are between 1 and the trained {trained}, not {steps}")
    return np.unique(np.round(np.linspace(trained / steps, trained, steps)).astype(int))


def sample(
    denoise_fn: DenoiseFn,
    x: jax.Array,
    noise_fn: NoiseFn,
    schedule: NoiseSchedule,
    name: str = "ddim",
    eta: float = 0.0,
) -> jax.Array:
    """Runs a sampler over every step of a (respaced) schedule.

    Args:
      denoise_fn: see the module.
      x: [B, ...], noise at the schedule's last level.
      noise_fn: step index (0 is the least noisy) -> Gaussian noise of x's shape.
      schedule: the levels to visit.
      name: 'ddpm' (Ho et al. 2020) or 'ddim' (Song et al. 2021).
      eta: DDIM's share of fresh noise, 0 (deterministic) to 1.

    Returns:
      x_0 [B, ...].
    """
    if name not in NAMES:
        raise ValueError(f"sampler is {name!r}; allowed: {', '.join(NAMES)}")
    step_fn = _ddpm_step if name == "ddpm" else _ddim_step
    coefficients = _coefficients(schedule, eta)

    def body(x: jax.Array, step: dict[str, jax.Array]) -> tuple[jax.Array, None]:
        level = jnp.full(x.shape[:1], step["level"], jnp.float32)
        return step_fn(x, denoise_fn(x, level), noise_fn(step["index"]), step), None

    x, _ = jax.lax.scan(body, x, coefficients, reverse=True)
    return x


def _coefficients(schedule: NoiseSchedule, eta: float) -> dict[str, jax.Array]:
    """What each step multiplies with, float32 [steps]."""
    buffers = schedule.buffers()
    levels = schedule.noise_levels
    level, previous = levels[1:], levels[:-1]
    ratio = (level / previous) ** 2
    noise_share = np.sqrt((1 - previous**2) / np.maximum(1 - level**2, 1e-20) * (1 - ratio))
    fresh = eta * noise_share
    arrays = {
        "level": level,
        "sigma": np.sqrt(1 - level**2),
        "previous": previous,
        "fresh": fresh,
        "kept": np.sqrt(np.maximum(1 - previous**2 - fresh**2, 0)),
        "mean_x0": buffers["posterior_mean_coef1"],
        "mean_x": buffers["posterior_mean_coef2"],
        "deviation": np.exp(0.5 * buffers["posterior_log_variance_clipped"].astype(np.float64))
        * (np.arange(schedule.steps) > 0),
    }
    device = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
    return device | {"index": jnp.arange(schedule.steps)}


def _ddpm_step(
    x: jax.Array, x_0: jax.Array, noise: jax.Array, step: dict[str, jax.Array]
) -> jax.Array:
    return step["mean_x0"] * x_0 + step["mean_x"] * x + step["deviation"] * noise


def _ddim_step(
    x: jax.Array, x_0: jax.Array, noise: jax.Array, step: dict[str, jax.Array]
) -> jax.Array:
    predicted_noise = (x - step["level"] * x_0) / jnp.maximum(step["sigma"], 1e-6)
    return step["previous"] * x_0 + step["kept"] * predicted_noise + step["fresh"] * noise
