"""The arithmetic of a training step, counted on the program before it is optimised."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from data_pipeline.example import TEXT_BYTES
from lpdiff_jax.methods.base import Method, Stage
from lpdiff_jax.training.optimizer import make_optimizer
from lpdiff_jax.training.state import abstract_state
from lpdiff_jax.training.step import make_train_step


def abstract_batch(method: Method, num_frames: int, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of what a training step reads of a batch of `size` examples."""
    image = (*method.image_size, 3)
    shape = jax.ShapeDtypeStruct
    return {
        "frames": shape((size, num_frames, *image), jnp.uint8),
        "frame_mask": shape((size, num_frames), jnp.bool_),
        "target": shape((size, *image), jnp.uint8),
        "text": shape((size, TEXT_BYTES), jnp.uint8),
        "corners": shape((size, num_frames + 1, 4, 2), jnp.float32),
        "position": shape((size,), jnp.int32),
    }


def flops_per_example(method: Method, stage: Stage, config: Any, num_frames: int) -> float:
    """Floating-point operations of a step: forward, backward and the example's share of the update.

    `config` is the section of the stage.
    """
    step = make_train_step(
        stage, make_optimizer(config, stage.trained), seed=0, ema_decay=config.ema_decay
    )
    alone = functools.partial(step, reduce=lambda tree: tree)  # type: ignore[call-arg]
    state = abstract_state(method, stage, config)
    # As for a TPU: a CPU's gradients of convolutions are loops, whose turns are not counted.
    traced = jax.jit(alone).trace(state, abstract_batch(method, num_frames, config.batch_size))
    lowered = traced.lower(lowering_platforms=("tpu",))
    return float((lowered.cost_analysis() or {}).get("flops", 0.0)) / config.batch_size
