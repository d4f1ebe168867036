"""Noise schedules, made in float64 with numpy (paper section 3.3; Ho et al. 2020)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lpdiff_jax.errors import check_choice

NAMES = ("linear", "quad", "warmup10", "warmup50", "const", "jsd", "cosine")
SPACINGS = ("uniform", "quadratic", "log_snr")
# More than any process is divided into; a file or a flag may ask for a thousand million.
MAX_STEPS = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A discrete noise schedule of T steps.

    Attributes:
      betas: float64 [T], the variance added at each step, in (0, 1].
    """

    betas: np.ndarray

    @property
    def steps(self) -> int:
        """T."""
        return len(self.betas)

    @property
    def alphas_cumprod(self) -> np.ndarray:
        """float64 [T]: the share of the signal's variance left after each step."""
        return np.cumprod(1.0 - self.betas)

    @property
    def noise_levels(self) -> np.ndarray:
        """float64 [T + 1]: sqrt(alphas_cumprod), with a leading 1 for the clean signal."""
        return np.sqrt(np.append(1.0, self.alphas_cumprod))

    def buffers(self) -> dict[str, np.ndarray]:
        """The twelve arrays that the published program keeps in its checkpoints, float32 [T]."""
        alphas_cumprod = self.alphas_cumprod
        previous = np.append(1.0, alphas_cumprod[:-1])
        alphas = 1.0 - self.betas
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = self.betas * (1.0 - previous) / (1.0 - alphas_cumprod)
            buffers = {
                "betas": self.betas,
                "alphas_cumprod": alphas_cumprod,
                "alphas_cumprod_prev": previous,
                "sqrt_alphas_cumprod": np.sqrt(alphas_cumprod),
                "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - alphas_cumprod),
                "log_one_minus_alphas_cumprod": np.log(1.0 - alphas_cumprod),
                "sqrt_recip_alphas_cumprod": np.sqrt(1.0 / alphas_cumprod),
                "sqrt_recipm1_alphas_cumprod": np.sqrt(1.0 / alphas_cumprod - 1),
                "posterior_variance": variance,
                "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
                "posterior_mean_coef1": self.betas * np.sqrt(previous) / (1.0 - alphas_cumprod),
                "posterior_mean_coef2": (1.0 - previous) * np.sqrt(alphas) / (1.0 - alphas_cumprod),
            }
        return {name: array.astype(np.float32) for name, array in buffers.items()}

    @property
    def log_snr(self) -> np.ndarray:
        """float64 [T]: log(alphas_cumprod / (1 - alphas_cumprod)); -inf at zero terminal SNR."""
        alphas_cumprod = self.alphas_cumprod
        with np.errstate(divide="ignore"):
            return np.log(alphas_cumprod) - np.log(1.0 - alphas_cumprod)

    def timesteps(self, steps: int, spacing: str = "uniform", start: float = 1.0) -> np.ndarray:
        """Which of the trained steps 1..T to visit when sampling in fewer.

        The noisiest step is always visited; the clean end, where nothing is left to predict, never.

        Args:
          steps: the number of timesteps to visit.
          spacing: 'uniform' in t, 'quadratic' (finer where there is less noise), or 'log_snr'
            (uniform in log(SNR), of which what is below -10 counts as one place).
          start: sampling begins at this share of T.

        Returns:
          int [steps], increasing, all different.

        Raises:
          ValueError: an unknown spacing, or more steps than there are.
        """
        check_choice("spacing", spacing, SPACINGS)
        last = max(round(self.steps * start), 1)
        if not 1 <= steps <= last:
            raise ValueError(f"sampling steps are between 1 and the trained {last}, not {steps}")
        share = np.arange(1, steps + 1) / steps
        if spacing == "log_snr":
            log_snr = np.maximum(self.log_snr[:last], -10)
            wanted = log_snr[0] + share * (log_snr[-1] - log_snr[0])
            times = np.interp(-wanted, -log_snr, np.arange(1, last + 1))
        else:
            times = last * (share if spacing == "uniform" else share**2)
        # Rounding may make neighbours equal: push them apart, upwards and then back below T.
        order = np.arange(steps)
        times = np.maximum(np.round(times).astype(int), 1)
        times = np.maximum.accumulate(times - order) + order
        times = np.minimum(times, last - (steps - 1) + order)
        times[-1] = last
        return times

    def respaced(self, timesteps: np.ndarray) -> "NoiseSchedule":
        """The schedule that visits only some of the trained noise levels.

        Args:
          timesteps: increasing integers in 1..T; level t of the trained schedule is kept.

        Returns:
          A schedule of `len(timesteps)` steps with `noise_levels[1:] == trained[timesteps]`.
        """
        levels = self.noise_levels[np.append(0, timesteps)] ** 2
        return NoiseSchedule(1.0 - levels[1:] / levels[:-1])


def make_schedule(
    name: str,
    steps: int = 1000,
    start: float = 1e-6,
    end: float = 1e-2,
    zero_terminal_snr: bool = False,
) -> NoiseSchedule:
    """Makes a schedule by name.

    Args:
      name: one of `NAMES`; the published program trains with 'linear'.
      steps: the number of steps, T.
      start: first beta (not used by 'jsd', 'cosine').
      end: last beta (not used by 'jsd', 'cosine').
      zero_terminal_snr: rescale so that the last level is pure noise (Lin et al. 2024,
        "Common diffusion noise schedules and sample steps are flawed", algorithm 1).

    Raises:
      ValueError: an unknown name or a schedule that leaves (0, 1].
    """
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"schedule steps are between 1 and {MAX_STEPS:,}, not {steps}")
    if name == "linear":
        betas = np.linspace(start, end, steps)
    elif name == "quad":
        betas = np.linspace(start**0.5, end**0.5, steps) ** 2
    elif name in ("warmup10", "warmup50"):
        betas = np.full(steps, end)
        warm = int(steps * int(name[-2:]) / 100)
        betas[:warm] = np.linspace(start, end, warm)
    elif name == "const":
        betas = np.full(steps, end)
    elif name == "jsd":
        betas = 1.0 / np.linspace(steps, 1, steps)
    elif name == "cosine":
        betas = _cosine(steps)
    else:
        raise ValueError(f"schedule is {name!r}; allowed: {', '.join(NAMES)}")
    schedule = NoiseSchedule(np.asarray(betas, np.float64))
    if not ((schedule.betas > 0).all() and (schedule.betas <= 1).all()):
        raise ValueError(f"schedule {name!r} from {start} to {end} has betas outside (0, 1]")
    return _with_zero_terminal_snr(schedule) if zero_terminal_snr else schedule


def _cosine(steps: int, offset: float = 8e-3, largest: float = 0.999) -> np.ndarray:
    """Nichol & Dhariwal 2021, equation 17."""
    times = np.arange(steps + 1) / steps + offset
    remaining = np.cos(times / (1 + offset) * math.pi / 2) ** 2
    return np.minimum(1 - remaining[1:] / remaining[:-1], largest)


def _with_zero_terminal_snr(schedule: NoiseSchedule) -> NoiseSchedule:
    levels = schedule.noise_levels[1:]
    first, last = levels[0], levels[-1]
    levels = (levels - last) * first / (first - last)
    squared = np.append(1.0, levels**2)
    return NoiseSchedule(1.0 - squared[1:] / squared[:-1])


def build_schedule(config: Mapping[str, Any]) -> NoiseSchedule:
    """A schedule from `betas` themselves, or from the arguments of `make_schedule`."""
    if config.get("betas") is not None:
        return NoiseSchedule(np.asarray(config["betas"], np.float64))
    return make_schedule(**{name: value for name, value in config.items() if name != "betas"})
