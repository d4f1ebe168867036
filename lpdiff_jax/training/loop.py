"""The training loop: stage after stage, resumable, then the evaluation."""

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipeline.pipeline import eval_batches, train_dataset
from data_pipeline.sources import Source
from lpdiff_jax.config import FILE_NAME, differences, load_config, save_config
from lpdiff_jax.errors import UserError
from lpdiff_jax.model import LPDiff, Variables, build_model
from lpdiff_jax.training import parallel as par
from lpdiff_jax.training.checkpoint import Checkpointer, stage_directory
from lpdiff_jax.training.data import open_sources
from lpdiff_jax.training.optimizer import learning_rate, make_optimizer
from lpdiff_jax.training.progress import Progress
from lpdiff_jax.training.stages import Stage, make_stage
from lpdiff_jax.training.state import TrainState, create_state, inference_variables
from lpdiff_jax.training.step import make_eval_step, make_train_step
from lpdiff_jax.training.writer import Writer


@dataclasses.dataclass(frozen=True)
class Run:
    """What all stages of one run share."""

    config: ConfigDict
    workdir: Path
    model: LPDiff
    parallel: par.Parallel
    train_source: Source
    val_source: Source
    writer: Writer


def train(config: ConfigDict, workdir: Path) -> Variables:
    """Trains every stage of a configuration, resuming where the work directory stands.

    Args:
      config: see configs/lpdiff.py for every field.
      workdir: gets `config.json`, `checkpoints/<stage>/<step>/`, `logs/`.

    Returns:
      The variables that inference uses.

    Raises:
      UserError: a mistake in the configuration or the work directory.
      DataError: a mistake in the data.
    """
    model = build_model(config.model)
    for name in config.stages:
        make_stage(name, model, config)
        par.check_batch_size(
            f"config.{name}.batch_size", config[name].batch_size, config[name].accumulate
        )
    _adopt_workdir(config, workdir)
    train_source, val_source = open_sources(config.data, workdir)
    writer = Writer(workdir / "logs" if par.is_main() else None)
    run = Run(
        config, workdir, model, par.Parallel(config.parallel), train_source, val_source, writer
    )
    variables = jax.jit(model.init)(jax.random.key(config.seed))
    for name in config.stages:
        variables |= train_stage(run, make_stage(name, model, config), variables)
    writer.close()
    return variables


def train_stage(run: Run, stage: Stage, variables: Variables) -> Variables:
    """Trains one stage from `variables`, or from its newest checkpoint, to its last step."""
    config = run.config[stage.name]
    optimizer = make_optimizer(config)
    needed = {n: v for n, v in variables.items() if stage.name != "psi" or n in stage.trained}
    state = create_state(needed, stage.trained, optimizer)
    iterator = iter(_train_data(run, config.batch_size))
    checkpointer = Checkpointer(
        stage_directory(run.workdir, stage.name), run.parallel, run.config.keep
    )
    if checkpointer.latest_step() is None:
        state = run.parallel.put_state(state)
    else:
        state = checkpointer.restore(jax.eval_shape(lambda: state), iterator)
        print(f"{stage.name}: resumed at step {int(state.step)} of {config.steps}", flush=True)
    state = _run_steps(run, stage, config, optimizer, state, iterator, checkpointer)
    checkpointer.close()
    return inference_variables(state)


def _run_steps(
    run: Run,
    stage: Stage,
    config: ConfigDict,
    optimizer: Any,
    state: TrainState,
    iterator: Any,
    checkpointer: Checkpointer,
) -> TrainState:
    step_fn = run.parallel.compile_train_step(
        make_train_step(
            stage,
            optimizer,
            seed=run.config.seed,
            ema_decay=config.ema_decay,
            accumulate=config.accumulate,
        )
    )
    eval_fn = run.parallel.compile_eval_step(make_eval_step(stage, seed=run.config.seed))
    rate = learning_rate(config)
    first = int(state.step)
    progress = Progress(stage.name, config.steps, config.batch_size, run.writer, first)
    for step in range(first, config.steps + 1):
        # On the state before this step, and before the data moves on: state, step and position in
        # the data agree in every checkpoint by construction.
        last = step == config.steps
        if step > first and (last or step % run.config.checkpoint_every == 0):
            checkpointer.save(state, iterator)
        if step > first and (last or step % run.config.validate_every == 0):
            _validate(run, stage, eval_fn, state, step)
            progress.restart_clock()
        if last:
            break
        started = time.perf_counter()
        batch = run.parallel.put_batch(next(iterator))
        waited = time.perf_counter() - started
        state, metrics = step_fn(state, batch)
        progress.add(metrics, waited)
        if (step + 1) % run.config.log_every == 0:
            means = progress.report({"learning_rate": float(rate(step))})
            if not np.isfinite(means["loss"]):
                raise UserError(
                    f"{stage.name}: the loss is not finite at step {step + 1}; the newest "
                    f"checkpoint is {checkpointer.latest_step()}. Lower the learning rate."
                )
    return state


def _validate(run: Run, stage: Stage, eval_fn: Any, state: TrainState, step: int) -> None:
    """Means of the stage's metrics over up to eight validation batches."""
    config = run.config[stage.name]
    batches = eval_batches(
        run.val_source,
        image_size=run.model.image_size,
        max_frames=run.config.data.num_frames,
        batch_size=config.batch_size,
        process_index=par.process_index(),
        process_count=par.process_count(),
    )
    rows = []
    for batch in itertools.islice(batches, 8):
        batch = {name: value for name, value in batch.items() if name != "valid"}
        rows.append(jax.device_get(eval_fn(state, run.parallel.put_batch(batch))))
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("loss", "psnr")}
    run.writer.write_scalars(step, {f"{stage.name}/val_{n}": v for n, v in means.items()})
    print(
        f"{stage.name} {step}: validation loss {means['loss']:.4f}  "
        f"psnr of psi {means['psnr']:.2f} dB",
        flush=True,
    )


def _train_data(run: Run, batch_size: int) -> Any:
    return train_dataset(
        run.train_source,
        image_size=run.model.image_size,
        num_frames=run.config.data.num_frames,
        global_batch_size=batch_size,
        seed=run.config.seed,
        process_index=par.process_index(),
        process_count=par.process_count(),
        workers=run.config.data.workers,
    )


def _adopt_workdir(config: ConfigDict, workdir: Path) -> None:
    """Claims the directory for this configuration, or resumes the same one."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{workdir}: cannot be the work directory ({error})") from error
    path = workdir / FILE_NAME
    if path.exists():
        changed = differences(load_config(path), config)
        if any(line.startswith(("model.", "stages")) for line in changed):
            raise UserError(
                f"{workdir} belongs to another model; choose another --workdir, or undo:\n  "
                + "\n  ".join(changed)
            )
        for line in changed:
            print(f"changed since this directory's last run: {line}", flush=True)
    if par.is_main():
        save_config(config, path)
