"""The writers of a run; those to services that keep many side by side: Weights & Biases.

Services have the methods of `writer.Writer` and stand beside TensorBoard, never in its place. A run
belongs to a work directory: a training that goes on continues it.
"""

import importlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.training.writer import SilentWriter, Tee, Writer, event_writer

PROJECT = "lpdiff-jax"


class WandbWriter:
    """Weights & Biases. Its own variables hold: WANDB_MODE=offline sends nothing, WANDB_PROJECT."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        self._wandb = _import("wandb")
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(directory),
            name=directory.resolve().parent.name,
            id=_identity(directory / "wandb-run"),
            resume="allow",
            config=dict(config),
        )
        self._stages: set[str] = set()

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Numbers by name."""
        self._log(step, {name: float(value) for name, value in scalars.items()})

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """uint8 images [N, H, W, 3] by name."""
        image = self._wandb.Image
        self._log(
            step, {n: [image(picture) for picture in np.asarray(x)] for n, x in images.items()}
        )

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown by name."""
        del step  # A summary has none.
        self._run.summary.update(texts)

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        # Steps begin anew with every stage, and W&B's own counter never goes back: each stage has
        # an axis of its own.
        for stage in {name.partition("/")[0] for name in values}:
            if stage not in self._stages:
                self._stages.add(stage)
                self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            mine = {n: v for n, v in values.items() if n.partition("/")[0] == stage}
            self._run.log({**mine, f"{stage}/step": step})

    def flush(self) -> None:
        """Does nothing: W&B sends without being asked."""

    def close(self) -> None:
        """Waits until everything is sent."""
        self._run.finish()


# `config.tracker` -> writer; the name is also an extra of this package.
TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Writer]] = {
    "wandb": WandbWriter,
}


def make_writer(
    directory: Path | None, tracker: str = "", config: Mapping[str, Any] | None = None
) -> Writer:
    """The writer of a process; with no directory (any process but the first) it writes nothing.

    Args:
      directory: `logs` of the work directory.
      tracker: a name of `TRACKERS` to write to beside TensorBoard; empty: none.
      config: the config of the run, for the tracker.

    Raises:
      UserError: the tracker is not known, not installed, or does not start.
    """
    if directory is None:
        return SilentWriter()
    if tracker:
        return Tee((make_tracker(tracker, directory, config or {}), event_writer(directory)))
    return event_writer(directory)


def make_tracker(name: str, directory: Path, config: Mapping[str, Any]) -> Writer:
    """The writer of `config.tracker`.

    Args:
      name: one of `TRACKERS`.
      directory: `logs` of the work directory.
      config: the config of the run, as plain values; shown beside its curves.

    Raises:
      UserError: no such tracker, it is not installed, or it does not start.
    """
    if name not in TRACKERS:
        known = ", ".join(map(repr, TRACKERS))
        raise UserError(f"config.tracker is {name!r}; choose of '' (none), {known}")
    try:
        return TRACKERS[name](directory, config)
    except UserError:
        raise
    except Exception as error:  # of W&B, of the network: no login, no room
        raise UserError(f"config.tracker: {name} does not start: {error}") from error


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"config.tracker: {name} is not installed: pip install 'lpdiff-jax[{name}]'"
        ) from error


def _identity(path: Path) -> str:
    """The id that a run was given first, so that it is continued."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(8))
    return path.read_text().strip()
