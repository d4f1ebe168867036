"""ResShift: schedules, network, training, sampling and autoencoder, against the public program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.diffusion import residual_shift
from lpdiff_jax.diffusion.residual_shift import Posterior, ShiftSchedule
from lpdiff_jax.diffusion.samplers import sample
from lpdiff_jax.models.baselines.swin_unet import (
    ScaledBlock,
    SwinBlock,
    SwinLayer,
    TimeEmbedding,
    sinusoids,
)
from lpdiff_jax.models.baselines.vq import GridAttention, Shrink
from lpdiff_jax.models.layers import ResidualBlock, conv
from lpdiff_jax.pytorch.baselines import resshift

SCHEDULES = {4: ShiftSchedule(4, start=0.2), 15: ShiftSchedule(15, start=0.04)}
SMALL = (2, 3, 4, 8)
FEATURES = (2, 32, 8, 16)
SWIN = dict(heads=2, window=4, mlp_ratio=4.0, norm_groups=32, mask="released")


@pytest.fixture(scope="module")
def diffusion(golden):
    return golden("resshift_diffusion")


@pytest.fixture(scope="module")
def blocks(golden):
    return golden("resshift_blocks")


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("resshift")


@pytest.fixture(scope="module")
def pixel(state):
    return resshift.load(with_masks(state, "unet_pixel"), "seeded")


@pytest.fixture(scope="module")
def window4(state):
    return resshift.load(with_masks(state, "unet_pixel_window4"), "seeded")


def with_masks(state, configuration):
    """The state dict and the masks that a file would have, whose shapes tell the nominal size."""
    return state("resshift", configuration, True)


# --- diffusion -------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [4, 15])
def test_schedule(steps, diffusion):
    schedule = SCHEDULES[steps]
    posterior = Posterior.of(schedule.shift, schedule.kappa)
    before = np.concatenate([[0], schedule.shift[:-1]])
    ours = {
        "sqrt_etas": schedule.sqrt_shift,
        "etas": schedule.shift,
        "etas_prev": before,
        "alpha": schedule.shift - before,
        "posterior_variance": posterior.variance,
        "posterior_variance_clipped": np.exp(posterior.log_variance),
        "posterior_log_variance_clipped": posterior.log_variance,
        "posterior_mean_coef1": posterior.of_x,
        "posterior_mean_coef2": posterior.of_x_0,
        "weight_loss_mse": schedule.loss_weight(),
        "weight_loss_mse_epsilon": schedule.loss_weight("noise"),
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values, diffusion[f"steps{steps}_{name}"], rtol=1e-10)


def test_respacing(diffusion):
    kept = SCHEDULES[15].respaced(5)
    np.testing.assert_array_equal(kept, diffusion["steps15_respaced5_timestep_map"])
    shift = SCHEDULES[15].sqrt_shift[kept]
    np.testing.assert_allclose(shift, diffusion["steps15_respaced5_sqrt_etas"], rtol=1e-10)
    table = SCHEDULES[15].steps_back(kept)
    np.testing.assert_array_equal(table.levels, kept)
    assert (table.x[0], table.x_0[0], table.noise[0]) == (0, 1, 0)


def test_the_first_version_begins_lower():
    assert ShiftSchedule(4, start=0.2).sqrt_shift[0] == pytest.approx(0.1)
    assert ShiftSchedule(4, start=0.2, capped=True).sqrt_shift[0] == pytest.approx(0.001**0.5)
    assert ShiftSchedule(15, capped=True).sqrt_shift[0] == pytest.approx(0.02)


@pytest.mark.parametrize("steps", [4, 15])
def test_forward_and_backward_steps(steps, diffusion, image, check):
    x_0, y, x_t, noise, output = (
        image(f"in.{name}", SMALL) for name in ("x0", "y", "xt", "eps", "model_output")
    )
    schedule, kappa = SCHEDULES[steps], 2.0
    numbers = {k.removeprefix(f"steps{steps}_"): v for k, v in diffusion.items()}
    t = numbers["t"]
    shift = schedule.shift[t].astype(np.float32)

    def of_sample(values):
        return np.float32(values[t])[:, None, None, None]

    check(residual_shift.shift_towards(x_0, y, noise, shift, kappa), numbers["q_sample"])
    check(x_t / of_sample(schedule.input_scale("pixel")), numbers["scale_input_pixel"])
    check(x_t / of_sample(schedule.input_scale("latent")), numbers["scale_input_latent"])
    posterior = Posterior.of(schedule.shift, kappa)
    np.testing.assert_allclose(posterior.variance[t], numbers["variance_at_t"], rtol=1e-6)
    np.testing.assert_allclose(posterior.log_variance[t], numbers["log_variance_at_t"], rtol=1e-6)
    table = schedule.steps_back()
    mean = of_sample(table.x) * x_t + of_sample(table.x_0) * x_0
    check(mean, numbers["posterior_mean"])
    start = residual_shift.shift_towards(y, y, noise, schedule.shift[-1:].astype("f4"), kappa)
    check(start, numbers["prior_sample"])
    kinds = {"xstart": "plate", "residual": "residual"}
    kinds |= {"epsilon": "noise", "epsilon_scale": "scaled_noise"}
    for theirs, prediction in kinds.items():
        plate = residual_shift.plate_of(output, prediction, x_t, y, shift, kappa)
        plate = jnp.clip(plate, -1, 1)
        x = of_sample(table.x) * x_t + of_sample(table.x_0) * plate
        check(x + of_sample(table.noise) * noise, numbers[f"p_sample_{theirs}"], 1e-4)
        if prediction == "plate":
            check(plate, numbers["p_sample_xstart_pred"])


# --- network ---------------------------------------------------------------------------------


def test_time_embedding(pixel, numbers, check):
    time = jnp.array([0, 11])
    check(sinusoids(time, 32), numbers["timestep_embedding"])
    embedded = TimeEmbedding(32).apply({"params": pixel[1]["params"]["embed"]}, time)
    check(embedded, numbers["time_embed"])


def test_residual_blocks(pixel, image, numbers, blocks, check):
    params, x = pixel[1]["params"], image("in.feat", FEATURES)
    embedding = numbers["time_embed"]
    out = ScaledBlock(32, 32).apply({"params": params["down_0_0"]}, x, embedding)
    check(out, blocks["res_block"])
    out = ScaledBlock(64, 32).apply({"params": params["down_1_0"]}, x, embedding)
    check(out, blocks["res_block_channels"])
    check(conv(32, stride=2).apply({"params": params["shrink_0"]}, x), blocks["downsample"])


def test_swin_layer(window4, image, blocks, check):
    layer, x = window4[1]["params"]["down_0_swin"], image("in.feat", FEATURES)
    for i, name in enumerate(("swin_unshifted", "swin_shifted")):
        block = SwinBlock(**SWIN, shift=i == 1)
        check(block.apply({"params": layer[f"block_{i}"]}, x), blocks[name])
    whole = SwinLayer(features=32, depth=2, shifts=True, **SWIN)
    check(whole.apply({"params": layer}, x), blocks["swin_layer"])
    mended = SwinLayer(features=32, depth=2, shifts=True, **(SWIN | {"mask": "regions"}))
    assert (
        jnp.abs(mended.apply({"params": layer}, x) - whole.apply({"params": layer}, x)).max() > 0.01
    )


def test_network_on_pixels(pixel, image, numbers, check, compiled):
    network, variables = pixel
    assert (network.window, network.nominal_size) == (8, 32)
    plate = (1, 3, 32, 64)
    time = jnp.array([7])
    out = compiled(network.apply)(variables, image("in.lq", plate), image("in.x", plate), time)
    check(out, numbers["unet_pixel"], 1e-4)


def test_network_on_latents(state, image, numbers, blocks, check, compiled):
    network, variables = resshift.load(with_masks(state, "unet_latent"), "seeded")
    assert (network.window, network.nominal_size, network.condition_halvings) == (4, 32, 2)

    def run(variables, condition, z, time):
        return network.apply(
            variables, condition, z, time,
            capture_intermediates=lambda m, _: m.name == "condition_shrink_1",
        )  # fmt: skip

    condition, z = image("in.lq_full", (1, 3, 64, 128)), image("in.z", (1, 3, 16, 32))
    out, seen = compiled(run)(variables, condition, z, jnp.array([2]))
    check(out, numbers["unet_latent"], 1e-4)
    features = seen["intermediates"]["condition_shrink_1"]["__call__"][0]
    check(features[..., :8], blocks["unet_latent_features"])


def test_training_loss_and_gradients(
    window4, image, numbers, check, check_gradient_norms, gradient_norms, compiled
):
    network, variables = window4
    shape, schedule = (2, 3, 16, 32), SCHEDULES[15]
    target, y, noise = (image(f"in.{name}", shape) for name in ("gt", "lq2", "trainnoise"))
    time = np.array([3, 14])
    shift = schedule.shift[time].astype(np.float32)
    scale = schedule.input_scale()[time].astype(np.float32)[:, None, None, None]
    x_t = residual_shift.shift_towards(target, y, noise, shift, schedule.kappa) / scale

    def loss(params):
        out = network.apply({"params": params}, y, x_t, time)
        errors = jnp.square(out - target).mean((1, 2, 3))
        return errors.mean(), (errors, out)

    gradient_of = compiled(jax.value_and_grad(loss, has_aux=True))
    (value, (errors, out)), gradient = gradient_of(variables["params"])
    check(out, numbers["train_pred"], 1e-4)
    check(errors, numbers["train_mse"], 1e-4)
    check(value, numbers["train_loss"], 1e-4)
    check_gradient_norms(gradient, resshift.names_of(network), gradient_norms(numbers))


@pytest.fixture(scope="module")
def predict(window4, compiled):
    return compiled(window4[0].apply)


@pytest.mark.parametrize("steps", [4, 15])
def test_sampling(steps, window4, image, numbers, check, predict):
    _, variables = window4
    shape, schedule = (1, 3, 16, 32), SCHEDULES[steps]
    y, noise = image("in.cond", shape), image("in.noise_T", shape)
    noises = jnp.stack([image(f"in.noise{t}", shape) for t in range(steps)])
    scale = jnp.asarray(schedule.input_scale(), jnp.float32)
    seen = []

    def denoise(x, time):
        seen.append(np.array(x))
        with jax.disable_jit(False):
            return jnp.clip(predict(variables, y, x / scale[time.astype(int)], time), -1, 1)

    start = residual_shift.shift_towards(
        y, y, noise, schedule.shift[-1:].astype("f4"), schedule.kappa
    )
    with jax.disable_jit():
        out = sample(denoise, start, lambda i: noises[i], schedule.steps_back())
    check(seen[1], numbers[f"sample{steps}_first"], 1e-4)
    check(jnp.clip(out, -1, 1), numbers[f"sample{steps}_out"], 1e-4)


# --- autoencoder -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def autoencoder(state):
    return resshift.load_autoencoder(state("resshift", "autoencoder"), "seeded")


@pytest.fixture(scope="module")
def codes(golden):
    return golden("resshift_autoencoder")


def test_autoencoder(autoencoder, image, codes, check, compiled):
    network, variables = autoencoder

    def run(variables, x):
        bound = network.bind(variables)
        z = bound.encode(x)
        quantized = bound.quantize(z)
        return z, quantized, bound.decode(z), bound.decode(z, quantize=False)

    z, quantized, decoded, unquantized = compiled(run)(variables, image("in.img", (1, 3, 32, 64)))
    check(z, codes["vq_encode"], 1e-4)
    np.testing.assert_array_equal(quantized.indices.ravel(), codes["vq_indices"])
    check(quantized.latents, codes["vq_quantized"])
    check(quantized.loss.mean(), codes["vq_loss"], 1e-4)
    check(decoded, codes["vq_decode"], 1e-4)
    check(unquantized, codes["vq_decode_unquantized"], 1e-4)


def test_blocks_of_the_autoencoder(autoencoder, image, codes, check):
    params = autoencoder[1]["params"]["encoder"]
    x = image("in.vqfeat", (1, 64, 8, 16))
    out = GridAttention(32).apply({"params": params["mid_attention"]}, x)
    check(out, codes["vq_attention"])
    block = ResidualBlock(64, 32, epsilon=1e-6)
    check(block.apply({"params": params["mid_0"]}, x), codes["vq_res_block"])
    check(Shrink().apply({"params": params["shrink_1"]}, x), codes["vq_downsample"])
