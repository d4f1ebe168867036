"""Trains a few steps in some layout of devices and writes what came out; run by test_layouts."""

import sys

import jax
import numpy as np
import optax

from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.methods.lpdiff.stages import make_stage
from lpdiff_jax.parallel import devices, processes
from lpdiff_jax.training.optimizer import make_optimizer
from lpdiff_jax.training.state import create_state, init_variables
from lpdiff_jax.training.step import gradients, make_train_step
from tests.training.small_model import small_model
from tests.training.tiny import tiny_config

GLOBAL_BATCH, STEPS = 16, 3


def make_batch(step: int) -> dict[str, np.ndarray]:
    """This process's part of a global batch."""
    rng = np.random.default_rng(step)
    batch = {
        "frames": rng.integers(0, 256, (GLOBAL_BATCH, 2, 8, 16, 3), np.uint8),
        "frame_mask": np.ones((GLOBAL_BATCH, 2), bool),
        "target": rng.integers(0, 256, (GLOBAL_BATCH, 8, 16, 3), np.uint8),
        "text": np.where(rng.random((GLOBAL_BATCH, 1)) < 0.5, ord("7"), 0).astype(np.uint8)
        * (np.arange(32) < 5),  # some are labelled
        "index": np.arange(GLOBAL_BATCH),
    }
    local = GLOBAL_BATCH // processes.process_count()
    first = local * processes.process_index()
    return {name: value[first : first + local] for name, value in batch.items()}


def main(networks: str, mode: str, parts: int, output: str) -> None:
    config = tiny_config()
    config.diffusion.condition = "detached"
    config.diffusion.batch_size = GLOBAL_BATCH
    config.diffusion.warmup_steps = 0
    model = small_model() if networks == "small" else build_model(config.model)
    stage = make_stage("diffusion", model, config)
    # Adam divides every element by its own size: where a gradient is zero but for rounding (of the
    # bias of an attention's keys, say), it steps by rounding. The small networks have no such one.
    optimizer = (
        make_optimizer(config.diffusion, stage.trained) if networks == "small" else optax.sgd(0.01)
    )
    parallel = devices.Parallel(mode)
    variables = init_variables(model, 0)
    state = create_state(variables, stage.trained, optimizer)
    before = jax.tree.map(np.array, state.params)

    def gradient(state, batch, reduce):
        return reduce(gradients(stage, state, batch, jax.random.key(1), parts)[0])

    step = make_train_step(stage, optimizer, seed=0, ema_decay=0.9, accumulate=parts)
    step_fn = parallel.compile_train_step(step)
    processes.wait_for_all("start")  # as those of a run do, before they compile
    state = parallel.put_state(state)
    found = {
        "gradient": parallel.compile_eval_step(gradient)(state, parallel.put_batch(make_batch(0)))
    }
    losses = []
    for i in range(STEPS):
        state, report = step_fn(state, parallel.put_batch(make_batch(i)))
        losses.append(np.asarray(devices.to_local(report.metrics["loss"].total)))
    state = devices.to_local(state)
    found["gradient"] = devices.to_local(found["gradient"])
    found |= {"params": state.params, "ema": state.ema, "loss": np.array(losses)}
    found["change"] = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, before)
    if processes.is_main():
        flat = {
            jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x)
            for p, x in jax.tree_util.tree_leaves_with_path(found)
        }
        np.savez(output, **flat)


if __name__ == "__main__":
    networks, mode, parts, output, port, index, count = sys.argv[1:]
    if int(count) > 1:
        processes.initialize(f"127.0.0.1:{port}", int(index), int(count))
    main(networks, mode, int(parts), output)
