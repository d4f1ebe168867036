"""Checkpoints of one stage with Orbax.

A checkpoint is a folder `<workdir>/checkpoints/<stage>/<step>/` that appears under its name when it
is whole. It has three items, and each array lies in one of them:

  networks  what inference needs: averaged and frozen parameters, statistics
  training  what going on needs besides: parameters, the optimiser's memory, helpers, the step
  record    what it belongs to, as JSON, with a sha256 of every array (Orbax restores flipped bits
            without an error)
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from lpdiff_jax.errors import UserError
from lpdiff_jax.storage.workdir import space

FORMAT = 2
# What reading a damaged checkpoint raises, by way of Orbax and TensorStore.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Record:
    """What a checkpoint holds besides arrays.

    Attributes:
      config: the configuration of the run that saved it, as JSON has it.
      networks: the names of the networks in it.
      position: the state of its data iterator.
      process_count: the processes that trained together.
      loss: the validation loss at this step; None where it was not validated.
    """

    config: dict[str, Any]
    networks: tuple[str, ...]
    position: dict[str, Any]
    process_count: int
    loss: float | None


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint as read; the arrays are where the targets place them."""

    networks: dict[str, Any]
    training: dict[str, Any]
    record: Record


def stage_directory(workdir: Path, stage: str) -> Path:
    """Where a stage's checkpoints lie, one folder a step."""
    return workdir / "checkpoints" / stage


def saved_steps(directory: Path) -> list[int]:
    """The steps of a stage that have a checkpoint, newest first."""
    return sorted(ocp.utils.checkpoint_steps(directory), reverse=True) if directory.is_dir() else []


class Checkpointer:
    """Saves a stage's checkpoints in the background; keeps the newest few and the best one.

    Attributes:
      best: the step with the lowest validation loss so far, and the loss; None before the first.
    """

    def __init__(self, directory: Path, keep: int):
        self._directory = directory
        with self._explained():
            self._manager = ocp.CheckpointManager(
                directory.absolute(),
                options=ocp.CheckpointManagerOptions(
                    best_fn=_loss_of,
                    best_mode="min",
                    preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                        [
                            checkpoint_managers.LatestN(keep),
                            checkpoint_managers.BestN(get_metric_fn=_loss_of, reverse=True, n=1),
                        ]
                    ),
                    cleanup_tmp_directories=True,
                ),
            )
            step = self._manager.best_step()
            loss = math.inf if step is None else _loss_of(self._manager.metrics(step))
        self.best = None if math.isinf(loss) else (step, loss)

    def has(self, step: int) -> bool:
        """Whether a step is saved, or being saved."""
        return step in self._manager.all_steps()

    def improves(self, loss: float) -> bool:
        """Whether a validation loss is lower than that of every step that is saved."""
        return loss < (math.inf if self.best is None else self.best[1])

    def save(
        self, step: int, networks: dict[str, Any], training: dict[str, Any], record: Record
    ) -> None:
        """Starts saving; it goes on in the background.

        Args:
          step: the step that has been reached.
          networks: arrays as `Parallel.to_checkpoint` makes them, by network.
          training: arrays as above, of whatever the run needs to go on.
          record: what the arrays belong to.

        Raises:
          UserError: this checkpoint or the one before it could not be written.
        """
        arrays = {"networks": checksums(networks), "training": checksums(training)}
        content = {"format": FORMAT, "record": dataclasses.asdict(record), "arrays": arrays}
        loss = math.inf if record.loss is None else record.loss
        with self._explained():
            self._manager.wait_until_finished()  # for the save before, whose room is taken then
            free, size = space(self._directory, (networks, training))
            if free < size:
                raise OSError(f"it takes {size / 1e6:.1f} MB")
            args = ocp.args.Composite(
                networks=ocp.args.StandardSave(networks),
                training=ocp.args.StandardSave(training),
                record=ocp.args.JsonSave(content | {"sha256": _json_digest(content)}),
            )
            self._manager.save(step, args=args, metrics={"loss": loss}, force=True)
        if self.improves(loss):
            self.best = step, loss

    def check(self) -> None:
        """Raises what went wrong in the background since the last call."""
        with self._explained():
            self._manager.check_for_errors()

    def close(self) -> None:
        """Waits for the save under way; its failure is raised here."""
        with self._explained():
            self._manager.wait_until_finished()
        self._manager.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            whole = ", ".join(map(str, saved_steps(self._directory))) or "none"
            raise UserError(
                f"{self._directory}: a checkpoint could not be written ({_first_line(error)}; "
                f"{_free_space(self._directory)}); "
                f"steps that are saved whole: {whole}. Make room or mend the directory; the same "
                "command then goes on from the newest of them"
            ) from error


def _loss_of(metrics: Any) -> float:
    """What the best step has least of; infinite where a step was not validated."""
    return float(metrics["loss"])


def checksums(tree: Any) -> dict[str, str]:
    """The sha256 of every array, by its path in the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        digests = list(threads.map(lambda leaf: _sha256(leaf[1]), leaves))
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    return dict(zip(names, digests, strict=True))


def _sha256(array: Any) -> str:
    content: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.sha256(content).hexdigest()


def _json_digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def newest(
    directory: Path, read: Callable[[Path], T], steps: Sequence[int] | None = None
) -> tuple[T | None, dict[int, str]]:
    """Reads the newest checkpoint that is as it was saved.

    Args:
      directory: the directory of a stage's checkpoints.
      read: `read_saved` or `read_networks`, with their targets.
      steps: the steps to try, in order; None takes all, the newest first.

    Returns:
      What was read, or None; and what is wrong with each that was tried before it, by its step.

    Raises:
      UserError: a checkpoint of another version.
    """
    damaged: dict[int, str] = {}
    for step in saved_steps(directory) if steps is None else steps:
        try:
            return read(directory.absolute() / str(step)), damaged
        except _DAMAGE as error:
            damaged[step] = _first_line(error)
    return None, damaged


def read_saved(path: Path, networks: Mapping[str, Any], training: Any) -> Saved:
    """Reads all of one checkpoint.

    Args:
      path: a step's folder.
      networks: shapes, dtypes and shardings, by network.
      training: shapes, dtypes and shardings of the other item.

    Raises:
      OSError, ValueError and others of `_DAMAGE`: it is damaged.
      UserError: it is of another version.
    """
    record, sums = _read_record(path)
    return Saved(
        _read_arrays(path, "networks", dict(networks), sums),
        _read_arrays(path, "training", training, sums),
        record,
    )


def read_networks(path: Path, networks: Mapping[str, Any]) -> tuple[dict[str, Any], Record]:
    """Reads what inference needs of one checkpoint, and its record; raises as `read_saved`.

    Args:
      path: a step's folder.
      networks: shapes, dtypes and shardings of all that may be in it, by network.
    """
    record, sums = _read_record(path)
    there = {name: networks[name] for name in record.networks}
    return _read_arrays(path, "networks", there, sums), record


def _read_record(path: Path) -> tuple[Record, dict[str, Any]]:
    if (path / "state").is_dir() and not (path / "networks").exists():
        raise UserError(
            f"{path}: a checkpoint of an older version of this program, which this one cannot "
            "read. Write a model directory with that version (`lpdiff pack WORKDIR OUT`), which "
            "this one reads, and begin a new run with it (--config.init=OUT)"
        )
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        content = checkpointer.restore(path / "record")
    if content.pop("sha256") != _json_digest(content):
        raise ValueError("its record is not what was saved")
    if content["format"] != FORMAT:
        raise UserError(
            f"{path}: format {content['format']} is not known to this version, which reads format "
            f"{FORMAT}; upgrade lpdiff-jax"
        )
    fields = content["record"]
    record = Record(**fields | {"networks": tuple(fields["networks"])})
    _check_metrics(path, record)
    return record, content["arrays"]


def _check_metrics(path: Path, record: Record) -> None:
    """Orbax reads the loss from a file of its own, which has to agree."""
    found = json.loads((path / "metrics" / "metrics").read_text())["loss"]
    if found != (math.inf if record.loss is None else record.loss):
        raise ValueError("its validation loss is not what was saved")


def _read_arrays(path: Path, item: str, target: Any, sums: Mapping[str, Any]) -> Any:
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(path / item, target)
    found = checksums(tree)
    for name, expected in sums[item].items():
        if found.get(name) != expected:
            raise ValueError(f"the sha256 of {item}{name} is not that of what was saved")
    return tree


def _first_line(error: Exception) -> str:
    """The gist of an error whose message may go on for pages: what failed, and at the end why."""
    line = (str(error).strip().splitlines() or [""])[0]
    if len(line) > 300:
        line = f"{line[:100]} ... {line[-200:]}"
    return f"{type(error).__name__}: {line}"


def _free_space(directory: Path) -> str:
    """The room that is left; not every library says in its errors that there is none."""
    try:
        return f"{shutil.disk_usage(directory).free / 1e6:.1f} MB are free"
    except OSError as error:
        return f"its disk cannot be asked for free room: {error}"


def set_aside(directory: Path, step: int) -> Path:
    """Moves a damaged checkpoint to where no run looks; returns where it is then.

    Raises:
      UserError: it cannot be moved.
    """
    damaged = directory.parent / "damaged"
    place = damaged / f"{directory.name}-{step}"
    number = 1
    while place.exists():
        number += 1
        place = damaged / f"{directory.name}-{step}-{number}"
    try:
        damaged.mkdir(exist_ok=True)
        return (directory / str(step)).rename(place)
    except OSError as error:
        raise UserError(
            f"{directory / str(step)}: this damaged checkpoint cannot be moved to {place} ({error})"
        ) from error
