"""Checkpoints of one stage with Orbax: the state, and a record of what it belongs to.

A checkpoint is a folder `<workdir>/checkpoints/<stage>/<step>/` that appears under its name when it
is whole. Orbax restores flipped bits without an error, so the record holds a sha256 of every array.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from lpdiff_jax.errors import UserError
from lpdiff_jax.methods.lpdiff.model import LPDiff, Variables, build_model
from lpdiff_jax.methods.lpdiff.stages import make_stage
from lpdiff_jax.storage.config import FILE_NAME, load_config
from lpdiff_jax.storage.workdir import space
from lpdiff_jax.training.state import TrainState, abstract_state, inference_variables

# What reading a damaged checkpoint raises, by way of Orbax and TensorStore.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError)


@dataclasses.dataclass(frozen=True)
class Best:
    """The step with the lowest validation loss so far."""

    step: int
    loss: float


@dataclasses.dataclass(frozen=True)
class Record:
    """What a checkpoint holds besides the state.

    Attributes:
      config: the configuration of the run that saved it, as JSON has it.
      position: the state of its data iterator.
      process_count: the processes that trained together.
      best: the best step so far, if any was validated: `Best` as a dict.
    """

    config: dict[str, Any]
    position: dict[str, Any]
    process_count: int
    best: dict[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint as read; the state is where the target of `read_newest` places it."""

    state: TrainState
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
      best: the best step so far.
    """

    def __init__(self, directory: Path, keep: int, best: Best | None):
        self.best = best
        self._directory = directory
        with self._explained():
            self._manager = ocp.CheckpointManager(
                directory.absolute(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                        [checkpoint_managers.LatestN(keep), self]
                    ),
                    cleanup_tmp_directories=True,
                ),
            )

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Orbax's question which checkpoints to keep besides the newest: the best one."""
        del context
        return [self.best is not None and info.step == self.best.step for info in checkpoints]

    def has(self, step: int) -> bool:
        """Whether a step is saved, or being saved."""
        return step in self._manager.all_steps()

    def improves(self, step: int, loss: float) -> bool:
        """Notes a validation loss; returns whether it is the best so far."""
        if self.best is not None and loss >= self.best.loss:
            return False
        self.best = Best(step, loss)
        return True

    def save(
        self,
        step: int,
        state: TrainState,
        config: ConfigDict,
        position: dict[str, Any],
        process_count: int,
    ) -> None:
        """Starts saving; it goes on in the background.

        Args:
          step: the state's.
          state: arrays as `Parallel.to_checkpoint` makes them.
          config: see `Record`, as the rest.

        Raises:
          UserError: this checkpoint or the one before it could not be written.
        """
        best = None if self.best is None else dataclasses.asdict(self.best)
        record = dataclasses.asdict(Record(config.to_dict(), position, process_count, best))
        content = {"record": record, "arrays": checksums(state)}
        with self._explained():
            self._manager.wait_until_finished()  # for the save before, whose room is taken then
            free, size = space(self._directory, state)
            if free < size:
                raise OSError(f"it takes {size / 1e6:.1f} MB")
            args = ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                record=ocp.args.JsonSave(content | {"sha256": _json_digest(content)}),
            )
            self._manager.save(step, args=args, force=True)

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


def checksums(state: TrainState) -> dict[str, str]:
    """The sha256 of every array, by its path in the state."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        digests = list(threads.map(lambda leaf: _sha256(leaf[1]), leaves))
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    return dict(zip(names, digests, strict=True))


def _sha256(array: Any) -> str:
    content: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.sha256(content).hexdigest()


def _json_digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_newest(
    directory: Path, target: TrainState, steps: Sequence[int] | None = None
) -> tuple[Saved | None, dict[int, str]]:
    """Reads the newest checkpoint that is as it was saved.

    Args:
      directory: of a stage.
      target: shapes, dtypes and shardings.
      steps: those to try, in order; None takes all, the newest first.

    Returns:
      The checkpoint, or None; and what is wrong with each that was tried before it, by its step.
    """
    damaged: dict[int, str] = {}
    for step in saved_steps(directory) if steps is None else steps:
        try:
            return _read(directory.absolute() / str(step), target), damaged
        except _DAMAGE as error:
            damaged[step] = _first_line(error)
    return None, damaged


def _read(path: Path, target: TrainState) -> Saved:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        content = checkpointer.restore(path / "record")
    if content.pop("sha256") != _json_digest(content):
        raise ValueError("its record is not what was saved")
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(path / "state", target)
    found = checksums(state)
    for name, expected in content["arrays"].items():
        if found.get(name) != expected:
            raise ValueError(f"the sha256 of {name} is not that of what was saved")
    return Saved(state, Record(**content["record"]))


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


def load_for_inference(source: Path) -> tuple[ConfigDict, LPDiff, Variables]:
    """The averaged parameters of a run, or of one checkpoint.

    Args:
      source: a work directory, whose last stage with a checkpoint is taken at its newest step; or
        one checkpoint, `<workdir>/checkpoints/<stage>/<step>`.

    Raises:
      UserError: it holds no configuration, or no checkpoint that can be read.
    """
    source, stages, steps = _sought(source)
    config = load_config(source / FILE_NAME)
    model = build_model(config.model)
    stages = stages or tuple(reversed(config.stages))
    for directory in (stage_directory(source, name) for name in stages):
        if saved_steps(directory):
            saved = _read_for_inference(directory, model, config, steps)
            return config, model, inference_variables(saved.state)
    raise UserError(f"{source}: no checkpoint yet below {source / 'checkpoints'}")


def _sought(source: Path) -> tuple[Path, tuple[str, ...], list[int] | None]:
    """The work directory that is meant, and the stage and step where it is one checkpoint."""
    source = source.absolute()
    if source.parent.parent.name == "checkpoints" and source.name.isdigit():
        return source.parents[2], (source.parent.name,), [int(source.name)]
    return source, (), None


def _read_for_inference(
    directory: Path, model: LPDiff, config: ConfigDict, steps: list[int] | None
) -> Saved:
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    stage = make_stage(directory.name, model, config)
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one_device),
        abstract_state(model, stage, config[stage.name]),
    )
    saved, damaged = read_newest(directory, target, steps)
    faults = [f"{directory / str(step)}: damaged ({why})" for step, why in damaged.items()]
    if saved is None:
        raise UserError("; ".join(faults))
    for fault in faults:
        logging.getLogger(__name__).warning(f"{fault}; an older checkpoint is used")
    return saved
