"""Part (b) of the GPU kit: our programs' speed on this device, as shares of what it can do.

    python -m benchmarks.gpu.speed FOLDER SECONDS [--rehearse]

First the limits: a large matrix product in float32, TF32 and bfloat16, and memory bandwidth. Then
programs, the most telling first, until the time is up: the training step of the paper's size and of
compact, the denoiser's own step (a forward and a backward pass and AdamW, which `torch_speed.py`
does too), one denoiser call, the sampler and psi.
"""

import dataclasses
import importlib
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.gpu.results import Results, arguments
from lpdiff_jax import benchmark
from lpdiff_jax.ahead import programs
from lpdiff_jax.methods import registry
from lpdiff_jax.parallel.devices import Parallel

# What JAX is told for each precision; float32 alone would be TF32 on a GPU.
PRECISIONS = {"float32": "highest", "tf32": "default", "bfloat16": "default"}
# A compilation for a GPU takes up to a minute: none is begun that the time does not allow.
_COMPILES = 40.0


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement: a network's program in a precision, of a batch."""

    network: str
    program: str
    precision: str
    batch: int


def cases(rehearse: bool) -> list[Case]:
    """What is measured, the most telling first."""
    if rehearse:
        names = {"denoiser_step": "bfloat16", "denoiser": "float32", "sampler": "tf32",
                 "diffusion": "bfloat16", "estimate": "float32"}  # fmt: skip
        return [Case("quickstart", name, precision, 2) for name, precision in names.items()]
    first = [Case("lpdiff", "denoiser_step", "bfloat16", batch) for batch in (32, 128, 8)]
    rest = [
        Case(network, program, precision, batch)
        for precision in ("bfloat16", "tf32", "float32")
        for batch in (32, 256, 1)
        for program in ("denoiser_step", "denoiser", "diffusion", "sampler", "estimate", "psi")
        for network in ("lpdiff", "compact")
    ]
    return list(dict.fromkeys(first + rest))


def main() -> None:
    """Measures until the time is up."""
    args = arguments(__doc__)
    results = Results(args.folder, "speed", args.seconds)
    limits, failed = measure_limits(results), False
    for case in cases(args.rehearse):
        if not results.in_time(0 if args.rehearse else _COMPILES):
            break
        try:
            results.add(by="ours", **dataclasses.asdict(case), **measure(case, limits))
        except Exception as error:  # out of memory at a large batch: the others still count
            results.add(failed=dataclasses.asdict(case), error=str(error)[:300])
            failed = True
    sys.exit(args.rehearse and failed)


def measure_limits(results: Results) -> dict[str, float]:
    """TFLOP/s by precision, and GB/s of memory."""
    found = {}
    for precision, told in PRECISIONS.items():
        dtype = "bfloat16" if precision == "bfloat16" else "float32"
        with jax.default_matmul_precision(told):
            machine = benchmark.measure_machine((dtype,))
        found[precision], found["bandwidth"] = machine.matmul[dtype] / 1e3, machine.bandwidth
        results.add(limit=f"product, {precision}", value=found[precision], unit="TFLOP/s")
    results.add(limit=f"memory of {machine.device}", value=found["bandwidth"], unit="GB/s")
    return found


def measure(case: Case, limits: dict[str, float]) -> dict[str, Any]:
    """Milliseconds of a run, and its shares of the limits."""
    config = importlib.import_module(f"configs.{case.network}").get_config()
    config.model.dtype = "bfloat16" if case.precision == "bfloat16" else "float32"
    with jax.default_matmul_precision(PRECISIONS[case.precision]):
        start = time.perf_counter()
        lowered, flops = lower(case, config)
        compiled = lowered.compile()
        compile_seconds = time.perf_counter() - start
        seconds = statistics.median(run_times(compiled, lowered, case))
    moved = float((compiled.cost_analysis() or {}).get("bytes accessed", 0.0))
    rate = flops * case.batch / seconds
    memory = compiled.memory_analysis()
    return {
        "ms": seconds * 1e3,
        "tflops": rate / 1e12,
        "of_peak": rate / 1e12 / limits[case.precision],
        "of_bandwidth": moved / 1e9 / seconds / limits["bandwidth"],
        "compile_seconds": compile_seconds,
        "memory_gb": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e9,
    }


def lower(case: Case, config: Any) -> tuple[Any, float]:
    """The lowered program, and its operations on one example."""
    if case.program == "denoiser_step":
        state, step, inputs = denoiser_step(config)
        alone = jax.jit(step).trace(state, inputs(1)).lower(lowering_platforms=("tpu",))
        flops = float((alone.cost_analysis() or {}).get("flops", 0.0))
        return jax.jit(step, donate_argnums=0).lower(state, inputs(case.batch)), flops
    per_device = max(case.batch // jax.device_count(), 1)
    program = programs.program(case.program, config, Parallel("pmap"), per_device)
    return program.lower(), program.flops()


def denoiser_step(config: Any) -> tuple[Any, Any, Any]:
    """What `torch_speed.py` does too: (state, step(state, inputs), inputs of a batch), abstract."""
    method = registry.build(config)
    unet, side, shape = method.denoiser, (*method.image_size, 3), jax.ShapeDtypeStruct
    optimizer = optax.adamw(1e-4)

    def inputs(batch: int) -> tuple[Any, ...]:
        image = shape((batch, *side), jnp.float32)
        return image, image, image, shape((batch,), jnp.float32)

    def make(key: jax.Array) -> Any:
        psi, x_t, _, level = (jnp.zeros(x.shape, x.dtype) for x in inputs(1))
        params = unet.init(key, psi, x_t, level)
        return params, optimizer.init(params)

    def step(state: Any, inputs: Any) -> Any:
        psi, x_t, noise, level = inputs
        loss = lambda params: jnp.abs(unet.apply(params, psi, x_t, level) - noise).mean()  # noqa: E731
        value, grads = jax.value_and_grad(loss)(state[0])
        updates, opt_state = optimizer.update(grads, state[1], state[0])
        return (optax.apply_updates(state[0], updates), opt_state), value

    return jax.eval_shape(make, jax.random.key(0)), step, inputs


def run_times(compiled: Any, lowered: Any, case: Case, seconds: float = 2.0) -> list[float]:
    """Seconds of single runs on arbitrary numbers, after two that are not counted."""
    first, *others = made_up(lowered)
    trains = case.program in ("denoiser_step", "diffusion", "psi")
    taken: list[float] = []
    while len(taken) < 22 and sum(taken[2:]) < seconds:
        start = time.perf_counter()
        out = jax.block_until_ready(compiled(first, *others))
        taken.append(time.perf_counter() - start)
        first = out[0] if trains else first
    return taken[2:] or taken


def made_up(lowered: Any) -> list[Any]:
    """A program's arguments, of arbitrary numbers: they do not change its speed."""
    random = np.random.default_rng(0)

    def fill(info: Any) -> jax.Array:
        if not jnp.issubdtype(info.dtype, jnp.floating):
            return jnp.asarray(random.integers(0, 2, info.shape), info.dtype)
        small = 0.02 * np.abs(random.standard_normal(info.shape, np.float32))
        return jnp.asarray(small, info.dtype)

    return list(jax.tree.map(fill, lowered.args_info[0]))


if __name__ == "__main__":
    main()
