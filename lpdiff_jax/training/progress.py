"""What a person watches while a stage trains: losses, speed, time left, and whether it diverged."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lpdiff_jax.methods.base import Stage
from lpdiff_jax.parallel.processes import tell
from lpdiff_jax.training.step import Averages, Report
from lpdiff_jax.training.writer import Writer


class NotFinite(Exception):
    """A step's loss or gradient was not finite.

    Attributes:
      step: the step, counted from 1.
      metrics: the metrics of that step.
      index: the places in the training source of this process's part of its batch.
    """

    def __init__(self, step: int, metrics: dict[str, float], index: list[int]):
        super().__init__(f"step {step}: the loss or its gradient is not finite")
        self.step, self.metrics, self.index = step, metrics, index


class Progress:
    """Collects a stage's metrics on the device and reports them every so often.

    Attributes:
      flops_per_example: the operations of training on an example; with `peak_flops` of all devices
        they give the MFU.
    """

    def __init__(
        self,
        stage: Stage,
        steps: int,
        batch_size: int,
        writer: Writer,
        first_step: int,
        flops_per_example: float = 0.0,
        peak_flops: float = 0.0,
    ):
        self._stage, self._steps, self._batch_size = stage, steps, batch_size
        self._writer = writer
        self._step = first_step
        self._utilisation = flops_per_example / peak_flops if peak_flops else None
        self._pending: list[tuple[Report, np.ndarray]] = []
        self._settled: list[Averages] = []
        self._seconds = self._waited = self._timed_steps = 0.0
        self.start_clock()

    def start_clock(self) -> None:
        """Counts time as training from here on."""
        self._since = time.perf_counter()

    def stop_clock(self) -> None:
        """Leaves out what follows, which is not training; fetches what is pending.

        Raises:
          NotFinite: see `settle`.
        """
        count = len(self._pending)
        self.settle()
        self._seconds += time.perf_counter() - self._since
        self._timed_steps += count

    def forget_time(self) -> None:
        """Leaves out the steps so far from the rate: the first one is mostly compilation."""
        self.settle()
        self._seconds = self._waited = self._timed_steps = 0.0
        self.start_clock()

    def next_batch(self, iterator: Iterator[Any]) -> Any:
        """The next batch; the time that it took counts as waiting for data."""
        started = time.perf_counter()
        batch = next(iterator)
        self._waited += time.perf_counter() - started
        return batch

    def add(self, report: Report, index: np.ndarray) -> None:
        """Adds what a step says, still on the device, and the places of its examples."""
        self._pending.append((report, index))
        self._step += 1

    def settle(self) -> None:
        """Fetches the metrics that are pending, which waits for their steps.

        Raises:
          NotFinite: for the first step whose loss or gradient is not finite.
        """
        pending, self._pending = self._pending, []
        first = self._step - len(pending) + 1
        fetched = jax.device_get([report for report, _ in pending])
        for step, (report, (_, index)) in enumerate(zip(fetched, pending, strict=True), first):
            if not report.finite:
                raise NotFinite(step, means_of([report.metrics]), index.tolist())
            self._settled.append(report.metrics)

    def report(self, extra: Mapping[str, float]) -> dict[str, float]:
        """Prints a line and writes the means since the last one; returns them.

        Raises:
          NotFinite: see `settle`.
        """
        self.stop_clock()
        rows, self._settled = self._settled, []
        means = means_of(rows) | dict(extra) | self._speed()
        self._writer.write_scalars(
            self._step, {f"{self._stage.name}/{name}": value for name, value in means.items()}
        )
        self._writer.flush()
        self._print(means)
        self._seconds = self._waited = self._timed_steps = 0.0
        self.start_clock()
        return means

    def _speed(self) -> dict[str, float]:
        if not self._timed_steps:
            return {}
        rate = self._timed_steps / self._seconds
        speed = {
            "steps_per_second": rate,
            "examples_per_second": rate * self._batch_size,
            "data_wait_share": self._waited / self._seconds,
        }
        if self._utilisation is not None:
            speed["mfu"] = speed["examples_per_second"] * self._utilisation
        return speed

    def _print(self, means: Mapping[str, float]) -> None:
        line = f"{self._stage.name} {self._step}/{self._steps}  {watched(self._stage, means)}"
        if rate := means.get("steps_per_second"):
            left = (self._steps - self._step) / rate
            line += f"  {rate:.2f} steps/s  {duration(left)} left"
        tell(line)


def means_of(rows: Sequence[Averages]) -> dict[str, float]:
    """The mean of each metric over some batches; those that no example counted for are left out."""
    totals = {name: float(np.sum([row[name].total for row in rows])) for name in rows[0]}
    counts = {name: float(np.sum([row[name].count for row in rows])) for name in rows[0]}
    return {name: total / counts[name] for name, total in totals.items() if counts[name]}


def watched(stage: Stage, means: Mapping[str, float]) -> str:
    """The metrics that a line about a stage shows."""
    return "  ".join(f"{name} {means[name]:.4g}" for name in stage.watch if name in means)


def duration(seconds: float) -> str:
    """h:mm:ss, or m:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
