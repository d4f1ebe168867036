"""The programs of a configuration, lowered for devices that need not be here."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lpdiff_jax.errors import UserError
from lpdiff_jax.methods import registry
from lpdiff_jax.methods.base import Denoises, Method, Stage
from lpdiff_jax.parallel.devices import Parallel
from lpdiff_jax.training.flops import abstract_batch, flops_per_example
from lpdiff_jax.training.optimizer import make_optimizer
from lpdiff_jax.training.state import abstract_state
from lpdiff_jax.training.step import make_train_step

# Programs besides the training steps, which have the names of their stages.
INFERENCE = ("estimate", "denoiser", "sampler")
_Shape = jax.ShapeDtypeStruct


@dataclasses.dataclass(frozen=True)
class Program:
    """One program of a method.

    Attributes:
      name: a stage, whose training step it is, or one of `INFERENCE`.
      lower: () -> JAX's lowered program for all devices; or (platforms) -> for other platforms
        than that of the devices, such as ('cuda',), to be read.
      flops: () -> floating-point operations on one example, of the program before it is optimised.
    """

    name: str
    lower: Callable[..., Any]
    flops: Callable[[], float]


def names_of(config: Any, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The programs that a configuration has, or those of them that are wanted.

    Raises:
      UserError: a name that it has no program for.
    """
    inference = (
        INFERENCE if isinstance(registry.build(config), Denoises) else ("estimate", "sampler")
    )
    every = (*config.stages, *inference)
    for name in wanted:
        if name not in every:
            raise UserError(f"--programs: there is no {name!r} here; there are {', '.join(every)}")
    return tuple(wanted) or every


def program(name: str, config: Any, parallel: Parallel, per_device: int) -> Program:
    """A program of a configuration, of `per_device` examples on each device of `parallel`.

    Raises:
      UserError: a configuration that describes none.
    """
    method = registry.build(config)
    if name not in config.stages:
        return _inference(method, name, config, parallel, per_device)
    stages = {stage.name: stage for stage in method.stages(config, method.networks)}
    return _training(method, stages[name], config, parallel, per_device)


def _training(
    method: Method, stage: Stage, config: Any, parallel: Parallel, per_device: int
) -> Program:
    section, frames = config[stage.name], config.data.num_frames
    step = make_train_step(
        stage,
        make_optimizer(section, stage.trained),
        seed=config.seed,
        ema_decay=section.ema_decay,
        accumulate=section.accumulate,
    )
    state = abstract_state(method, stage, section)

    def lower(platforms: Sequence[str] | None = None) -> Any:
        batch = parallel.abstract_batch(abstract_batch(method, frames, per_device))
        return _lower(parallel.compile_train_step(step), platforms, state, batch)

    count = functools.partial(flops_per_example, method, stage, section, frames)
    return Program(stage.name, lower, count)


def _inference(
    method: Method, name: str, config: Any, parallel: Parallel, per_device: int
) -> Program:
    variables = jax.eval_shape(lambda key: method.init(key, method.networks), jax.random.key(0))
    function, arguments = _function(method, name, config, variables)

    def lower(platforms: Sequence[str] | None = None) -> Any:
        parts = arguments(parallel.count * per_device)
        return _lower(parallel.compile_split(function), platforms, variables, parts)

    return Program(name, lower, lambda: _flops(function, variables, *arguments(1)))


def _function(
    method: Method, name: str, config: Any, variables: Any
) -> tuple[Callable[..., Any], Callable[[int], tuple[Any, ...]]]:
    """A function of (variables, *trees [B, ...]), and the trees' shapes for a batch of B."""
    side, float32 = (*method.image_size, 3), jnp.float32

    def frames(size: int) -> jax.ShapeDtypeStruct:
        return _Shape((size, config.data.num_frames, *side), float32)

    def known(size: int) -> Any:
        return jax.eval_shape(method.estimate, variables, frames(size))._replace(slots=None)

    if name == "estimate":
        return method.estimate, lambda size: (frames(size),)
    if name == "denoiser" and isinstance(method, Denoises):

        def inputs(size: int) -> tuple[Any, ...]:
            return known(size).guide, _Shape((size, *side), float32), _Shape((size,), float32)

        return method.predict_noise, inputs
    how = method.choose(config.get("sampler", {}))

    def draw(variables: Any, estimate: Any, seeds: jax.Array) -> jax.Array:
        return method.draw(variables, estimate, jax.vmap(jax.random.key)(seeds), how)

    return draw, lambda size: (known(size), _Shape((size,), jnp.uint32))


def _lower(compiled: Any, platforms: Sequence[str] | None, *arguments: Any) -> Any:
    if platforms is None:
        return compiled.lower(*arguments)  # all that a function by pmap has
    return compiled.trace(*arguments).lower(lowering_platforms=tuple(platforms))


def _flops(function: Callable[..., Any], *arguments: Any) -> float:
    """As a TPU gets it: a CPU's gradients of convolutions are loops, whose turns do not count."""
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",))
    return float((lowered.cost_analysis() or {}).get("flops", 0.0))
