"""Our training step, one for every line on standard input. Started by benchmarks/train_step.py."""

import json
import resource
import sys
import time

import jax
import jax.numpy as jnp
import optax

from lpdiff_jax.models.unet import UNet


def main() -> None:
    """Reads the settings, compiles, then steps until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["denoiser"].items()}
    unet = UNet(**fields, dtype=jnp.dtype(settings["dtype"]))
    optimizer = optax.adamw(1e-4)
    shape = (settings["batch"], *settings["image_size"], 3)
    psi, x_t, noise = jax.random.normal(jax.random.key(0), (3, *shape))
    level = jnp.full(shape[:1], 0.7)
    params = jax.jit(unet.init)(jax.random.key(0), psi[:1], x_t[:1], level[:1])
    state = (params, optimizer.init(params))

    def step(state: tuple) -> tuple[tuple, jax.Array]:
        def loss(params: dict) -> jax.Array:
            return jnp.abs(unet.apply(params, psi, x_t, level) - noise).mean()

        value, grads = jax.value_and_grad(loss)(state[0])
        updates, opt_state = optimizer.update(grads, state[1], state[0])
        return (optax.apply_updates(state[0], updates), opt_state), value

    start = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=0).lower(state).compile()
    answer = {
        "compile_seconds": time.perf_counter() - start,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }
    print(json.dumps(answer), flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        state, value = compiled(state)
        value.block_until_ready()
        jax.block_until_ready(state)
        answer = {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
