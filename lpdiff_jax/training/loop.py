"""The training loop: stage after stage, resumable at any step."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from clu import parameter_overview
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from data_pipeline.augment import AugmentConfig
from data_pipeline.pipeline import train_dataset
from data_pipeline.sources import Source
from lpdiff_jax.errors import Preempted, UserError, explained_section
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.base import Method, Stage, Variables
from lpdiff_jax.parallel import devices, processes
from lpdiff_jax.restoring.loading import load
from lpdiff_jax.storage import workdir as wd
from lpdiff_jax.storage.checkpoint import (
    Checkpointer,
    Record,
    newest,
    read_saved,
    saved_steps,
    set_aside,
    stage_directory,
)
from lpdiff_jax.storage.config import differences
from lpdiff_jax.training.data import open_sources
from lpdiff_jax.training.flops import flops_per_example
from lpdiff_jax.training.optimizer import learning_rate, make_optimizer
from lpdiff_jax.training.profiling import Profiler
from lpdiff_jax.training.progress import NotFinite, Progress
from lpdiff_jax.training.state import (
    TrainState,
    abstract_state,
    create_state,
    from_items,
    inference_variables,
    init_variables,
    to_items,
    with_helpers,
)
from lpdiff_jax.training.step import make_eval_step, make_train_step
from lpdiff_jax.training.trackers import make_writer
from lpdiff_jax.training.validation import Validator
from lpdiff_jax.training.writer import Writer, closing


@dataclasses.dataclass(frozen=True)
class Run:
    """What all stages of one run share."""

    config: ConfigDict
    workdir: Path
    method: Method
    parallel: devices.Parallel
    train_source: Source
    val_source: Source
    writer: Writer
    stop: devices.StopRequest


def train(config: ConfigDict, workdir: Path) -> Variables:
    """Trains every stage of a configuration, resuming where the work directory stands.

    Args:
      config: see configs/lpdiff.py for every field.
      workdir: gets `config.json`, `checkpoints/<stage>/<step>/`, `logs/`.

    Returns:
      The variables that inference uses.

    Raises:
      UserError: a mistake in the configuration or the work directory, or a loss that diverged.
      DataError: a mistake in the data.
      Preempted: SIGTERM stopped it, after it had saved.
    """
    method = registry.build(config)
    # Mistakes are told before anything is written.
    _check_optimizers(config, method.stages(config, method.networks))
    _check(config)
    _check_networks(method)
    with contextlib.ExitStack() as stack:
        with processes.together():
            if processes.is_main():
                stack.enter_context(wd.claim(workdir))
            wd.check_same_run(config, workdir)
        parallel = devices.Parallel(config.parallel)
        with processes.together():
            if processes.is_main():
                open_sources(config.data, workdir)  # draws a synthetic set that is not there yet
                wd.write_config(config, workdir)
        with processes.together():
            sources = open_sources(config.data, workdir)
            variables = initial_networks(config.init, method, config.seed) if config.init else {}
            stages = method.stages(config, tuple(variables))
        logs = workdir / "logs" if processes.is_main() else None
        writer = make_writer(logs, config.get("tracker", ""), config.to_dict())
        stack.enter_context(closing(writer))
        stop = stack.enter_context(devices.StopRequest())
        run = Run(config, workdir, method, parallel, *sources, writer, stop)
        processes.tell(f"training on {devices.describe()}")
        for stage in _unfinished(stages, workdir):
            variables = variables | train_stage(run, stage, variables)
        return variables


def _check_optimizers(config: ConfigDict, stages: Sequence[Stage]) -> None:
    """Raises UserError when a stage's section describes no optimiser."""
    for stage in stages:
        with explained_section(stage.name):
            make_optimizer(config[stage.name], stage.trained)


def _check_networks(method: Method) -> None:
    """Raises UserError when the networks cannot be built: an image size may not divide."""
    init = functools.partial(method.init, networks=method.networks)
    try:
        jax.eval_shape(init, jax.random.key(0))
    except UserError:
        raise
    except Exception as error:  # whatever a layer says of a shape
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise UserError(f"config.model describes no network: {why}") from error


def initial_networks(source: str, method: Method, seed: int = 0) -> Variables:
    """The networks of a trained model that this one begins with.

    A network may have grown: layers that the trained one has not begin with fresh values.

    Raises:
      UserError: there is no such model, or a network of it is not part of this one's.
    """
    variables = load(source).variables
    init = functools.partial(method.init, networks=method.networks)
    expected = jax.eval_shape(init, jax.random.key(0))
    fresh: Variables = {}
    for name, network in variables.items():
        if name not in expected:
            processes.tell(f"config.init = {source}: its network {name!r} is not used")
            continue
        wanted, have = flatten_dict(expected[name]), flatten_dict(network)
        if any(key not in wanted or wanted[key].shape != have[key].shape for key in have):
            raise UserError(
                f"config.init = {source}: its network {name!r} is not, and is no part of, the one "
                "that config.model describes; start from that model's own configuration"
            )
        if len(have) < len(wanted):
            fresh = fresh or init_variables(method, seed, method.networks)
            new = sum(wanted[key].size for key in wanted.keys() - have.keys())
            processes.tell(f"config.init = {source}: {name!r} has {new:,} parameters more here")
            variables[name] = unflatten_dict(flatten_dict(fresh[name]) | have)
    return {name: network for name, network in variables.items() if name in expected}


def _check(config: ConfigDict) -> None:
    """Raises UserError for what a configuration cannot mean."""
    if not config.stages:
        raise UserError("config.stages is empty; name at least one stage")
    for name in config.stages:
        section = config[name]
        devices.check_batch_size(
            f"config.{name}.batch_size", section.batch_size, section.accumulate
        )
        if section.steps < 1:
            raise UserError(f"config.{name}.steps is {section.steps}; it must be at least 1")
    for name in ("log_every", "checkpoint_every", "validate_every", "validation_batches"):
        if config[name] < 1:
            raise UserError(f"config.{name} is {config[name]}; it must be at least 1")
    if config.keep < 2:
        raise UserError(
            f"config.keep is {config.keep}; it must be at least 2, so that there is a spare one"
        )


def _unfinished(stages: Sequence[Stage], workdir: Path) -> Sequence[Stage]:
    """From the last stage that has a checkpoint on: it holds what the stages before it made."""
    begun = [i for i, s in enumerate(stages) if saved_steps(stage_directory(workdir, s.name))]
    return stages[begun[-1] if begun else 0 :]


def train_stage(run: Run, stage: Stage, variables: Variables) -> Variables:
    """Trains one stage from its newest checkpoint, or from `variables` and fresh ones."""
    config = run.config[stage.name]
    directory = stage_directory(run.workdir, stage.name)
    abstract = abstract_state(run.method, stage, config)
    iterator = iter(_train_data(run, config.batch_size))
    resumed = _resume(run, stage, directory, run.parallel.restore_target(abstract))
    if resumed is None:
        state = _fresh_state(run, stage, variables)
    else:
        state, record = resumed
        iterator.set_state(record.position)
    if processes.is_main():
        wd.check_space(run.workdir, abstract)
        _describe_parameters(run, stage, state)
    checkpointer = Checkpointer(directory, run.config.keep)
    try:
        state = _run_steps(run, stage, run.parallel.put_state(state), iterator, checkpointer)
    except NotFinite as error:
        checkpointer.close()
        raise _diverged(run, stage, error) from error
    checkpointer.close()
    if checkpointer.best:
        processes.tell(
            f"{stage.name}: lowest validation loss {checkpointer.best[1]:.4f} in "
            f"{directory / str(checkpointer.best[0])}"
        )
    return devices.to_local(inference_variables(state, run.method.networks))


def _fresh_state(run: Run, stage: Stage, variables: Variables) -> TrainState:
    """A stage's first state; networks that are not known yet are drawn."""
    fresh = init_variables(run.method, run.config.seed, stage.networks)
    # Networks that this stage does not have wait for one that does.
    known = {name: network for name, network in variables.items() if name in fresh}
    start = with_helpers(stage, fresh | known, jax.random.key(run.config.seed))
    return create_state(start, stage.trained, make_optimizer(run.config[stage.name], stage.trained))


def _run_steps(
    run: Run, stage: Stage, state: TrainState, iterator: Any, checkpointer: Checkpointer
) -> TrainState:
    config, every = run.config[stage.name], run.config
    step_fn, eval_fn = _compile(run, stage)
    validator = Validator(
        stage, every, run.method, run.val_source, run.writer, run.workdir / "logs" / "sheets"
    )
    profiler = Profiler(run.workdir / "logs" / f"profile-{stage.name}", every.profile)
    rate, first = learning_rate(config), int(state.step)
    progress = _progress(run, stage, first)
    for step in range(first, config.steps + 1):
        # On the state before this step, and before the data moves on: state, step and position in
        # the data agree in every checkpoint by construction.
        last, stop = step == config.steps, run.stop.received()
        profiler.at(step, state)
        due, loss = last or stop or step % every.checkpoint_every == 0, None
        if step > first and (last or step % every.validate_every == 0):
            progress.stop_clock()
            loss = validator.loss(step, eval_fn, state, run.parallel)
            validator.sheet(step, state)
            due = checkpointer.improves(loss) or due
            progress.start_clock()
        if due and step > 0 and not checkpointer.has(step):
            progress.settle()  # A state that is not finite is not saved.
            _save(run, checkpointer, step, state, iterator.get_state(), loss)
        if stop:
            checkpointer.close()
            saved = ", which is saved" if step else ""
            raise Preempted(f"{stage.name}: stopped at step {step}{saved}")
        if last:
            break
        batch = progress.next_batch(iterator)
        state, report = step_fn(state, run.parallel.put_batch(batch))
        progress.add(report, batch["index"])
        if step == first:
            progress.forget_time()
        if (step + 1) % every.log_every == 0:
            progress.report({"learning_rate": float(rate(step))})
            checkpointer.check()
    return state


def _save(
    run: Run, checkpointer: Checkpointer, step: int, state: TrainState, position: Any, loss: Any
) -> None:
    """Starts to save a state as the items of a checkpoint."""
    items = to_items(run.parallel.to_checkpoint(state), run.method.networks)
    config, count = run.config.to_dict(), processes.process_count()
    record = Record(config, tuple(items["networks"]), position, count, loss)
    checkpointer.save(step, items["networks"], items["training"], record)


def _compile(run: Run, stage: Stage) -> tuple[Any, Any]:
    """The training step and the validation step, which compile when first called."""
    config = run.config[stage.name]
    train_step = make_train_step(
        stage,
        make_optimizer(config, stage.trained),
        seed=run.config.seed,
        ema_decay=config.ema_decay,
        accumulate=config.accumulate,
    )
    eval_step = make_eval_step(stage, seed=run.config.seed)
    return run.parallel.compile_train_step(train_step), run.parallel.compile_eval_step(eval_step)


def _progress(run: Run, stage: Stage, first: int) -> Progress:
    config, peak = run.config[stage.name], run.config.peak_tflops * 1e12 * devices.device_count()
    flops = 0.0
    if peak:
        flops = flops_per_example(run.method, stage, config, run.config.data.num_frames)
    return Progress(stage, config.steps, config.batch_size, run.writer, first, flops, peak)


def _resume(
    run: Run, stage: Stage, directory: Path, target: TrainState
) -> tuple[TrainState, Record] | None:
    """The newest intact checkpoint of a stage, if it has any; damaged ones are named and moved.

    Raises:
      UserError: none of its checkpoints is intact.
    """
    items = to_items(target, run.method.networks)
    saved, damaged = newest(directory, functools.partial(read_saved, **items))
    processes.wait_for_all("all processes have read their checkpoint")
    for step, fault in damaged.items():
        processes.tell(f"{directory / str(step)}: damaged ({fault})")
    if saved is None and damaged:
        raise UserError(
            f"{directory}: none of its checkpoints can be read; restore one from a copy, or move "
            f"the directory away to begin stage {stage.name} anew"
        )
    for step in damaged if processes.is_main() else ():
        processes.tell(f"  moved to {set_aside(directory, step)}; an older one is used")
    processes.wait_for_all("damaged checkpoints are out of the way")
    if saved is None:
        return None
    state = from_items(saved.networks, saved.training)
    _tell_resumed(run, stage, int(state.step), saved.record)
    return state, saved.record


def _tell_resumed(run: Run, stage: Stage, step: int, record: Record) -> None:
    steps = run.config[stage.name].steps
    processes.tell(f"{stage.name}: resumed at step {step} of {steps}")
    for line in differences(ConfigDict(record.config), run.config):
        processes.tell(f"  changed since this checkpoint: {line}")
    if record.process_count != processes.process_count():
        processes.tell(
            f"  {record.process_count} processes saved it, {processes.process_count()} go on: the "
            "order of the examples stays the same, and each process reads another share of it"
        )


def _describe_parameters(run: Run, stage: Stage, state: TrainState) -> None:
    """Writes the table of parameters, and prints how many there are."""
    count = sum(x.size for x in jax.tree.leaves(state.params))
    processes.tell(f"{stage.name}: trains {count:,} parameters")
    table = parameter_overview.get_parameter_overview(state.params)
    run.writer.write_texts(0, {f"{stage.name}/parameters": f"```\n{table}\n```"})


def _diverged(run: Run, stage: Stage, error: NotFinite) -> UserError:
    """Writes which examples the offending batch had, and says what is left."""
    steps = saved_steps(stage_directory(run.workdir, stage.name))
    name = f"not-finite-{stage.name}-{error.step}-process-{processes.process_index()}.json"
    names = [run.train_source[i].name for i in error.index]
    report = {
        "stage": stage.name, "step": error.step, "index": error.index, "names": names,
        "metrics": {k: repr(v) for k, v in error.metrics.items()},
    }  # fmt: skip
    (run.workdir / name).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return UserError(
        f"{stage.name}: {error}; its examples are listed in {run.workdir / name}. "
        f"The newest checkpoint, which is good: {steps[0] if steps else 'none'}. Look at the "
        f"examples, or lower config.{stage.name}.learning_rate, and run the same command again"
    )


def _train_data(run: Run, batch_size: int) -> Any:
    data = run.config.data
    return train_dataset(
        run.train_source,
        image_size=run.method.image_size,
        num_frames=data.num_frames,
        global_batch_size=batch_size,
        seed=run.config.seed,
        process_index=processes.process_index(),
        process_count=processes.process_count(),
        augment=AugmentConfig(**data.augment) if data.augmented else None,
        workers=data.workers,
    )
