"""Our training step, one for every line on standard input.

Started by benchmarks/speed/train_step.py.
"""

import json
import resource
import sys
import time

import jax
import jax.numpy as jnp
import optax

from lpdiff_jax.models.unet import UNet
from lpdiff_jax.parallel.devices import use_cores


def main() -> None:
    """Reads the settings, compiles, then steps until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    use_cores([settings["batch"]])
    devices = jax.local_device_count()
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["denoiser"].items()}
    unet = UNet(**fields, dtype=jnp.dtype(settings["dtype"]))
    optimizer = optax.adamw(1e-4)
    shape = (devices, settings["batch"] // devices, *settings["image_size"], 3)
    images = jax.random.normal(jax.random.key(0), (3, *shape))
    inputs = *images, jnp.full(shape[:2], 0.7)
    psi, x_t, _, level = (x[0, :1] for x in inputs)
    params = jax.jit(unet.init)(jax.random.key(0), psi, x_t, level)
    state = (params, optimizer.init(params))

    def step(state: tuple, inputs: tuple) -> tuple[tuple, jax.Array]:
        psi, x_t, noise, level = inputs

        def loss(params: dict) -> jax.Array:
            return jnp.abs(unet.apply(params, psi, x_t, level) - noise).mean()

        value, grads = jax.lax.pmean(jax.value_and_grad(loss)(state[0]), "batch")
        updates, opt_state = optimizer.update(grads, state[1], state[0])
        return (optax.apply_updates(state[0], updates), opt_state), value

    start = time.perf_counter()
    spread = jax.pmap(step, "batch", in_axes=(None, 0), out_axes=(None, None), donate_argnums=0)
    compiled = spread.lower(state, inputs).compile()
    answer = {
        "compile_seconds": time.perf_counter() - start,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }
    print(json.dumps(answer), flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        state, value = compiled(state, inputs)
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
