"""Lines of progress: where a stage stands, how fast it goes, how long it will take."""

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lpdiff_jax.training.writer import Writer


class Progress:
    """Collects a stage's metrics on the device and reports them every so often."""

    def __init__(self, stage: str, steps: int, batch_size: int, writer: Writer, first_step: int):
        self._stage, self._steps, self._batch_size = stage, steps, batch_size
        self._writer = writer
        self._pending: list[Mapping[str, jax.Array]] = []
        self._step = first_step
        self._since = time.perf_counter()
        self._waited = 0.0

    def add(self, metrics: Mapping[str, jax.Array], data_seconds: float) -> None:
        """Adds a step's metrics, still on the device, and the time it waited for data."""
        self._pending.append(metrics)
        self._waited += data_seconds
        self._step += 1

    def report(self, extra: Mapping[str, float]) -> dict[str, float]:
        """Prints a line and writes the means since the last one; returns them."""
        fetched = jax.device_get(self._pending)
        means = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
        means = _fold_levels(means)
        seconds = time.perf_counter() - self._since
        rate = len(fetched) / seconds
        means |= {
            **extra,
            "steps_per_second": rate,
            "examples_per_second": rate * self._batch_size,
            "data_wait_share": self._waited / seconds,
        }
        self._writer.write_scalars(
            self._step, {f"{self._stage}/{name}": value for name, value in means.items()}
        )
        left = (self._steps - self._step) / rate
        print(
            f"{self._stage} {self._step}/{self._steps}  loss {means['loss']:.4f}  "
            f"psnr of psi {means['psnr']:.2f} dB  {rate:.2f} steps/s  {duration(left)} left",
            flush=True,
        )
        self.restart_clock()
        return means

    def restart_clock(self) -> None:
        """Leaves out what was done since the last report that is not training."""
        self._pending, self._since, self._waited = [], time.perf_counter(), 0.0


def duration(seconds: float) -> str:
    """h:mm:ss, or m:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _fold_levels(means: dict[str, float]) -> dict[str, float]:
    """Turns sums and counts by noise level into mean losses by noise level."""
    folded: dict[str, Any] = {}
    for name, value in means.items():
        if name.endswith("_sum"):
            count = means[name.removesuffix("_sum") + "_count"]
            if count:
                folded["loss_" + name.removesuffix("_sum")] = value / count
        elif not name.endswith("_count"):
            folded[name] = value
    return folded
