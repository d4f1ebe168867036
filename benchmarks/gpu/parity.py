"""Part (a) of the GPU kit: the numbers are right on this device, and a resume is exact.

    python -m benchmarks.gpu.parity FOLDER SECONDS [--rehearse]

- The published program's golden numbers, at the published size (with --rehearse the small one), in
  float32 with TF32 off and in bfloat16.
- A training step by pmap and by jit: the same gradients.
- A training that is stopped and goes on: the same parameters as one that is not, to the bit.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.results import Results, arguments
from lpdiff_jax.errors import Preempted
from lpdiff_jax.methods.lpdiff.model import Guide, build_model
from lpdiff_jax.methods.lpdiff.stages import make_stage
from lpdiff_jax.parallel.devices import Parallel, StopRequest
from lpdiff_jax.training import loop
from lpdiff_jax.training.optimizer import make_optimizer
from lpdiff_jax.training.state import create_state, init_variables
from lpdiff_jax.training.step import make_train_step
from tests.parity.seeded import BETAS_1000, draw, golden_numbers, relative, seeded_checkpoint
from tests.training import tiny

# Relative errors: of psi, and of the denoiser's output, whose input psi is.
BOUNDS = {"float32": (1e-4, 1e-3), "bfloat16": (5e-2, 1e-1)}
SHAPE = (1, 3, 112, 224)


def main() -> None:
    """Does all checks; exits 1 if one of them fails."""
    args = arguments(__doc__)
    results, passed = Results(args.folder, "parity", args.seconds), []

    def check(name: str, error: float, bound: float) -> None:
        passed.append(bool(error <= bound))
        results.add(check=name, error=error, bound=bound, passed=passed[-1])

    jax.config.update("jax_default_matmul_precision", "highest")
    for name, error, bound in golden_errors(args.rehearse):
        check(name, error, bound)
    check("step by pmap and by jit", between_modes(), 1e-5)
    check("resumed, to the bit", resumed(args.folder), 0.0)
    sys.exit(not all(passed))


def golden_errors(rehearse: bool) -> Iterator[tuple[str, float, float]]:
    """(name, relative error, bound) of psi and the denoiser against the published numbers."""
    if rehearse:  # the small network has golden numbers of psi alone
        checkpoint = seeded_checkpoint(
            "small_state_dict_shapes.json", norm_groups=16, betas=np.linspace(1e-6, 0.3, 20)
        )
        frames = _frames("in.f", (2, 3, 32, 64))
        psi = golden_numbers("condition")["condition_eval"]
        for dtype, bounds in BOUNDS.items():
            model = build_model(checkpoint.config["model"]).with_dtype(dtype)
            found = jax.jit(model.estimate)(checkpoint.variables, frames).image
            yield f"psi of the small network, {dtype}", relative(found, psi), bounds[0]
        return
    checkpoint = seeded_checkpoint("state_dict_shapes.json", betas=BETAS_1000)
    numbers, x = golden_numbers("full"), jnp.asarray(_image("full.x", SHAPE))
    frames = _frames("full.f", SHAPE)
    for dtype, bounds in BOUNDS.items():
        model = build_model(checkpoint.config["model"]).with_dtype(dtype)
        psi = jax.jit(model.estimate)(checkpoint.variables, frames).image
        yield f"psi, {dtype}", relative(psi, numbers["condition"]), bounds[0]
        denoise = jax.jit(model.predict_noise)
        noise = denoise(checkpoint.variables, Guide(psi), x, jnp.array([0.7]))
        yield f"denoiser, {dtype}", relative(noise, numbers["eps"]), bounds[1]


def _image(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return draw(name, shape).transpose(0, 2, 3, 1)


def _frames(prefix: str, shape: tuple[int, ...]) -> jax.Array:
    return jnp.stack([_image(f"{prefix}{i}", shape) for i in (1, 2, 3)], axis=1)


def between_modes() -> float:
    """Relative difference of the parameters after a step by pmap and by jit."""
    config = tiny.tiny_config()
    size = 8 * jax.device_count()
    config.diffusion.batch_size = size
    model = build_model(config.model)
    stage = make_stage("diffusion", model, config)
    optimizer = make_optimizer(config.diffusion, stage.trained)
    step = make_train_step(stage, optimizer, seed=0, ema_decay=0.9)
    random = np.random.default_rng(0)
    image = (*config.model.image_size, 3)
    batch = {
        "frames": random.integers(0, 256, (size, 2, *image), np.uint8),
        "frame_mask": np.ones((size, 2), bool),
        "target": random.integers(0, 256, (size, *image), np.uint8),
        "text": np.zeros((size, 32), np.uint8),
        "corners": np.full((size, 3, 4, 2), np.nan, np.float32),
        "index": np.arange(size),
    }
    after = []
    for mode in ("pmap", "jit"):
        parallel = Parallel(mode)
        state = parallel.put_state(create_state(init_variables(model, 0), stage.trained, optimizer))
        state, _ = parallel.compile_train_step(step)(state, parallel.put_batch(batch))
        leaves = jax.tree.leaves(state.opt_state)
        after.append(np.concatenate([np.ravel(x).astype(np.float64) for x in leaves]))
    return float(np.linalg.norm(after[0] - after[1]) / np.linalg.norm(after[1]))


def resumed(folder: Path) -> float:
    """The largest difference between parameters of a whole training and of one in two halves.

    A GPU sums some gradients in any order unless `--xla_gpu_deterministic_ops=true` is in
    `XLA_FLAGS`.
    """
    config = tiny.tiny_config(**{"data.synthetic.groups": 16, "data.synthetic.val_groups": 4})
    whole = loop.train(config, folder / "whole")
    answers = iter([False] * 10 + [True])  # in the middle of the second stage
    with mock.patch.object(StopRequest, "received", lambda self: next(answers, False)):
        try:
            loop.train(config, folder / "halves")
            raise AssertionError("the training was not stopped")
        except Preempted:
            halves = loop.train(config, folder / "halves")
    pairs = zip(jax.tree.leaves(whole), jax.tree.leaves(halves), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in pairs)


if __name__ == "__main__":
    main()
