"""A profile of a few steps, for TensorBoard or Perfetto, where the configuration asks for one."""

from pathlib import Path
from typing import Any

import jax


class Profiler:
    """Traces `steps` steps from the `first` one of a stage on; `steps` = 0 traces nothing."""

    def __init__(self, directory: Path, config: Any):
        self._directory = directory
        self._first, self._last = config.first, config.first + config.steps
        self._running = False

    def at(self, step: int, state: Any) -> None:
        """Call before each step with the state that the step before has made."""
        if self._running and step >= self._last:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._running = False
            print(f"profile of {self._last - self._first} steps: {self._directory}", flush=True)
        if step == self._first < self._last:
            jax.profiler.start_trace(str(self._directory))
            self._running = True
