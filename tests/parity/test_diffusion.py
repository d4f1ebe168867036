"""The released denoiser, schedules, sampling and training against the published program's."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lpdiff_jax.diffusion.objective import Objective, diffuse
from lpdiff_jax.diffusion.samplers import sample, steps_on
from lpdiff_jax.diffusion.schedule import NAMES, make_schedule
from lpdiff_jax.methods.lpdiff.model import Guide, build_model

SHAPE = (2, 3, 32, 64)


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("diffusion")


@pytest.fixture(scope="module")
def model(small_checkpoint):
    return build_model(small_checkpoint.config["model"])


@pytest.mark.parametrize("name", NAMES)
def test_schedule(name, numbers):
    schedule = make_schedule(name)
    for buffer, ours in schedule.buffers().items():
        if f"schedule_{name}_{buffer}" in numbers:
            np.testing.assert_allclose(ours, numbers[f"schedule_{name}_{buffer}"], rtol=1e-6)
    levels = numbers[f"schedule_{name}_sqrt_alphas_cumprod_prev"]
    np.testing.assert_allclose(schedule.noise_levels, levels, rtol=1e-12, atol=1e-300)


def test_every_schedule_has_golden_numbers(numbers):
    assert {name.split("_")[1] for name in numbers if name.startswith("schedule_")} == set(NAMES)


def test_denoiser(model, small_checkpoint, numbers, draw_image, relative_error):
    x = draw_image("in.x", (2, 6, 32, 64))
    seed = [0, zlib.crc32(b"in.level")]
    level = np.random.default_rng(seed).uniform(0.1, 1, (2, 1)).astype(np.float32)[:, 0]
    noise = model.predict_noise(small_checkpoint.variables, Guide(x[..., :3]), x[..., 3:], level)
    assert relative_error(noise, numbers["unet_small"]) < 1e-5


def test_twenty_sampling_steps(model, small_checkpoint, numbers, draw_image, relative_error):
    psi = jnp.asarray(draw_image("in.cond", SHAPE))
    steps = steps_on(model.schedule, "ddpm")
    noises = jnp.stack([draw_image(f"in.noise{t}", SHAPE) for t in range(20)])

    seen = []  # x at each step, the noisiest first: what the step before has made
    predict = jax.jit(model.predict_x0)

    def denoise(x, level):
        seen.append(np.array(x))
        with jax.disable_jit(False):
            return predict(small_checkpoint.variables, Guide(psi), x, level)

    start = jnp.asarray(draw_image("in.noise20", SHAPE))
    with jax.disable_jit():  # the scan becomes a Python loop, whose steps can be looked at
        x_0 = sample(denoise, start, lambda index: noises[index], steps)
    assert len(seen) == 20
    for t in (19, 10, 1):
        assert relative_error(seen[20 - t], numbers[f"ddpm_x{t}"]) < 1e-4
    assert relative_error(model.compose(x_0, psi), numbers["ddpm_out"]) < 1e-4


def test_five_steps_of_adam(model, small_checkpoint, numbers, draw_image):
    frames = jnp.stack([draw_image(f"in.f{i}", SHAPE) for i in (1, 2, 3)], axis=1)
    plate = jnp.asarray(draw_image("in.hr", SHAPE))
    params = {name: part["params"] for name, part in small_checkpoint.variables.items()}
    batch_stats = small_checkpoint.variables["condition"]["batch_stats"]

    def loss_fn(params, batch_stats, noise, level):
        psi, updated = model.condition.apply(
            {"params": params["condition"], "batch_stats": batch_stats},
            frames,
            train=True,
            mutable=["batch_stats"],
        )
        x_0 = model.residual(plate, psi)
        x_t = diffuse(x_0, noise, level)
        # Without `train`: the network of these numbers has no dropout.
        output = model.denoiser.apply({"params": params["denoiser"]}, psi, x_t, level)
        loss = Objective("noise", "shared").per_sample_loss(output, x_0, noise, level).mean()
        return loss, updated["batch_stats"]

    optimizer = optax.adam(1e-3)

    @jax.jit
    def step(params, batch_stats, optimizer_state, noise, level):
        gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, batch_stats), gradient = gradient_fn(params, batch_stats, noise, level)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        return loss, gradient, (optax.apply_updates(params, updates), batch_stats, optimizer_state)

    state = (params, batch_stats, optimizer.init(params))
    losses, gradients = [], []
    for i, level in enumerate(numbers["train_levels"]):
        loss, gradient, state = step(*state, draw_image(f"in.trainnoise{i}", SHAPE), level)
        losses.append(loss)
        gradients.append(gradient)

    check_gradient(gradients[0]["denoiser"]["stem"], numbers["train_grad0_downs0"])
    check_gradient(gradients[0]["condition"]["encoder"]["conv_0"], numbers["train_grad0_mta_enc0"])
    # Adam divides rounding by rounding where a gradient is zero, as before a BatchNorm: computed
    # in float64, the fourth loss differs by 1.6e-4 from the published float32 number.
    np.testing.assert_allclose(losses[:3], numbers["train_losses"][:3], rtol=2e-5)
    np.testing.assert_allclose(losses, numbers["train_losses"], rtol=5e-4)
    # The published norm counts the layers that nothing uses and Adam does not move.
    unused = [a for name, a in small_checkpoint.extra.items() if name.endswith(("weight", "bias"))]
    norm = np.sqrt(float(optax.tree.norm(state[0])) ** 2 + sum((a**2).sum() for a in unused))
    np.testing.assert_allclose(norm, numbers["train_param_norm_after"][0], rtol=1e-5)


def check_gradient(layer, theirs):
    """Of a 3x3 convolution; 6e-5 is what float32 leaves of it behind the curvature's quotient."""
    ours = layer["kernel"].transpose(3, 2, 0, 1)
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-4


def test_training_levels_lie_within_their_step(numbers):
    """`train_ts` and `train_levels` fit the schedule: level t lies between those of t - 1 and t."""
    levels = make_schedule("linear", 20, 1e-6, 0.3).noise_levels
    for t, level in zip(numbers["train_ts"], numbers["train_levels"], strict=True):
        assert ((levels[t] <= level) & (level <= levels[t - 1])).all()
