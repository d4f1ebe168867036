"""ResDiff: CNN, frequency splitter, guided U-Net, training and sampling, against the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.diffusion.objective import Objective, diffuse
from lpdiff_jax.diffusion.samplers import Sampler, sample
from lpdiff_jax.diffusion.schedule import make_schedule
from lpdiff_jax.methods.resdiff import losses
from lpdiff_jax.models.baselines.blocks import enlarge_bicubic
from lpdiff_jax.models.baselines.resdiff import (
    FrequencySplitter,
    GuidedAttention,
    SqueezeExcite,
    _attend,
    _attend_in_chunks,
)
from lpdiff_jax.models.baselines.wavelet import haar, haar_bands
from lpdiff_jax.models.layers import ResidualBlock
from lpdiff_jax.models.unet import NoiseEmbedding, SelfAttention
from lpdiff_jax.pytorch.baselines import resdiff

SHAPE = (2, 3, 32, 32)
PLATE = (1, 3, 32, 64)


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("resdiff") | golden("resdiff_blocks")


@pytest.fixture(scope="module")
def loaded(state):
    return resdiff.load_denoiser(state("resdiff", "unet"), "seeded", dropout=0.0)


@pytest.fixture(scope="module")
def params(loaded):
    return loaded[1]["params"]


@pytest.fixture(scope="module")
def level(numbers_by):
    return numbers_by("in.level").uniform(0.1, 1, (2, 1)).astype(np.float32)[:, 0]


@pytest.fixture(scope="module")
def embedding(numbers_of):
    e = numbers_of("in.embedding", (1, 1, 32))[0]
    return np.concatenate([e, -e])


def as_nchw(bands):
    """Bands [3, B, h, w, C] as the golden [B, C, 3, h, w]."""
    return jnp.moveaxis(bands, (0, 4), (2, 1))


@pytest.mark.parametrize("scale", [1, 4])
def test_cnn(scale, state, image, numbers, check):
    network, variables = resdiff.load_cnn(state("resdiff", f"cnn_x{scale}"), "seeded")
    assert network.scale == scale
    x = image("in.plate", PLATE) if scale == 1 else image("in.lr", (1, 3, 8, 16))
    check(network.apply(variables, x), numbers[f"cnn_x{scale}"], 1e-4)


def test_bicubic(image, numbers, check):
    check(enlarge_bicubic(image("in.lr", (1, 3, 8, 16)), 4), numbers["bicubic_x4"])


def test_losses_of_the_cnn(
    state, image, numbers, check, check_gradient_norms, gradient_norms, compiled
):
    network, variables = resdiff.load_cnn(state("resdiff", "cnn_x4"), "seeded")
    x, target = image("in.lr", (1, 3, 8, 16)), image("in.hr", PLATE)

    def loss(params):
        out = network.apply({"params": params}, x)
        return losses.frequency_loss(out, target).mean(), out

    (total, out), gradient = compiled(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    check(losses.fourier_loss(out, target).mean(), numbers["loss_fft"], 1e-4)
    check(losses.fourier_loss(out, target).mean(), numbers["mse"], 1e-4)
    check(losses.wavelet_loss(out, target).mean(), numbers["loss_dwt"], 1e-4)
    check(total, numbers["loss_cnn"], 1e-4)
    norms = {f"cnn.{name}": v for name, v in gradient_norms(numbers, "cnn.gradnorm.").items()}
    check_gradient_norms(gradient, resdiff.CNN_NAMES, norms)


def test_wavelets(image, numbers, check):
    x = image("in.dwt", PLATE)
    for i, bands in enumerate(haar_bands(x, 4), 1):
        check(as_nchw(bands), numbers[f"dwt_hi{i}"])
    low = x
    for _ in range(4):
        low, _ = haar(low)
    check(low, numbers["dwt_low"])
    low, bands = haar(image("in.dwt_odd", (1, 1, 7, 14)))
    check(low, numbers["dwt_odd_low"])
    check(as_nchw(bands), numbers["dwt_odd_hi"])


def test_level_embedding(params, level, numbers, check):
    out = NoiseEmbedding(32, "level").apply({"params": params["embed"]}, level)
    check(out, numbers["level_embedding"][:, 0])


@pytest.mark.parametrize("name, part", [("se3", "gate_squeeze"), ("se6", "sigma_squeeze")])
def test_squeeze_excite(name, part, params, image, numbers, check):
    channels = int(name[-1])
    x = image(f"in.{name}", (4, channels, 8, 8))
    x = x + image(f"in.{name}_offset", (4, channels, 1, 1))
    out = SqueezeExcite().apply({"params": params["splitter"][part]}, x)
    check(out, numbers[f"res_{name}"])


def split(params, p, x_t, embedding):
    """The splitter's three new images, and sigma."""
    splitter = FrequencySplitter("released")
    variables = {"params": params["splitter"]}
    out, extra = splitter.apply(variables, p, x_t, embedding, mutable=["intermediates"])
    return out[..., 6:9], out[..., 9:12], out[..., 12:], extra["intermediates"]["sigma"][0]


def test_frequency_splitter(params, image, embedding, numbers, check):
    x6 = image("in.x6", (2, 6, 32, 32))
    p, x_t = x6[..., :3], x6[..., 3:]
    *images, sigma = split(params, p, x_t, embedding)
    for ours, name in zip(images, ("denoised", "low", "high"), strict=True):
        check(ours, numbers[f"fd_splitter_{name}"])
    check(sigma, numbers["fd_splitter_sigma"])
    _, _, high, sigma = split(params, p[:1], x_t[:1], embedding[:1])
    check(high, numbers["fd_splitter_high_batch1"])
    check(sigma, numbers["fd_splitter_sigma_batch1"])


def test_blocks(params, image, embedding, numbers, check):
    x = image("in.feat", (2, 32, 8, 16))
    guided = GuidedAttention(32).apply(
        {"params": params["guided_0"]}, x, image("in.query", (2, 3, 8, 16))
    )
    check(guided, numbers["hf_guided_attention"])
    block = params["down_0_0"]["residual"]
    check(ResidualBlock(32, 32).apply({"params": block}, x, embedding), numbers["res_block"])
    attention = params["mid_0"]["attention"]
    x = image("in.feat64", (2, 64, 4, 8))
    check(SelfAttention(32).apply({"params": attention}, x), numbers["self_attention"])


def test_denoiser(loaded, image, level, numbers, check, compiled):
    network, variables = loaded
    assert (network.multipliers, network.blocks, network.attention_levels) == ((1, 2, 2), 1, (1,))
    x6 = image("in.x6", (2, 6, 32, 32))
    out = compiled(network.apply)(variables, x6[..., :3], x6[..., 3:], level)
    check(out, numbers["unet"], 1e-4)


def test_denoiser_on_plates(state, image, level, numbers, check, compiled):
    network, variables = resdiff.load_denoiser(state("resdiff", "unet_rect"), "seeded", dropout=0.0)
    x6 = image("in.x6rect", (1, 6, 32, 64))
    p, x_t = x6[..., :3], x6[..., 3:]
    out = compiled(network.apply)(variables, p, x_t, level[:1])
    check(out, numbers["unet_rect"], 1e-4)
    params = variables["params"]
    embedding = NoiseEmbedding(32, "level").apply({"params": params["embed"]}, level[:1])
    denoised, _, high, _ = split(params, p, x_t, embedding)
    check(denoised, numbers["fd_splitter_rect_denoised"])
    check(high, numbers["fd_splitter_rect_high"])


def test_training_loss_and_gradients(
    loaded, image, numbers, check, check_gradient_norms, gradient_norms, compiled
):
    network, variables = loaded
    p, target = image("in.cnn", SHAPE), image("in.target", SHAPE)
    noise, level = image("in.trainnoise", SHAPE), numbers["train_levels"][:, 0]

    def loss(params):
        x_t = diffuse(target - p, noise, level)
        out = network.apply({"params": params}, p, x_t, level)
        objective = Objective("noise", "shared")
        return objective.per_sample_loss(out, target - p, noise, level).mean()

    value, gradient = compiled(jax.value_and_grad(loss))(variables["params"])
    check(value, numbers["train_loss"], 1e-4)
    norms = gradient_norms(numbers, "denoise_fn.gradnorm.")
    norms = {f"denoise_fn.{name}": norm for name, norm in norms.items()}
    check_gradient_norms(gradient, resdiff.names_of(network), norms)


def test_sampling(loaded, image, numbers, check, compiled):
    network, variables = loaded
    p = image("in.cond", (1, 3, 32, 32))
    noises = jnp.stack([image(f"in.noise{t}", (1, 3, 32, 32)) for t in range(20)])
    schedule = make_schedule("linear", 20, 1e-6, 0.3)
    seen = []
    predict = compiled(network.apply)

    def denoise(x, level):
        seen.append(np.array(x))
        with jax.disable_jit(False):
            noise = predict(variables, p, x, level)
        level = level[:, None, None, None]
        return jnp.clip((x - jnp.sqrt(1 - level**2) * noise) / level, -1, 1)

    start = image("in.noise20", (1, 3, 32, 32))
    with jax.disable_jit():
        steps = Sampler("ddpm", steps=20).steps_of(schedule)
        x_0 = sample(denoise, start, lambda i: noises[i], steps)
    check(seen[1], numbers["sample_after_t19"], 1e-4)
    check(seen[10], numbers["sample_after_t10"], 1e-4)
    check(x_0 + p, numbers["sample_out"], 1e-4)


def test_attention_in_chunks_is_attention(monkeypatch):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 24, 8))
    whole = _attend(q, k, v)
    monkeypatch.setattr("lpdiff_jax.models.baselines.resdiff._QUERY_CHUNK", 10)
    np.testing.assert_allclose(_attend_in_chunks(q, k, v), whole, rtol=1e-5)


def test_mended_splitter_knows_nothing_of_the_batch_and_adds_up(image, embedding):
    p, x_t = image("in.x6", (2, 6, 16, 32))[..., :3], image("in.cond", (2, 3, 16, 32))
    splitter = FrequencySplitter()
    both, variables = splitter.init_with_output(jax.random.key(0), p, x_t, embedding)
    alone = splitter.apply(variables, p[:1], x_t[:1], embedding[:1])
    np.testing.assert_allclose(both[:1], alone, atol=1e-5)
    low, high = both[..., 9:12], both[..., 12:]
    np.testing.assert_allclose(low + high, p, atol=1e-5)
    # The mean stays in the low frequencies; a chessboard, the finest detail, is kept most.
    flat = splitter.apply(variables, jnp.ones_like(p), x_t, embedding)
    np.testing.assert_allclose(flat[..., 12:], 0, atol=1e-6)
    board = jnp.asarray((-1.0) ** np.indices((16, 32)).sum(0))[None, :, :, None] + 0 * p
    fine = splitter.apply(variables, board, x_t, embedding)[..., 12:]
    np.testing.assert_allclose(fine, board * (1 - np.exp(-(8**2 + 16**2) / (2 * 16**2))), atol=1e-4)
