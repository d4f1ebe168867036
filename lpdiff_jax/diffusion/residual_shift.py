"""ResShift's chain: from the low-resolution picture to the plate, in a few steps.

Yue et al., "ResShift" (NeurIPS 2023), sections 3.1 and 3.2. Step t of T (0 is the cleanest) shifts
the plate x_0 towards the low-resolution picture y by a share eta_t, and adds noise:

  x_t = x_0 + eta_t (y - x_0) + kappa sqrt(eta_t) noise

A step back is linear in x_t, x_0 and noise, so the chain is one more rule for `samplers.sample`;
y enters at its start alone.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.samplers import Steps
from lpdiff_jax.errors import check_choice

SPACES = ("pixel", "latent")
PREDICTIONS = ("plate", "residual", "noise", "scaled_noise")
_LOWEST_START = np.sqrt(0.001)


@dataclasses.dataclass(frozen=True)
class ShiftSchedule:
    """How far each step has shifted; everything is float64 [T].

    Attributes:
      steps: T.
      kappa: the noise's standard deviation over the square root of the shift.
      end: the square root of the last step's shift.
      power: how fast the shift grows; below 1 it grows fast at first.
      start: sets the first step's shift: the smaller of this and this over kappa is its root.
      capped: whether that root is at most sqrt(0.001), as the first version of the paper has it.
    """

    steps: int = 15
    kappa: float = 2.0
    end: float = 0.99
    power: float = 0.3
    start: float = 0.04
    capped: bool = False

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"a chain has at least 2 steps, not {self.steps}")
        if not 0 < self.start <= self.end < 1:
            raise ValueError(f"0 < start <= end < 1 is not so for {self.start} and {self.end}")

    @property
    def sqrt_shift(self) -> np.ndarray:
        """sqrt(eta_t), rising."""
        first = min(self.start / self.kappa, self.start)
        if self.capped:
            first = min(first, _LOWEST_START)
        places = np.linspace(0, 1, self.steps) ** self.power
        return first * (self.end / first) ** places

    @property
    def shift(self) -> np.ndarray:
        """eta_t."""
        return self.sqrt_shift**2

    def respaced(self, steps: int) -> np.ndarray:
        """Which of the trained steps a shorter chain takes: int [steps], ascending.

        Raises:
          ValueError: more steps than there are.
        """
        if not 1 <= steps <= self.steps:
            raise ValueError(
                f"the chain was trained with {self.steps} steps, {steps} are asked for"
            )
        return (np.arange(steps) * self.steps / steps).astype(int)

    def steps_back(self, kept: np.ndarray | None = None) -> Steps:
        """What each step of the chain multiplies with.

        Args:
          kept: the steps taken, as `respaced` gives them; all of them by default.

        Returns:
          The chain as a stepping rule. Its levels are the steps' numbers as they were trained,
          which the network is told; the step taken last adds no noise and leaves x_0.
        """
        kept = np.arange(self.steps) if kept is None else kept
        posterior = Posterior.of(self.shift[kept], self.kappa)
        noise = np.exp(posterior.log_variance / 2)
        noise[0] = 0
        return Steps(
            levels=kept.astype(np.float64),
            x=posterior.of_x,
            x_0=posterior.of_x_0,
            x_0_before=np.zeros(len(kept)),
            noise=noise,
        )

    def input_scale(self, space: str = "pixel") -> np.ndarray:
        """What x_t is divided by before the network sees it.

        Raises:
          ValueError: another space than `SPACES`.
        """
        check_choice("space", space, SPACES)
        if space == "pixel":
            return 3 * self.kappa * self.sqrt_shift + 1
        return np.sqrt(self.kappa**2 * self.shift + 1)

    def loss_weight(self, prediction: str = "plate") -> np.ndarray:
        """What a step's squared error counts in the variational bound.

        Every published configuration trains with weights 1 instead.

        Raises:
          ValueError: another prediction than `PREDICTIONS`, or 'scaled_noise', which has none.
        """
        check_choice("prediction", prediction, PREDICTIONS[:-1])
        shift, before = self.shift, _before(self.shift)
        added = shift - before
        variance = _first_replaced(self.kappa**2 * added * before / shift)
        if prediction == "noise":
            return 0.5 * (self.kappa * added / ((1 - shift) * np.sqrt(shift))) ** 2 / variance
        return 0.5 * (added / shift) ** 2 / variance


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """A step back given x_t and x_0: mean `of_x * x_t + of_x_0 * x_0`, float64 [T] each.

    The variance of step 0 is zero; its logarithm has step 1's in this place.
    """

    of_x: np.ndarray
    of_x_0: np.ndarray
    variance: np.ndarray
    log_variance: np.ndarray

    @classmethod
    def of(cls, shift: np.ndarray, kappa: float) -> "Posterior":
        """The posterior of a chain whose shifts are given."""
        before = _before(shift)
        variance = kappa**2 * (shift - before) * before / shift
        log_variance = np.log(_first_replaced(variance)) if len(shift) > 1 else np.zeros(1)
        return cls(before / shift, (shift - before) / shift, variance, log_variance)


def _before(shift: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], shift[:-1]])


def _first_replaced(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[1:2], values[1:]])


def shift_towards(
    x_0: jax.Array, y: jax.Array, noise: jax.Array, shift: jax.Array, kappa: float
) -> jax.Array:
    """x_t for x_0, y and noise [B, ...], with shift [B] the step's eta_t."""
    shift = _expand(shift, x_0)
    return x_0 + shift * (y - x_0) + kappa * jnp.sqrt(shift) * noise


def plate_of(
    output: jax.Array, prediction: str, x_t: jax.Array, y: jax.Array, shift: jax.Array, kappa: float
) -> jax.Array:
    """x_0 as a network's output [B, ...] says it.

    Args:
      output: the network's.
      prediction: one of `PREDICTIONS`; 'scaled_noise' is the noise as it stands in x_t.
      x_t: [B, ...].
      y: [B, ...], the low-resolution picture.
      shift: [B], eta_t.
      kappa: the schedule's.
    """
    check_choice("prediction", prediction, PREDICTIONS)
    shift = _expand(shift, output)
    if prediction == "plate":
        return output
    if prediction == "residual":
        return y - output
    noise = output if prediction == "scaled_noise" else kappa * jnp.sqrt(shift) * output
    return (x_t - noise - shift * y) / (1 - shift)


def _expand(values: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.asarray(values).reshape(values.shape + (1,) * (like.ndim - values.ndim))
