"""Validation while a stage trains: its loss on plates it does not learn from, and sample sheets."""

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from data_pipeline.files import explained
from data_pipeline.pipeline import eval_batches
from data_pipeline.sources import Source
from lpdiff_jax.images import to_float, to_uint8
from lpdiff_jax.methods.base import Method, Stage
from lpdiff_jax.parallel import devices, processes
from lpdiff_jax.restoring.restorer import Restorer
from lpdiff_jax.training.progress import means_of, watched
from lpdiff_jax.training.state import TrainState, inference_variables
from lpdiff_jax.training.writer import Writer


class Validator:
    """Validates one stage's averaged parameters."""

    def __init__(
        self,
        stage: Stage,
        config: Any,
        method: Method,
        source: Source,
        writer: Writer,
        sheets: Path,
    ):
        """Takes the whole configuration; `sheets` is where pictures go."""
        self._stage, self._config, self._method = stage, config, method
        self._source, self._writer, self._sheets = source, writer, sheets

    def loss(self, step: int, eval_fn: Any, state: TrainState, parallel: devices.Parallel) -> float:
        """The mean loss over the first validation batches; each example counts once."""
        batches = itertools.islice(
            self._batches(self._config[self._stage.name].batch_size),
            self._config.validation_batches,
        )
        rows = [jax.device_get(eval_fn(state, parallel.put_batch(batch))) for batch in batches]
        means, name = means_of(rows), self._stage.name
        self._writer.write_scalars(step, {f"{name}/val_{n}": v for n, v in means.items()})
        processes.tell(f"{name} {step}: validation {watched(self._stage, means)}")
        return means["loss"]

    def sheet(self, step: int, state: TrainState) -> None:
        """Draws a few plates, a row each: frames, first estimate, restored, ground truth."""
        plates = self._config.sheet_plates
        if not plates or not processes.is_main():
            return
        batch = next(self._batches(plates, alone=True))
        restorer = self._restore_with(state)
        frames, mask = to_float(batch["frames"]), batch["frame_mask"]
        estimate = restorer.estimate(frames, mask)
        columns = [] if estimate.image is None else [to_uint8(estimate.image)]
        if restorer.draws_vary or not columns:
            columns.append(to_uint8(restorer.draw(estimate)[:, 0]))
        rows = np.concatenate(
            [*np.moveaxis(batch["frames"], 1, 0), *map(np.asarray, columns), batch["target"]],
            axis=2,
        )
        picture = np.concatenate(rows, axis=0)
        self._writer.write_images(step, {f"{self._stage.name}/plates": picture[None]})
        path = self._sheets / f"{self._stage.name}-{step:07}.png"
        with explained(path):
            self._sheets.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)

    def _restore_with(self, state: TrainState) -> Restorer:
        variables = devices.to_local(inference_variables(state, self._method.networks))
        return Restorer(self._method, variables, self._config.get("sampler", {}))

    def _batches(self, batch_size: int, alone: bool = False) -> Any:
        return eval_batches(
            self._source,
            image_size=self._method.image_size,
            max_frames=self._config.data.num_frames,
            batch_size=batch_size,
            process_index=0 if alone else processes.process_index(),
            process_count=1 if alone else processes.process_count(),
        )
