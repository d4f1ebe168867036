"""Checkpoints of one stage with Orbax: state, position in the data, configuration."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from lpdiff_jax.config import FILE_NAME, load_config
from lpdiff_jax.errors import UserError
from lpdiff_jax.model import LPDiff, Variables, build_model
from lpdiff_jax.training.optimizer import make_optimizer
from lpdiff_jax.training.parallel import Parallel
from lpdiff_jax.training.stages import make_stage
from lpdiff_jax.training.state import TrainState, create_state, inference_variables


def stage_directory(workdir: Path, stage: str) -> Path:
    """Where a stage's checkpoints lie, one folder a step."""
    return workdir / "checkpoints" / stage


class Checkpointer:
    """Saves and restores one stage.

    Attributes:
      manager: Orbax's, for what this class does not cover.
    """

    def __init__(self, directory: Path, parallel: Parallel, keep: int):
        self._parallel = parallel
        self.manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
        )

    def latest_step(self) -> int | None:
        """The newest step saved."""
        return self.manager.latest_step()

    def save(self, state: TrainState, iterator: Any) -> None:
        """Starts saving; it goes on in the background."""
        import grain

        args = ocp.args.Composite(
            state=ocp.args.StandardSave(self._parallel.to_checkpoint(state)),
            data=grain.checkpoint.CheckpointSave(iterator),
        )
        self.manager.save(int(state.step), args=args, force=True)

    def restore(self, abstract: TrainState, iterator: Any) -> TrainState:
        """The newest state; `iterator` is moved to its position."""
        import grain

        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(self._parallel.restore_target(abstract)),
            data=grain.checkpoint.CheckpointRestore(iterator),
        )
        restored = self.manager.restore(self.latest_step(), args=args)
        return self._parallel.put_state(restored["state"])

    def close(self) -> None:
        """Waits for the save under way; its failure is raised here."""
        self.manager.wait_until_finished()
        self.manager.close()


def load_for_inference(workdir: Path) -> tuple[ConfigDict, LPDiff, Variables]:
    """The newest averaged parameters of the last stage that has a checkpoint.

    Raises:
      UserError: the directory holds no configuration or no checkpoint.
    """
    config = load_config(workdir / FILE_NAME)
    model = build_model(config.model)
    for name in reversed(config.stages):
        directory = stage_directory(workdir, name)
        if directory.is_dir() and (steps := ocp.utils.checkpoint_steps(directory)):
            return config, model, _restore_variables(directory, max(steps), model, config, name)
    raise UserError(f"{workdir}: no checkpoint yet below {workdir / 'checkpoints'}")


def _restore_variables(
    directory: Path, step: int, model: LPDiff, config: ConfigDict, stage_name: str
) -> Variables:
    abstract = abstract_state(model, config, stage_name)
    placement = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement), abstract
    )
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(directory.absolute() / str(step) / "state", target)
    return inference_variables(state)


def abstract_state(model: LPDiff, config: ConfigDict, stage_name: str) -> TrainState:
    """Shapes and dtypes of a stage's state."""
    stage = make_stage(stage_name, model, config)
    optimizer = make_optimizer(config[stage_name])

    def make(key: jax.Array) -> TrainState:
        variables = model.init(key, with_denoiser=stage_name != "psi")
        return create_state(variables, stage.trained, optimizer)

    return jax.eval_shape(make, jax.random.key(0))
