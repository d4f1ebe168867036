"""Samplers: from noise to the residual, one `lax.scan` over a `denoise_fn`.

A `denoise_fn(x_t [B, ...], noise_level [B]) -> x_0 [B, ...]` is all that a sampler knows of the
network; clipping belongs to it. The steps visit a subset of the trained noise levels: the schedule
is respaced, never shortened with the same betas.

Every sampler here is linear in x_t, the two newest estimates of x_0 and fresh noise, so a sampler
is a table, `Steps`: four numbers per step, made in float64:

  x_prev = x * x_t + x_0 * x_0(t) + x_0_before * x_0(t + 1) + noise * fresh noise

Those of `NAMES` differ in two things only: the share `eta` of fresh noise, and whether the estimate
of x_0 is extrapolated from the step before (second order).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.schedule import SPACINGS, NoiseSchedule
from lpdiff_jax.errors import check_choice

DenoiseFn = Callable[..., jax.Array]
NoiseFn = Callable[[jax.Array], jax.Array]
# Between two steps: x, and the newest estimate of x_0; and what a step needs to know.
Carry = tuple[jax.Array, jax.Array]
Row = dict[str, Any]

# ddpm: Ho et al. 2020. ddim: Song et al. 2021. dpmpp_2m, dpmpp_2m_sde: Lu et al. 2022,
# "DPM-Solver++", algorithm 2 and its SDE form.
NAMES = ("ddpm", "ddim", "dpmpp_2m", "dpmpp_2m_sde")


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How to sample; a configuration's `sampler` section.

    Attributes:
      name: the sampler, one of `NAMES`.
      steps: the calls of the denoiser.
      eta: the share of fresh noise of 'ddim', from 0 (deterministic) to 1 (as 'ddpm').
      spacing: which of the trained levels are visited, see `NoiseSchedule.timesteps`.
      start: where sampling begins: 1 begins with N(0, I); less begins with what is known (psi, so
        x_0 = 0, or what the sketch adds to it), noised as after that share of the trained steps.
    """

    name: str = "ddim"
    steps: int = 10
    eta: float = 0.0
    spacing: str = "uniform"
    start: float = 1.0

    def __post_init__(self) -> None:
        check_choice("sampler", self.name, NAMES)
        check_choice("spacing", self.spacing, SPACINGS)
        if self.steps < 1:
            raise ValueError(f"sampling steps are at least 1, not {self.steps}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is between 0 and 1, not {self.eta}")
        if not 0 < self.start <= 1:
            raise ValueError(f"start is above 0 and at most 1, not {self.start}")

    def visited(self, trained: NoiseSchedule) -> NoiseSchedule:
        """The trained schedule's levels that the steps visit.

        Raises:
          ValueError: more steps than the trained schedule has up to `start`.
        """
        return trained.respaced(trained.timesteps(self.steps, self.spacing, self.start))

    def steps_of(self, trained: NoiseSchedule) -> "Steps":
        """The steps on a trained schedule; raises ValueError as `visited` does."""
        visited = self.visited(trained)
        steps = steps_on(visited, self.name, self.eta)
        if self.start == 1:
            return steps
        scale = float(np.sqrt(1 - visited.noise_levels[-1] ** 2))
        return dataclasses.replace(steps, first_scale=scale)


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """A stepping rule as data; index 0 is the step taken last.

    Attributes:
      levels: float64 [steps], what `denoise_fn` is told at each step.
      x, x_0, x_0_before, noise: float64 [steps] each, what a step multiplies with, see the module.
      first_scale: the first x is Gaussian noise times this.
    """

    levels: np.ndarray
    x: np.ndarray
    x_0: np.ndarray
    x_0_before: np.ndarray
    noise: np.ndarray
    first_scale: float = 1.0

    @property
    def count(self) -> int:
        """The number of steps."""
        return len(self.levels)

    @property
    def stochastic(self) -> bool:
        """Whether any step adds fresh noise."""
        return bool(self.noise.any())


def sample(
    denoise_fn: DenoiseFn,
    x: jax.Array,
    noise_fn: NoiseFn,
    steps: Steps,
    *,
    prepare: Callable[[jax.Array], Any] | None = None,
) -> jax.Array:
    """Takes every step.

    Args:
      denoise_fn: the network, as the module describes it.
      x: [B, ...], at the level of the first step taken.
      noise_fn: step index (0 is the least noisy) -> Gaussian noise of x's shape; not called where
        no step adds noise.
      steps: the stepping rule, as a table.
      prepare: levels [steps] -> a tree of arrays [steps, ...], computed once, before the loop; its
        slice of the step is then the third argument of `denoise_fn`.

    Returns:
      x_0 [B, ...].
    """

    def body(carry: Carry, row: Row) -> tuple[Carry, None]:
        return take_step(denoise_fn, noise_fn, steps.stochastic, carry, row), None

    first = (x, jnp.zeros_like(x))
    (x, _), _ = jax.lax.scan(body, first, table_of(steps, prepare), reverse=True)
    return x


def table_of(steps: Steps, prepare: Callable[[jax.Array], Any] | None = None) -> Row:
    """What each step needs to know: a tree of arrays [steps, ...]; `prepare` as in `sample`."""
    levels = jnp.asarray(steps.levels, jnp.float32)
    numbers = {name: getattr(steps, name) for name in ("x", "x_0", "x_0_before", "noise")}
    return {
        "index": jnp.arange(steps.count),
        "level": levels,
        "prepared": () if prepare is None else (prepare(levels),),
        "numbers": {key: jnp.asarray(array, jnp.float32) for key, array in numbers.items()},
    }


def take_step(
    denoise_fn: DenoiseFn, noise_fn: NoiseFn, stochastic: bool, carry: Carry, row: Row
) -> Carry:
    """Takes one step.

    Args:
      denoise_fn: the network, as the module describes it.
      noise_fn: as in `sample`.
      stochastic: whether any step adds noise.
      carry: x [B, ...], and the estimate of x_0 of the step before (zeros before the first).
      row: the step's row of `table_of`.

    Returns:
      x after the step, and the step's own estimate of x_0.
    """
    x, x_0_before = carry
    level = jnp.broadcast_to(row["level"], x.shape[:1])
    x_0 = denoise_fn(x, level, *row["prepared"])
    number = row["numbers"]
    x = number["x"] * x + number["x_0"] * x_0 + number["x_0_before"] * x_0_before
    if stochastic:
        x = x + number["noise"] * noise_fn(row["index"])
    return x, x_0


def steps_on(schedule: NoiseSchedule, name: str, eta: float = 0.0) -> Steps:
    """The steps of one of `NAMES` over every level of a (respaced) schedule."""
    levels = schedule.noise_levels
    numbers = coefficients(levels, name, eta)
    return Steps(
        levels=levels[1:],
        x=numbers["x"],
        x_0=numbers["x_0"],
        x_0_before=numbers["x_0_before"],
        noise=numbers["noise"],
    )


def coefficients(noise_levels: np.ndarray, name: str, eta: float = 0.0) -> dict[str, np.ndarray]:
    """What each step multiplies with, see the module.

    Well defined where the first level is 0 (zero terminal SNR) and at the last step, to level 1.

    Args:
      noise_levels: float64 [steps + 1], falling from 1.
      name: the sampler, one of `NAMES`.
      eta: the share of fresh noise, see `Sampler`.

    Returns:
      float64 [steps] each: x, x_0, x_0_before, noise; index 0 is the last step taken.
    """
    check_choice("sampler", name, NAMES)
    if name != "ddim":
        eta = 0.0 if name == "dpmpp_2m" else 1.0
    level, after = noise_levels[1:], noise_levels[:-1]
    sigma, sigma_after = np.sqrt(1 - level**2), np.sqrt(1 - after**2)
    # exp(-h), h the step in log(level / sigma); written so that neither end divides by zero.
    shrink = level * sigma_after / (after * sigma)
    noise = eta * sigma_after * np.sqrt(np.maximum(1 - shrink**2, 0))
    of_x = np.sqrt(np.maximum(sigma_after**2 - noise**2, 0)) / sigma
    of_x_0 = after - level * of_x
    more = _extrapolation(shrink) if name.startswith("dpmpp") else np.zeros_like(level)
    return {"x": of_x, "x_0": of_x_0 * (1 + more), "x_0_before": -of_x_0 * more, "noise": noise}


def _extrapolation(shrink: np.ndarray) -> np.ndarray:
    """Half of each step's h over that of the step before; 0 (first order) at both ends."""
    with np.errstate(divide="ignore"):
        h = -np.log(shrink)
    more = np.zeros_like(h)
    more[1:-1] = h[1:-1] / (2 * h[2:])
    return more
